"""Measuring a calibration: the arm is limp, a person moves it, the ticks are noted.

calibrate("/dev/ttyACM0", default_path(), at_the_keyboard)

Nothing is written to the servos but "torque off".
"""

from __future__ import annotations

import contextlib
import select
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from . import arm, calibration
from . import registers as r
from .bus import Bus
from .calibration import Calibration, CalibrationError, Joint, Ticks

Operator = Callable[[str], Iterator[object]]

_MARGIN = 10  # [tick] kept from the stops that the hand felt
_SEAM = r.TICKS_PER_TURN // 2  # [tick] a jump that no hand makes between two looks
_ZERO = "hold the arm stretched forward, gripper closed (the zero pose of the README)"
_RANGE = "move every joint slowly from stop to stop"


def calibrate(
    port: str,
    path: Path,
    operator: Operator,
    *,
    ids: tuple[int, ...] = (1, 2, 3, 4, 5, 6),
    signs: tuple[int, ...] = (1, 1, 1, 1, 1, 1),
) -> Calibration:
    """Measure an arm by hand and store its calibration.

    Args:
        port: the serial port.
        path: where the calibration goes.
        operator: is told what to do, and yields for as long as it is being done; the
            joints are looked at once for every yield.
        ids: of the servos, from shoulder_pan to gripper.
        signs: of the angles over ticks.

    Raises:
        BusError: a servo does not answer.
        CalibrationError: what was measured cannot be right; nothing is stored.
    """
    names = dict(zip(ids, arm.JOINTS, strict=True))
    with contextlib.closing(Bus(port, names)) as bus:
        for servo in ids:
            bus.write(servo, r.TORQUE_ENABLE, 0)
        offsets = [
            r.HOMING_OFFSET.get(answer.data)
            for answer in bus.read(ids, 0, r.EEPROM_END)
        ]
        zero = _watch(bus, ids, operator(_ZERO))[-1]
        swept = np.vstack([zero, _watch(bus, ids, operator(_RANGE))])
    _refuse_seams(swept)
    columns = (ids, zero, signs, swept.min(0) + _MARGIN, swept.max(0) - _MARGIN)
    rows = zip(*(np.array(column).tolist() for column in columns), strict=True)
    joints = {
        name: Joint(servo, center, sign, low, high, offset)
        for name, (servo, center, sign, low, high), offset in zip(
            arm.JOINTS, rows, offsets, strict=True
        )
    }
    measured = Calibration(joints)
    calibration.store(measured, path)
    return measured


def at_the_keyboard(instruction: str) -> Iterator[None]:
    """Tell a person what to do; yield 50 times a second until they press Enter."""
    sys.stderr.write(f"{instruction}; then press Enter\n")
    while not select.select([sys.stdin], [], [], 0.02)[0]:
        yield
    sys.stdin.readline()
    yield


def _watch(bus: Bus, ids: tuple[int, ...], moments: Iterator[object]) -> Ticks:
    """Return the positions (N, 6) [tick], a row for each of N moments."""
    address, size = r.PRESENT_POSITION.address, r.PRESENT_POSITION.size
    rows = [
        [
            r.PRESENT_POSITION.get(answer.data, address)
            for answer in bus.read(ids, address, size)
        ]
        for _ in moments
    ]
    if not rows:
        raise CalibrationError("expected the operator to take a moment, got none")
    return np.array(rows, np.int64)


def _refuse_seams(swept: Ticks) -> None:
    jumps = np.abs(np.diff(swept, axis=0)).max(0, initial=0) > _SEAM
    if names := [n for n, bad in zip(arm.JOINTS, jumps, strict=True) if bad]:
        raise CalibrationError(
            f"{', '.join(names)} passed the encoder's seam (tick 0): take the horn off "
            f"and put it on half a turn further, then calibrate again"
        )
