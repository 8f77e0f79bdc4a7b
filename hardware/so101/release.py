"""Letting go of the arm: less and less torque, then none, so that it sinks."""

from __future__ import annotations

from contextlib import AbstractContextManager

from robostack.clock import Clock

from .._lowering import fade
from .servos import Servos


def lower(servos: Servos, clock: Clock, lock: AbstractContextManager[object]) -> None:
    """Let the arm down, blocking; `lock` guards the bus and is let go in between.

    Raises:
        BusError: torque could not be taken off everybody.
    """
    with lock:
        servos.armed = False
        if not servos.look().torque.any():
            return
    limits = dict(zip(servos.ids, servos.care.torque_limit, strict=True))
    fade(servos.bus, limits, servos.care.lowering_s, clock, lock)
