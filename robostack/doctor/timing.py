"""How late this computer wakes a loop: idle, and with a busy neighbour.

A loop sleeps until absolute deadlines and notes how long after each it woke. It has
what a node's control loop has: see robostack/node/realtime.py.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from robostack.clock import Clock, MonotonicClock, Ticker
from robostack.node.realtime import LATENCY, realtime, wakeful
from robostack.robot import Finding

RATES_HZ = (100.0, 500.0)
_LATE = 0.1  # part of a period that a loop may wake late in 99 of 100
_HOG = "import os\nme = os.getppid()\nwhile os.getppid() == me: sum(range(100000))"


class Jitter(NamedTuple):
    """How late a loop woke [s]."""

    p50_s: float
    p99_s: float
    max_s: float
    missed: int  # periods

    def __str__(self) -> str:
        """Return it in words."""
        p50, p99, most = (1e3 * x for x in self[:3])
        return (
            f"late by {p50:.2f} ms in the median, {p99:.2f} ms p99, {most:.1f} ms at "
            f"most; {self.missed} missed"
        )


def timing(seconds: float = 2.0) -> Iterator[Finding]:
    """Yield how steadily a loop of each rate runs here, idle and beside a hog."""
    for rate_hz in RATES_HZ:
        yield _found("idle", rate_hz, jitter(rate_hz, seconds / 2))
    with hog():
        for rate_hz in RATES_HZ:
            yield _found("beside a busy process", rate_hz, jitter(rate_hz, seconds / 2))


def jitter(rate_hz: float, seconds: float, clock: Clock | None = None) -> Jitter:
    """Run a loop, and return how late it woke."""
    clock = clock or MonotonicClock()
    ticker = Ticker(clock, 1 / rate_hz)
    late = []
    with realtime(1 / rate_hz):
        for _ in range(max(1, round(rate_hz * seconds))):
            ticker.wait()
            late.append(clock.now() - ticker.deadline)
    p50, p99, most = np.percentile(late, (50, 99, 100))
    return Jitter(float(p50), float(p99), float(most), ticker.overruns)


@contextlib.contextmanager
def hog() -> Iterator[None]:
    """Keep one core busy for as long as this lasts."""
    process = subprocess.Popen([sys.executable, "-c", _HOG])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def priority() -> Iterator[Finding]:
    """Yield whether a control thread may have real-time priority."""
    if not hasattr(os, "sched_setscheduler"):
        yield Finding("ok", "priority", f"{sys.platform} has no SCHED_FIFO", "")
        return
    allowed: list[bool] = []
    thread = threading.Thread(target=lambda: allowed.append(_may_have_fifo()))
    thread.start()
    thread.join()
    if allowed[0]:
        yield Finding("ok", "priority", "real-time priority is permitted", "")
        return
    yield Finding(
        "advice",
        "priority",
        "real-time priority is not permitted: other programs delay the control loop",
        "add '@realtime - rtprio 50' to /etc/security/limits.conf and yourself to the "
        "group realtime, then log in again",
    )


def sleep() -> Iterator[Finding]:
    """Yield whether processors can be kept from sleeping, for a fast control loop."""
    if not sys.platform.startswith("linux"):
        return
    with wakeful() as awake:
        if awake:
            yield Finding("ok", "sleep", "processors can be kept awake", "")
            return
    yield Finding(
        "advice",
        "sleep",
        f"{LATENCY} cannot be written: a processor that sleeps wakes a loop of 200 Hz "
        f"or more late",
        f'give it to a group of yours by a udev rule: KERNEL=="{LATENCY.name}", '
        f'GROUP="realtime", MODE="0660"',
    )


def _may_have_fifo() -> bool:
    """Try it on this thread, which ends soon."""
    lowest = os.sched_get_priority_min(os.SCHED_FIFO)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(lowest))
    except OSError:
        return False
    return True


def _found(when: str, rate_hz: float, found: Jitter) -> Finding:
    words = f"{rate_hz:g} Hz, {when}: {found}"
    if found.p99_s <= _LATE / rate_hz:
        return Finding("ok", "timing", words, "")
    return Finding(
        "advice",
        "timing",
        words,
        "end other programs, and permit real-time priority; robots slower than this "
        "are not concerned",
    )
