"""An exception at any line between connect and the end: torque is never left on."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from pathlib import Path

import pytest

from robostack.hardware.fake import driver
from robostack.node import pilot, serve, supervisor
from robostack.node import threads as threads_module
from robostack.robot import Robot

pytestmark = pytest.mark.alone

FILES = {module.__file__ for module in (driver, serve, supervisor, pilot)} | {__file__}


class TorqueFake:
    """A fake bus whose torque is on from `reset` to `close`."""

    spec = driver.SPEC

    def __init__(self) -> None:
        self._fake = driver.FakeRobot()
        self.torque = False
        self.open = False
        self.endings = 0  # times the end policy was carried out to its end

    def connect(self):
        self.open = True
        self._fake.connect()

    def reset(self):
        self._fake.reset()
        self.torque = True

    def read(self):
        return self._fake.read()

    def frames(self):
        return {}

    def apply(self, action):
        return self._fake.apply(action)

    def stop(self):
        self._fake.stop()

    def close(self):
        try:
            self.stop()
        finally:  # a driver sees to it that one failure does not leave torque on
            try:
                self.torque = False
            finally:
                self.endings += 1
                self.open = False


class InjectedError(Exception):
    pass


class Tracer:
    """Notes the lines that run, and raises once at one of them."""

    def __init__(self, target=None) -> None:
        self.lines: list[tuple[str, int]] = []
        self._target = target
        self.connected = False
        self.raised = False

    def __call__(self, frame, event, _):
        code = frame.f_code
        if code.co_filename not in FILES:
            return None
        line = code.co_filename, frame.f_lineno
        self.connected |= code.co_name == "connect"
        if event == "line" and self.connected and "test" not in code.co_name:
            if line not in self.lines:
                self.lines.append(line)
            if line == self._target and not self.raised:
                self.raised = True
                raise InjectedError
        return self


def live(robot: Robot, endpoint: str, tracer: Tracer) -> None:
    """Serve `robot` for the time of one episode of no step."""
    ending = threading.Event()

    def ready(node: serve.Node) -> None:
        node.supervisor.reset()
        node.supervisor.activate()
        ending.set()

    options = serve.Options()
    sys.settrace(tracer)
    try:
        serve.serve(
            robot, "test:fake", endpoint, options, stop_event=ending, on_ready=ready
        )
    finally:
        sys.settrace(None)


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    tracer, robot = Tracer(), TorqueFake()
    live(robot, f"ipc://{tmp_path_factory.mktemp('dry')}/node", tracer)
    assert robot.endings >= 1
    assert not robot.torque
    return tracer.lines


@pytest.fixture(autouse=True)
def untraced(monkeypatch):
    monkeypatch.setattr(threads_module, "_LOOK_S", 0.005)
    before = sys.gettrace()
    handlers = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)}
    yield
    sys.settrace(before)
    for number, handler in handlers.items():  # an injected error may leave ours there
        signal.signal(number, handler)


@pytest.mark.slow
def test_an_exception_at_any_line_leaves_no_torque_on(lines, tmp_path):
    left = []
    for i, line in enumerate(lines):
        tracer, robot = Tracer(line), TorqueFake()
        with contextlib.suppress(InjectedError):
            live(robot, f"ipc://{tmp_path}/{i}", tracer)
        assert tracer.raised
        if robot.torque or robot.open or robot.endings == 0:
            name, number = line
            text = Path(name).read_text().splitlines()[number - 1].strip()
            left.append(f"{Path(name).name}:{number}: {text} ({robot.endings} endings)")
    assert not left, "\n".join(left)
    assert len({name for name, _ in lines}) == len(FILES)
    assert len(lines) > 80
