"""Letting go of the arm: less and less torque, then none, so that it sinks."""

from __future__ import annotations

from contextlib import AbstractContextManager

import numpy as np

from robostack.clock import Clock, Ticker

from . import registers as r
from .bus import BusError
from .servos import Servos

_TICK_S = 0.05


def lower(servos: Servos, clock: Clock, lock: AbstractContextManager[object]) -> None:
    """Let the arm down, blocking; `lock` guards the bus and is let go in between.

    Raises:
        BusError: torque could not be taken off everybody.
    """
    with lock:
        servos.armed = False
        if not servos.look().torque.any():
            return
    ticker = Ticker(clock, _TICK_S)
    steps = max(1, round(servos.care.lowering_s / _TICK_S))
    limits = np.array(servos.care.torque_limit)
    try:
        for k in range(1, steps + 1):
            left = (limits * (steps - k) // steps).tolist()
            rows = {
                i: r.TORQUE_LIMIT.pack(x) for i, x in zip(servos.ids, left, strict=True)
            }
            with lock:
                servos.bus.write_all(r.TORQUE_LIMIT.address, rows)
            ticker.wait()
    finally:
        _release(servos, lock)


def _release(servos: Servos, lock: AbstractContextManager[object]) -> None:
    """Take the torque off every servo that can be reached."""
    silent = []
    for servo in servos.ids:
        try:
            with lock:
                servos.bus.write(servo, r.TORQUE_ENABLE, 0)
        except BusError as error:
            silent.append(str(error))
    if silent:
        raise BusError("; ".join(silent))
