"""What keeps other work of this process and this computer out of a control loop's way.

Only the thread that asks is raised; threads and processes that it starts are not. Where
the operating system does not permit it, `robostack doctor` says so, and the loop runs
as it can.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

_LOOP = 20  # priority in SCHED_FIFO: above all ordinary work, below the kernel's own
_WATCHDOG = 30  # above the loop: a driver that never sleeps must not keep it waiting
_SWITCH_S = 0.0005  # other threads give way to the loop within that; Python's own: 5 ms
_WAKEFUL_S = 0.005  # for control periods up to that, processors are kept from sleeping
LATENCY = Path("/dev/cpu_dma_latency")  # holds while it is open


@contextlib.contextmanager
def realtime(period_s: float) -> Iterator[bool]:
    """Run this thread first, as far as it may; gives whether it has real-time priority.

    What lives by now is no longer looked at by the garbage collector, whose full rounds
    take longer than a period. For a short control period [s], processors stay awake.
    """
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(min(interval_s, _SWITCH_S))
    gc.collect()
    gc.freeze()
    try:
        awake = wakeful() if period_s <= _WAKEFUL_S else contextlib.nullcontext()
        with _priority(_LOOP) as raised, awake:
            yield raised
    finally:
        gc.unfreeze()
        sys.setswitchinterval(interval_s)


def urgent() -> contextlib.AbstractContextManager[bool]:
    """Run this thread, a watchdog's, before even the control loop, if it may."""
    return _priority(_WATCHDOG)


@contextlib.contextmanager
def wakeful() -> Iterator[bool]:
    """Keep the processors from sleeping, if it may; gives whether it does.

    One that sleeps answers a timer late, in a virtual machine by milliseconds. It costs
    the power of a busy computer for as long as it lasts.
    """
    try:
        file = LATENCY.open("r+b", buffering=0)
    except OSError:
        yield False
        return
    with file:
        file.write((0).to_bytes(4, "little"))  # [us] that waking up may take
        yield True


@contextlib.contextmanager
def _priority(level: int) -> Iterator[bool]:
    """Have SCHED_FIFO on this thread, where that is permitted; then what was before."""
    if not hasattr(os, "sched_setscheduler"):
        yield False
        return
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    policy = os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
    try:
        os.sched_setscheduler(0, policy, os.sched_param(level))
    except OSError:
        yield False
        return
    try:
        yield True
    finally:
        os.sched_setscheduler(0, *before)
