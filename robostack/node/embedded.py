"""A node for tests, demos and environments, started and ended with a `with` block.

with embedded("sim:pendulum", lockstep=True) as node:       # a thread of this process
    Client(node.endpoint)
with subprocess_node("sim:pendulum", lockstep=True) as node:  # a process of its own
    Client(node.endpoint)
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from robostack.link.client import Client
from robostack.link.errors import LinkError
from robostack.node.device import ServeError, make
from robostack.node.loops import Node
from robostack.node.serve import Options, serve
from robostack.robot import Robot, Variant

_START_S = 60.0  # imports, and compiling a world
_END_S = 10.0


class Embedded(NamedTuple):
    """A node in this process."""

    endpoint: str
    node: Node


class Process(NamedTuple):
    """A node in a process of its own."""

    endpoint: str
    process: subprocess.Popen[bytes]


@contextlib.contextmanager
def embedded(
    robot: str | Robot,
    *,
    bind: str = "",
    options: Options | None = None,
    lockstep: bool = False,
    variant: Variant | None = None,
) -> Iterator[Embedded]:
    """Serve `robot`, an address or a driver, from a thread, as long as this lasts.

    Raises:
        LinkError, ServeError, PluginError: see `serve`.
    """
    with contextlib.ExitStack() as stack:
        endpoint = bind or stack.enter_context(_private_endpoint())
        driver = make(robot, variant) if isinstance(robot, str) else robot
        address = robot if isinstance(robot, str) else f"test:{driver.spec.name}"
        thread = _Thread(driver, address, endpoint, options or Options(lockstep))
        stack.callback(thread.end)
        yield Embedded(endpoint, thread.ready())


@contextlib.contextmanager
def subprocess_node(
    address: str, *, bind: str = "", lockstep: bool = False
) -> Iterator[Process]:
    """Serve `address` from a process of its own, as long as this lasts."""
    with contextlib.ExitStack() as stack:
        endpoint = bind or stack.enter_context(_private_endpoint())
        code = (
            "import sys; from robostack.node.serve import Options, serve_address; "
            "options = Options(lockstep=sys.argv[3] == 'True'); "
            "serve_address(sys.argv[1], sys.argv[2], options)"
        )
        command = [sys.executable, "-c", code, address, endpoint, str(lockstep)]
        # Ctrl-C at the terminal is for whoever started us: they end the node last.
        process = subprocess.Popen(command, process_group=0)
        stack.callback(_end, process)
        _await(process, endpoint)
        yield Process(endpoint, process)


class _Thread:
    """Runs `serve`, and brings its errors back."""

    def __init__(
        self, robot: Robot, address: str, endpoint: str, options: Options
    ) -> None:
        self._ending = threading.Event()
        self._started = threading.Event()
        self._node: Node | None = None
        self._error: BaseException | None = None
        self._what = robot, address, endpoint, options
        self._thread = threading.Thread(target=self._run, name="node", daemon=True)
        self._thread.start()

    def ready(self) -> Node:
        """Return the node once clients can connect; raise why it cannot serve."""
        self._started.wait(_START_S)
        if self._error is not None:
            raise self._error
        if self._node is None:
            raise ServeError(f"expected a node within {_START_S:g} s, got none")
        return self._node

    def end(self) -> None:
        """Stop the robot and the thread."""
        self._ending.set()
        self._thread.join(_END_S)

    def _run(self) -> None:
        robot, address, endpoint, options = self._what
        try:
            serve(
                robot,
                address,
                endpoint,
                options,
                stop_event=self._ending,
                on_ready=self._on_ready,
            )
        except BaseException as error:  # raised again in `ready`, for whoever waits
            self._error = error
            self._started.set()

    def _on_ready(self, node: Node) -> None:
        self._node = node
        self._started.set()


@contextlib.contextmanager
def _private_endpoint() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="robostack-") as folder:
        yield f"ipc://{Path(folder) / 'node'}"


def _await(process: subprocess.Popen[bytes], endpoint: str) -> None:
    """Return when a node answers at `endpoint`."""
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ServeError(
                f"expected a node at {endpoint}, but it ended with exit code "
                f"{process.returncode}"
            )
        if _answers(endpoint):
            return
    raise ServeError(f"expected a node at {endpoint} within {_START_S:g} s, got none")


def _answers(endpoint: str) -> bool:
    with Client(endpoint, name="starter", timeout_s=0.5) as client:
        try:
            client.hello()
        except LinkError:
            return False
        return True


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
