"""What is done about the arm when the node that drove it is no more."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Literal

from robostack.clock import MonotonicClock

from .._servo_bus import BusError
from .bus import Bus
from .calibration import Calibration
from .holding import hold
from .release import lower
from .servos import Servos

_PATIENCE_S = 2.0  # for the dead process to let go of the port
_RETRY_S = 0.005


def secure(port: str, calibration: Calibration, how: Literal["hold", "limp"]) -> None:
    """Hold every joint with torque where it is, or let the arm down and go limp.

    An STS3215 has no watchdog on its bus: by itself it runs on to its last goal, and
    holds that for as long as it has power.

    Raises:
        BusError: the port, or a servo, is out of reach.
    """
    with contextlib.closing(_open(port)) as bus:
        bus.purge()
        servos = Servos(bus, calibration)
        missing = hold(servos)  # before lowering, too: it must not run on meanwhile
        if how == "limp":
            lower(servos, MonotonicClock(), threading.Lock())
        if missing:
            raise BusError(f"servos {missing} did not answer")


def _open(port: str) -> Bus:
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return Bus(port, {})
        except BusError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_S)
