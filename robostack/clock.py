"""Time, passed in: a clock is something that tells the time and waits until a time.

A simulated world is a clock too (sleeping steps its physics), so the same loops run in
real time and faster.
"""

from __future__ import annotations

import math
import time
from typing import Protocol

_SPIN_S = 0.0003  # the last stretch of a sleep, spun: the scheduler wakes us late


class Clock(Protocol):
    """A time that only grows."""

    def now(self) -> float:
        """Return the time [s] since an arbitrary start."""

    def sleep_until(self, deadline: float) -> None:
        """Return at `deadline` [s], or at once if that is past."""


class MonotonicClock:
    """The computer's monotonic clock; deaf to changes of the wall clock."""

    def now(self) -> float:
        """Return the time [s] since an arbitrary start."""
        return time.monotonic()

    def sleep_until(self, deadline: float) -> None:
        """Sleep, then spin for the last 0.3 ms."""
        while (left_s := deadline - time.monotonic()) > 0:
            if left_s > _SPIN_S:
                time.sleep(left_s - _SPIN_S)


class ManualClock:
    """A clock for tests, moved by hand or by whoever sleeps on it."""

    def __init__(self, now_s: float = 0.0) -> None:
        self._now_s = now_s

    def now(self) -> float:
        """Return the time [s] it was moved to."""
        return self._now_s

    def sleep_until(self, deadline: float) -> None:
        """Jump to `deadline` [s], never back."""
        self._now_s = max(self._now_s, deadline)

    def advance(self, seconds: float) -> None:
        """Move on by `seconds`."""
        self._now_s += seconds


class Ticker:
    """Fires at start, start + period, start + 2 * period, ... with no drift.

    A late tick is counted in `overruns`, and the ticks it missed are skipped: the loop
    stays in phase and never hurries to catch up.
    """

    def __init__(self, clock: Clock, period_s: float) -> None:
        self._clock = clock
        self._period_s = period_s
        self.deadline = clock.now()
        self.overruns = 0
        self.missed = 0  # ticks in a row, up to now

    def advance(self) -> float:
        """Move to the next deadline that is not past, count misses, and return it."""
        self.deadline += self._period_s
        late_s = self._clock.now() - self.deadline
        if late_s > 1e-9:  # float residue of a clock that lands on the deadline
            ticks = math.ceil(late_s / self._period_s)
            self.overruns += 1
            self.missed += ticks
            self.deadline += ticks * self._period_s
        else:
            self.missed = 0
        return self.deadline

    def wait(self) -> None:
        """Return at the next tick."""
        self._clock.sleep_until(self.advance())
