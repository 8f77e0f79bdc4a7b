"""What one episode looked like in time, cycle by cycle, and the report over many.

    reading comes ──► inference ──► command leaves ──► next reading comes
    |───────────── age at send ─────────────|───── reply ──────|
    |───────────────────────── period ─────────────────────────|

All by this computer's clock. The next reading is the first news that a command was
applied, so that `reply` is what sending to applying took at most.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import msgspec
import numpy as np

from robostack.clock import Clock
from robostack.messages import Welcome
from robostack.spec import Array, float32

_SILENCE_S = 1.0  # at least this long before a silent node counts as dead
_PER_DECADE = 10
_DECADES = (-6, 1)  # 1 µs to 10 s


class Times(NamedTuple):
    """Durations [s] of every cycle of an episode."""

    period_s: Array  # between one reading and the next
    inference_s: Array  # of the policy alone
    age_s: Array  # of the reading when its answer left
    reply_s: Array  # from there to the next reading


class Stopwatch:
    """Times the cycle, and counts the readings that came late."""

    def __init__(self, clock: Clock, welcome: Welcome) -> None:
        robot = welcome.robot
        self._clock = clock
        longest_s = 1.5 * robot.control_period_s
        self._longest_s = math.inf if welcome.lockstep else longest_s
        self._arrived = clock.now()
        self._sent: float | None = None
        self.silence_s = max(_SILENCE_S, 2 * robot.command_timeout_s)
        self.late = 0
        self._periods: list[float] = []
        self._ages: list[float] = []
        self._replies: list[float] = []

    def sends(self) -> None:
        """Note that an answer leaves now."""
        self._sent = self._clock.now()
        self._ages.append(self._sent - self._arrived)

    def receives(self) -> None:
        """Note that the next reading came."""
        now = self._clock.now()
        if self._sent is not None:
            self._replies.append(now - self._sent)
            self._sent = None
        self._periods.append(now - self._arrived)
        self._arrived = now
        self.late += self._periods[-1] > self._longest_s

    def times(self, inference_s: list[float]) -> Times:
        """Return everything, with what the policy's author timed."""
        lists = (self._periods, inference_s, self._ages, self._replies)
        return Times(*(float32(values) for values in lists))


class Histogram(msgspec.Struct, frozen=True):
    """How often durations were how long."""

    edges_s: list[float]  # of the bins, evenly in the logarithm
    counts: list[int]  # one fewer; what is outside is in the outermost


class Spread(msgspec.Struct, frozen=True):
    """Durations in numbers [s]."""

    count: int
    p50: float
    p99: float
    max: float
    histogram: Histogram


def spread(seconds: Array) -> Spread | None:
    """Return median, 99th percentile, largest, and a histogram; None of nothing."""
    if not len(seconds):
        return None
    p50, p99 = np.percentile(seconds, (50, 99))
    low, high = _DECADES
    edges = np.logspace(low, high, (high - low) * _PER_DECADE + 1)
    counts, _ = np.histogram(np.clip(seconds, edges[0], edges[-1]), edges)
    return Spread(
        len(seconds),
        float(p50),
        float(p99),
        float(seconds.max()),
        Histogram(edges.tolist(), counts.tolist()),
    )


def joined(times: list[Times]) -> Times:
    """Return the times of several episodes as if they were one."""
    nothing = Times(*(np.zeros(0, np.float32) for _ in Times._fields))
    return Times(*map(np.concatenate, zip(nothing, *times, strict=True)))
