"""Serving one robot until told to end: sockets, threads and the control loop.

serve(robot, "hardware:fake", "tcp://127.0.0.1:5555")
serve_address("sim:pendulum", "ipc:///tmp/pendulum", lockstep=True)
"""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import msgspec

from robostack.clock import Clock, MonotonicClock
from robostack.limits import Limits
from robostack.link import endpoints
from robostack.link.keys import NodeKeys
from robostack.link.node_end import NodeEnd, open_node_end
from robostack.node.black_box import About, BlackBox
from robostack.node.device import ServeError, limits_of, make
from robostack.node.freshness import SensorLimits
from robostack.node.guardian import guarded, ward_of
from robostack.node.journal import Journal
from robostack.node.loops import Node, lockstep, real_time
from robostack.node.pilot import Pilot, as_world
from robostack.node.service import Face, Service
from robostack.node.supervisor import Supervisor
from robostack.node.threads import watching
from robostack.robot import Robot, Variant
from robostack.signing import Trust
from robostack.spec import RobotSpec

_BACKLOG_BYTES = 128 * 1024 * 1024  # of memory for each watcher that is stuck
_FEWEST, _MOST = 64, 1000  # messages
_SHUT_DOWN = "the node was shut down"

log = logging.getLogger(__name__)


class Options(msgspec.Struct, frozen=True):
    """How to serve a robot; the defaults are for a robot on this computer."""

    lockstep: bool = False  # worlds only: advance when a command arrives
    keys: NodeKeys | None = None  # who may connect; required beyond this computer
    limits: Limits | None = None  # None: the plug-in's, or what follows from the spec
    lease_s: float = 10.0  # silence after which another client may have the lease
    trust: Trust | None = None  # whose bundles may be run; None: any, and without one
    sensors: SensorLimits = SensorLimits()  # how old and how alike readings may be
    black_box: Path | None = None  # folder for the last minute before a fault
    say: Callable[[str], None] = log.warning  # hears where a black box was written


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
    clock = _clock(robot, lockstep=options.lockstep)
    with (
        _signals(ending),
        open_node_end(
            bind,
            lockstep=options.lockstep,
            keys=options.keys,
            backlog=backlog(robot.spec),
        ) as end,
        _black_box(robot, address, options, clock) as box,
    ):
        node = _assemble(robot, address, options, end, clock, box)
        with (
            guarded(ward_of(address, robot), node.supervisor.unguarded),
            contextlib.closing(robot),  # again, if what failed kept it from that
            _ended(node),
        ):
            node.supervisor.connect()
            with watching(node.supervisor, node.journal, end.stop):
                if on_ready is not None:
                    on_ready(node)
                _run(node, end, clock, ending, options)
                with _interruptible():
                    node.supervisor.park(_SHUT_DOWN, node.service.notify)


def serve_address(
    address: str,
    bind: str = endpoints.DEFAULT,
    options: Options | None = None,
    *,
    variant: Variant | None = None,
) -> None:
    """Serve `sim:WORLD[/ARGUMENT]` or `hardware:ROBOT[/ARGUMENT]`; see `serve`."""
    serve(make(address, variant), address, bind, options)


def backlog(spec: RobotSpec) -> int:
    """Return how many messages may wait for a stuck watcher, given the frames' size."""
    pixels = [camera.height * camera.width for camera in spec.cameras.values()]
    largest = max([3 * n for n in pixels], default=1)
    return max(_FEWEST, min(_MOST, _BACKLOG_BYTES // largest))


def _clock(robot: Robot, *, lockstep: bool) -> Clock:
    world = as_world(robot)
    return world if lockstep and world is not None else MonotonicClock()


def _assemble(
    robot: Robot,
    address: str,
    options: Options,
    end: NodeEnd,
    clock: Clock,
    box: BlackBox | None,
) -> Node:
    limits = options.limits or limits_of(robot, address)
    journal = Journal(end.watch, clock, box)
    if box is not None:
        box.say = partial(_say, journal, options)
    supervisor = Supervisor(robot, clock, limits, journal)
    pilot = Pilot(
        robot,
        clock,
        limits,
        supervisor,
        journal,
        lockstep=options.lockstep,
        sensor_limits=options.sensors,
    )
    face = Face(
        address, robot.spec, limits, options.lockstep, options.lease_s, options.trust
    )
    service = Service(face, end.control, pilot, supervisor, journal, clock)
    return Node(supervisor, pilot, service, journal)


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
def _ended(node: Node) -> Iterator[None]:
    """Stop and release the robot on the way out; each part ends even if another fails.

    The client hears of it last.
    """
    with contextlib.ExitStack() as stack:
        stack.callback(node.service.notify)
        stack.callback(node.supervisor.close, _SHUT_DOWN)
        stack.callback(node.pilot.close)
        stack.callback(node.supervisor.leave, "disabled", _SHUT_DOWN)
        yield


@contextlib.contextmanager
def _black_box(
    robot: Robot, address: str, options: Options, clock: Clock
) -> Iterator[BlackBox | None]:
    """Keep the last minute, if there is a folder for it."""
    if options.black_box is None:
        yield None
        return
    about = About(address, robot.spec)
    with (
        contextlib.closing(BlackBox(about, options.black_box, clock)) as box,
        _handling({signal.SIGUSR1: lambda *_: box.write("SIGUSR1")}),
    ):
        yield box


def _say(journal: Journal, options: Options, sentence: str) -> None:
    """Tell watchers, and whoever started the node."""
    journal.event("black_box", sentence)
    options.say(sentence)


def _signals(ending: threading.Event) -> contextlib.AbstractContextManager[None]:
    """Let SIGTERM and SIGINT set `ending`."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    return _handling(dict.fromkeys(numbers, lambda *_: ending.set()))


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let another Ctrl-C cut this short, where this is the main thread."""
    with (
        contextlib.suppress(KeyboardInterrupt),
        _handling({signal.SIGINT: signal.default_int_handler}),
    ):
        yield


@contextlib.contextmanager
def _handling(handlers: dict[signal.Signals, Callable[..., None]]) -> Iterator[None]:
    """Handle signals so for as long as this lasts, where this is the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {n: signal.signal(n, handler) for n, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
