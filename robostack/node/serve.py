"""Serving one robot until told to end: sockets, threads and the control loop.

serve(robot, "hardware:fake", "tcp://127.0.0.1:5555")
serve_address("sim:pendulum", "ipc:///tmp/pendulum", lockstep=True)
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from robostack import plugins
from robostack.clock import Clock, MonotonicClock
from robostack.link import endpoints
from robostack.link.keys import NodeKeys, load_node
from robostack.link.node_end import NodeEnd, open_node_end
from robostack.node.guardian import guarded, ward_of
from robostack.node.journal import Journal
from robostack.node.loops import Node, lockstep, real_time
from robostack.node.pilot import Pilot, as_world
from robostack.node.service import Face, Service
from robostack.node.supervisor import Supervisor
from robostack.node.threads import watching
from robostack.robot import Robot, Variant
from robostack.safety import Limits, derive


class ServeError(RuntimeError):
    """A node that cannot serve what it was asked to."""


class Options(msgspec.Struct, frozen=True):
    """How to serve a robot; the defaults are for a robot on this computer."""

    lockstep: bool = False  # worlds only: advance when a command arrives
    keys: NodeKeys | None = None  # who may connect; required beyond this computer
    limits: Limits | None = None  # None: what follows from the robot's spec
    lease_s: float = 10.0  # silence after which another client may have the lease


def serve(
    robot: Robot,
    address: str,
    bind: str,
    options: Options | None = None,
    *,
    stop_event: threading.Event | None = None,
    on_ready: Callable[[Node], None] | None = None,
) -> None:
    """Serve `robot` at `bind` until SIGTERM, SIGINT or `stop_event`.

    Blocks, and is the control thread. The robot is stopped and released on the way
    out, whatever happens; an open episode is closed for its watchers.

    Raises:
        LinkError: cannot listen at `bind`.
        ServeError: lockstep was asked of a robot whose time cannot wait.
    """
    options = options or Options()
    if options.lockstep and as_world(robot) is None:
        raise ServeError(
            f"expected a world for lockstep, got {address}: hardware runs in real time"
        )
    ending = stop_event or threading.Event()
    with (
        _signals(ending),
        open_node_end(bind, lockstep=options.lockstep, keys=options.keys) as end,
    ):
        clock = _clock(robot, lockstep=options.lockstep)
        node = _assemble(robot, address, options, end, clock)
        with guarded(ward_of(address, robot), node.supervisor.unguarded):
            _conduct(node, end, clock, ending, options, on_ready)


def serve_address(
    address: str,
    bind: str = endpoints.DEFAULT,
    *,
    lockstep: bool = False,
    keys: Path | None = None,
    variant: Variant | None = None,
    on_ready: Callable[[Node], None] | None = None,
) -> None:
    """Serve `sim:WORLD[/ARGUMENT]` or `hardware:ROBOT[/ARGUMENT]`; see `serve`.

    Args:
        address: what to serve.
        bind: where to listen.
        lockstep: worlds only.
        keys: folder of CURVE keys, see robostack.link.keys.
        variant: worlds only: how the world differs from its nominal self.
        on_ready: called when clients can connect.
    """
    node_keys = load_node(keys) if keys is not None else None
    options = Options(lockstep=lockstep, keys=node_keys)
    if lockstep and not address.startswith("sim:"):
        raise ServeError(
            f"expected sim:WORLD for lockstep, got {address}: hardware runs in real "
            f"time"
        )
    serve(make(address, variant), address, bind, options, on_ready=on_ready)


def make(address: str, variant: Variant | None = None) -> Robot:
    """Return the robot or world at `address`, not yet connected."""
    kind, name, argument = plugins.parse(address)
    module = plugins.load(kind, name)
    if kind == "sim":
        return module.make(argument, variant or Variant())  # type: ignore[no-any-return]
    if variant is not None:
        raise ServeError(f"expected sim:WORLD for a variant, got {address}")
    return module.make(argument)  # type: ignore[no-any-return]


def _clock(robot: Robot, *, lockstep: bool) -> Clock:
    world = as_world(robot)
    return world if lockstep and world is not None else MonotonicClock()


def _assemble(
    robot: Robot, address: str, options: Options, end: NodeEnd, clock: Clock
) -> Node:
    limits = options.limits or derive(robot.spec)
    journal = Journal(end.watch, clock)
    supervisor = Supervisor(robot, clock, limits, journal)
    pilot = Pilot(robot, clock, limits, supervisor, journal, lockstep=options.lockstep)
    face = Face(address, robot.spec, limits, options.lockstep, options.lease_s)
    service = Service(face, end.control, pilot, supervisor, journal, clock)
    return Node(supervisor, pilot, service, journal)


def _conduct(
    node: Node,
    end: NodeEnd,
    clock: Clock,
    ending: threading.Event,
    options: Options,
    on_ready: Callable[[Node], None] | None,
) -> None:
    """Connect, run, and leave the robot stopped and released, whatever happens."""
    cause = "the node was shut down"
    try:
        node.supervisor.connect()
        with watching(node.supervisor, node.journal, end.stop):
            if on_ready is not None:
                on_ready(node)
            _run(node, end, clock, ending, options)
            with _interruptible():
                node.supervisor.park(cause, node.service.notify)
    finally:
        node.supervisor.leave("disabled", cause)
        node.pilot.close()
        node.supervisor.close(cause)
        node.service.notify()


def _run(
    node: Node,
    end: NodeEnd,
    clock: Clock,
    ending: threading.Event,
    options: Options,
) -> None:
    def running() -> bool:
        return not ending.is_set()

    if options.lockstep:
        lockstep(node, end.control, running)
    else:
        period_s = node.pilot.period_s
        real_time(node, end.control, running, clock, period_s)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let another Ctrl-C cut this short, where this is the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        return
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _signals(ending: threading.Event) -> Iterator[None]:
    """Let SIGTERM and SIGINT set `ending`, where this is the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {n: signal.signal(n, lambda *_: ending.set()) for n in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
