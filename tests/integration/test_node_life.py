"""A node in trouble: hogged, suspended, its wall clock moved, its watchers stuck."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time

import msgspec
import numpy as np
import pytest
import zmq

from robostack.hardware.fake.driver import FakeRobot
from robostack.link.client import Client
from robostack.link.errors import LeftError, RefusedError
from robostack.messages import Closed, Event, Step, decode_watch
from robostack.node.embedded import embedded, subprocess_node
from robostack.node.picture import Snapshot

pytestmark = pytest.mark.alone

SLACK_S = 0.15  # of a busy computer
CLI = [sys.executable, "-m", "robostack.cli"]
STILL = np.zeros(2, np.float32)


class Watcher:
    """Reads the watch channel as it comes."""

    def __init__(self, endpoint):
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.RCVHWM, 0)
        self._socket.subscribe(b"")
        self._socket.connect(f"{endpoint}.watch")
        self.messages = []

    def until(self, kind, seconds=20.0, text=""):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self._socket.poll(50):
                message = decode_watch(self._socket.recv())
                self.messages.append(message)
                if isinstance(message, kind) and text in getattr(message, "text", ""):
                    return message
        raise AssertionError(f"no {kind.__name__} {text} within {seconds} s")

    def close(self):
        self._context.destroy(linger=0)


@contextlib.contextmanager
def watching(endpoint):
    watcher = Watcher(endpoint)
    try:
        watcher.until(Event)
        yield watcher
    finally:
        watcher.close()


class PatientFake(FakeRobot):
    """Waits longer for commands, for tests on a busy computer."""

    spec = msgspec.structs.replace(FakeRobot.spec, command_timeout_s=1.0)


class HoggedFake(FakeRobot):
    """Its next reading takes `hog_s` of the processor."""

    hog_s = 0.0

    def read(self):
        until = time.monotonic() + self.hog_s
        while time.monotonic() < until:
            sum(range(1000))
        return super().read()


def drive(client, seconds=20.0):
    """Hold still until the node leaves ACTIVE; return why."""
    deadline = time.monotonic() + seconds
    try:
        while time.monotonic() < deadline:
            client.step(STILL)
    except LeftError as error:
        return str(error)
    raise AssertionError(f"still ACTIVE after {seconds} s")


def test_a_control_thread_that_is_hogged_is_held_by_the_guard_in_time():
    robot = HoggedFake()
    with (
        embedded(robot) as node,
        watching(node.endpoint) as watcher,
        Client(node.endpoint, timeout_s=5.0) as client,
    ):
        client.hello()
        client.begin()
        for _ in range(3):
            client.step(STILL)
        robot.hog_s = 0.8
        assert "no fresh command for 0.1 s" in drive(client)
        closed = watcher.until(Closed)
    commanded = [m for m in watcher.messages if isinstance(m, Step) and m.requested]
    last_s = commanded[-1].stamp_s + commanded[-1].age_s
    assert closed.stamp_s - last_s <= 0.1 + 0.02 + SLACK_S + 0.02  # not 0.8 s


def test_a_control_thread_that_is_always_late_is_hold_with_the_cause():
    class LateFake(HoggedFake):
        spec = msgspec.structs.replace(FakeRobot.spec, command_timeout_s=0.4)

    robot = LateFake()
    with embedded(robot) as node, Client(node.endpoint, timeout_s=5.0) as client:
        client.hello()
        client.begin()
        robot.hog_s = 0.03  # of 0.02 s: commands still come in time
        assert "control periods were missed in a row" in drive(client)
        assert node.node.journal.counts.overruns >= 2
        robot.hog_s = 0.0
        client.begin()
        assert client.step(STILL).seq >= 1


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0])
def test_a_jump_of_the_wall_clock_changes_nothing(monkeypatch, jump_s):
    with embedded(PatientFake()) as node, Client(node.endpoint) as client:
        client.hello()
        client.begin()
        client.step(STILL)
        now, now_ns, shift_ns = time.time, time.time_ns, int(jump_s * 1e9)
        monkeypatch.setattr(time, "time", lambda: now() + jump_s)
        monkeypatch.setattr(time, "time_ns", lambda: now_ns() + shift_ns)
        for _ in range(20):
            client.step(STILL)
        assert client.end().refused == {}
        client.begin()
        assert client.step(STILL).seq >= 1


def test_a_node_that_was_suspended_holds_and_drops_what_came_before(tmp_path):
    bind = f"ipc://{tmp_path}/node"
    with (
        subprocess_node("hardware:fake", bind=bind) as node,
        watching(bind) as watcher,
        Client(bind, timeout_s=5.0) as client,
    ):
        client.hello()
        client.begin()
        client.step(STILL)
        command = client.command(np.float32([0.05, 0.05]))
        node.process.send_signal(signal.SIGSTOP)
        client.send(command)
        time.sleep(0.3)
        node.process.send_signal(signal.SIGCONT)
        closed = watcher.until(Closed)
        assert closed.reason == "no fresh command for 0.1 s" or (
            "control periods were missed in a row" in closed.reason  # who looks first
        )
        late = [
            m
            for m in watcher.messages
            if isinstance(m, Step) and m.requested and m.requested.unpack().any()
        ]
        assert late == []
        watcher.until(Event, text="safe: ")


def test_commands_reconnects_hellos_and_begins_do_not_clear_a_fault():
    with embedded("hardware:fake") as node:
        node.node.supervisor.leave("fault", "test")
        for i in range(20):
            with Client(node.endpoint, timeout_s=5.0, name=f"client {i}") as client:
                assert client.hello().state == "fault"
                for _ in range(50):
                    with pytest.raises(RefusedError, match="in fault: test"):
                        client.begin()
        assert node.node.supervisor.machine.state == "fault"


def test_a_sensor_that_dies_in_hold_is_a_fault_before_anything_moves():
    robot = FakeRobot()
    with embedded(robot) as node, watching(node.endpoint) as watcher:
        watcher.until(Event, text='"joint_position"')

        def dead():
            raise OSError("no answer from servo 3")

        robot.read = dead
        watcher.until(Event, text="fault: OSError: no answer from servo 3")


def test_reading_in_hold_does_not_slow_the_handshake():
    class SlowFake(FakeRobot):
        reads = 0

        def read(self):
            self.reads += 1
            time.sleep(0.012)  # of 0.02 s
            return super().read()

    robot = SlowFake()
    with embedded(robot) as node:
        while robot.reads < 3:
            time.sleep(0.01)
        with Client(node.endpoint, timeout_s=2.0) as client:
            client.hello()
            assert client.begin().seq == 0


STUCK = """
import sys, zmq
from robostack.node.listener import Listener
from robostack.node.picture import Picture
context = zmq.Context()
listener, picture = Listener(context, sys.argv[1], None), Picture()
said = False
while True:
    message = listener.receive(0.1)
    if message is None:
        continue
    picture.take(message)
    if not said:
        print("watching", flush=True)
        said = True
    if type(message).__name__ == "Closed":
        print(picture.snapshot().missed, flush=True)
        break
