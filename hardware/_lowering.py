"""Letting go of an arm: less and less force, then no torque, so that it sinks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager

from robostack.clock import Clock, Ticker

from ._servo_bus import BusError, ServoBus

_TICK_S = 0.05


def fade(
    bus: ServoBus,
    limits: Mapping[int, int],
    seconds: float,
    clock: Clock,
    lock: AbstractContextManager[object],
) -> None:
    """Let the arm down, blocking.

    Args:
        bus: of its servos.
        limits: of each servo's force, by id, as they are now.
        seconds: that it takes.
        clock: by which it is done.
        lock: guards the bus, and is let go in between.

    Raises:
        BusError: torque could not be taken off everybody.
    """
    ticker = Ticker(clock, _TICK_S)
    steps = max(1, round(seconds / _TICK_S))
    try:
        for k in range(1, steps + 1):
            rows = {
                servo: bus.force.pack(limit * (steps - k) // steps)
                for servo, limit in limits.items()
            }
            with lock:
                bus.write_all(bus.force.address, rows)
            ticker.wait()
    finally:
        _release(bus, limits, lock)


def _release(
    bus: ServoBus, servos: Iterable[int], lock: AbstractContextManager[object]
) -> None:
    """Take the torque off every servo that can be reached."""
    silent = []
    for servo in servos:
        try:
            with lock:
                bus.write(servo, bus.torque, 0)
        except BusError as error:
            silent.append(str(error))
    if silent:
        raise BusError("; ".join(silent))
