"""The control thread: in real time by absolute deadlines, in lockstep by commands.

Both give a `Service` every message that comes; they differ in when a period ends.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from robostack.clock import Clock, Ticker
from robostack.link.node_end import Control
from robostack.node.journal import Journal
from robostack.node.pilot import Pilot
from robostack.node.realtime import realtime
from robostack.node.service import Service
from robostack.node.supervisor import Supervisor

_IDLE_S = 0.05  # how soon, without messages, the loop looks around
_SPIN_S = 0.0002  # before a tick, spun: the scheduler wakes us late
_PULSE_S = 0.2  # how often an idle node tells watchers that it is there
_COUNT_S = 1.0  # how often a busy one tells them what it counted
_LOOK_S = 0.02  # how often at most an idle node reads its sensors
_MISSED = 3  # control periods in a row before HOLD; or the command time-out, if longer


class Node:
    """The parts of a running node."""

    def __init__(
        self,
        supervisor: Supervisor,
        pilot: Pilot,
        service: Service,
        journal: Journal,
    ) -> None:
        self.supervisor = supervisor
        self.pilot = pilot
        self.service = service
        self.journal = journal
        self._pulse_s = 0.0
        periods = math.ceil(pilot.timeout_s / pilot.period_s)
        self._most_missed = max(_MISSED, periods)

    @property
    def active(self) -> bool:
        """Whether an episode is open."""
        return self.supervisor.machine.state == "active"

    def pulse(self) -> None:
        """Tell watchers now and then, between episodes, that the node is alive."""
        now_s = time.monotonic()
        if not self.active and now_s - self._pulse_s >= _PULSE_S:
            self._pulse_s = now_s
            machine = self.supervisor.machine
            self.journal.pulse(machine.state, machine.cause)

    def count(self) -> None:
        """Tell watchers now and then, in an episode, what was counted."""
        now_s = time.monotonic()
        if now_s - self._pulse_s >= _COUNT_S:
            self._pulse_s = now_s
            self.journal.count()

    def check_pace(self, missed: int) -> None:
        """HOLD if too many periods in a row were missed."""
        if missed >= self._most_missed:
            self.supervisor.leave(
                "hold",
                f"{missed} control periods were missed in a row: the driver or this "
                f"computer is too slow",
            )


def lockstep(node: Node, control: Control, running: Callable[[], bool]) -> None:
    """Advance the world by one period for every command, as fast as they come."""
    supervisor, service, pilot = node.supervisor, node.service, node.pilot
    while running():
        message = control.receive(_IDLE_S)
        if supervisor.notice is not None:
            service.notify()
        if message is None:
            if node.active:
                service.probe()
            node.pulse()
        elif service.handle(*message) and pilot.advance():
            service.observe()
            node.count()


def real_time(
    node: Node,
    control: Control,
    running: Callable[[], bool],
    clock: Clock,
    period_s: float,
) -> None:
    """Advance by the clock; between two ticks, apply commands as they come.

    A new episode begins a new row of ticks, so that its first period is whole.
    """
    with realtime(period_s):
        _tick(node, control, running, clock, period_s)


def _tick(
    node: Node,
    control: Control,
    running: Callable[[], bool],
    clock: Clock,
    period_s: float,
) -> None:
    ticker, idle = Ticker(clock, period_s), 0
    overruns = 0
    idle_ticks = math.ceil(_LOOK_S / period_s)
    while running():
        ticker.advance()
        if node.active:
            node.journal.counts.overruns += ticker.overruns - overruns
            node.check_pace(ticker.missed)
        overruns = ticker.overruns
        if _serve_until_tick(node, control, clock, ticker):
            ticker, overruns = Ticker(clock, period_s), 0
            continue
        node.pilot.advance()
        if node.active:
            node.service.observe()
            node.count()
        elif (idle := idle + 1) % idle_ticks == 0:
            node.pilot.look()
        node.service.notify()
        node.pulse()


def _serve_until_tick(
    node: Node, control: Control, clock: Clock, ticker: Ticker
) -> bool:
    """Serve messages, one at least, until the deadline; return whether one began."""
    while True:
        left_s = ticker.deadline - clock.now()
        message = control.poll()
        if message is not None:
            node.service.handle(*message)
            if node.service.began:
                node.service.began = False
                return True
        elif left_s > _SPIN_S:
            control.wait(left_s - _SPIN_S)
        if left_s <= 0:
            return False