listener.close()
context.destroy(linger=0)
"""


@contextlib.contextmanager
def stuck(endpoint):
    command = [sys.executable, "-c", STUCK, endpoint]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "watching\n"
            yield process
        finally:
            process.kill()


def test_a_watcher_that_is_stuck_changes_nothing_and_counts_what_it_missed():
    with (
        embedded(PatientFake()) as node,
        stuck(node.endpoint) as process,
        watching(node.endpoint) as watcher,
        Client(node.endpoint, timeout_s=5.0) as client,
    ):
        client.hello()
        client.begin()
        client.step(STILL)
        watcher.until(Step)
        process.send_signal(signal.SIGSTOP)
        for _ in range(60):  # far more than any queue takes
            for _ in range(100):
                node.node.journal.event("noise", "x" * 200)
            client.step(STILL)
            while watcher._socket.poll(0):
                watcher.messages.append(decode_watch(watcher._socket.recv()))
        process.send_signal(signal.SIGCONT)
        for _ in range(30):  # it catches up
            client.step(STILL)
        ended = client.end()
        watcher.until(Closed)
        while not says(process):  # its queue may have been full at the end
            client.begin()
            client.step(STILL)
            client.end()
        missed = int(process.stdout.readline())
    steps = [m.seq for m in watcher.messages if isinstance(m, Step)]
    assert steps == list(range(ended.steps + 1))  # who reads misses none
    assert missed > 10  # it knows what it did not get


def says(process):
    return bool(select.select([process.stdout], [], [], 0.1)[0])


@pytest.fixture
def terminal():
    ours, theirs = os.openpty()
    yield ours, theirs
    os.close(ours)
    os.close(theirs)


@contextlib.contextmanager
def served(bind, stdin, folder):
    words = ["serve", "hardware:fake", "--bind", bind, "--black-box", str(folder)]
    with subprocess.Popen(
        [*CLI, *words],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"COLUMNS": "200"},
    ) as process:
        try:
            assert "serving hardware:fake" in process.stdout.readline()
            yield process
        finally:
            process.kill()


def test_a_node_obeys_the_keys_of_its_own_terminal(terminal, tmp_path):
    ours, theirs = terminal
    bind = f"ipc://{tmp_path}/node"
    with (
        served(bind, theirs, tmp_path / "box") as process,
        watching(bind) as watcher,
        Client(bind, timeout_s=5.0) as client,
    ):
        assert "SPACE or s stop" in process.stdout.readline()
        client.hello()
        client.begin()
        client.step(STILL)
        os.write(ours, b" ")
        watcher.until(Event, text="estop: stopped by")
        with pytest.raises(RefusedError, match="at the node's terminal"):
            client.begin()
        os.write(ours, b"cn")
        with pytest.raises(RefusedError, match="estop"):
            client.begin()
        os.write(ours, b"cy")
        watcher.until(Event, text="hold: cleared: acknowledged by")
        client.begin()
        client.end()
        os.write(ours, b"q")
        output = process.stdout.read()
        assert process.wait(20) == 0
    assert "press y if you understand why" in output
    assert "not cleared" in output
    assert "black box written to" in output
    assert len(list((tmp_path / "box").glob("*.mcap"))) == 1


def test_keys_in_a_pipe_are_not_obeyed(tmp_path):
    bind = f"ipc://{tmp_path}/node"
    with (
        served(bind, subprocess.PIPE, tmp_path) as process,
        Client(bind, timeout_s=5.0) as client,
    ):
        process.stdin.write("sq" * 10)
        process.stdin.flush()
        for _ in range(5):
            assert client.hello().state == "hold"
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        process.stdin.close()


def test_a_signal_has_the_black_box_written_and_nothing_else_happens(tmp_path):
    bind = f"ipc://{tmp_path}/node"
    with (
        served(bind, subprocess.DEVNULL, tmp_path / "box") as process,
        watching(bind) as watcher,
        Client(bind, timeout_s=5.0) as client,
    ):
        process.send_signal(signal.SIGUSR1)
        watcher.until(Event, text="black box written to")
        assert len(list((tmp_path / "box").glob("*.mcap"))) == 1
        assert client.hello().state == "hold"


def test_watch_tells_programs_what_it_sees(tmp_path):
    with embedded("hardware:fake") as node:
        words = ["watch", node.endpoint, "--once", "--json", "--seconds", "0.6"]
        run = subprocess.run([*CLI, *words], capture_output=True, check=True)
    found = msgspec.json.decode(run.stdout, type=Snapshot)
    assert (found.state, found.cause) == ("hold", "connected")
    assert found.arrays["joint_position"] == [0.0, 0.0]


def test_a_key_stops_the_robot_that_is_watched(terminal):
    ours, theirs = terminal
    with embedded("hardware:fake") as node:
        environment = os.environ | {"TERM": "xterm", "COLUMNS": "100", "LINES": "40"}
        with subprocess.Popen(
            [*CLI, "watch", node.endpoint],
            stdin=theirs,
            stdout=theirs,
            stderr=subprocess.STDOUT,
            env=environment,
        ) as process:
            shown = read_until(ours, "HOLD")
            os.write(ours, b"s")
            shown += read_until(ours, "ESTOP")
            os.write(ours, b"q")
            assert process.wait(10) == 0
        assert "connected" in shown
        assert node.node.supervisor.machine.cause == "stopped by 'robostack watch'"


def read_until(descriptor, word, seconds=20.0):
    text, deadline = "", time.monotonic() + seconds
    while word not in text and time.monotonic() < deadline:
        if select.select([descriptor], [], [], 0.1)[0]:
            text += os.read(descriptor, 4096).decode(errors="replace")
    assert word in text
    return text


def test_watch_says_that_nobody_is_there(tmp_path):
    words = ["watch", f"ipc://{tmp_path}/nobody", "--once", "--seconds", "0.1"]
    run = subprocess.run([*CLI, *words], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "nothing was heard of a node" in run.stderr
