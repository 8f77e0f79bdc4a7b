"""What ticks mean: per joint an id, a zero, a sign and a range, in a JSON file.

    angle [rad] = sign * (tick - zero) * 2 pi / 4096

The file belongs to one arm. It also holds each servo's homing offset, which other
programs write into the servo and which shifts all its ticks: where that differs from
the servo's, somebody calibrated the arm again, and the file is worthless.
"""

from __future__ import annotations

import hashlib
import math
import os
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from robostack.spec import Array, float32

from . import arm
from .registers import TICKS_PER_TURN

Ticks = npt.NDArray[np.int64]

RADIANS_PER_TICK = 2 * math.pi / TICKS_PER_TURN
NOMINAL = "nominal"
HOW = "calibrate it first: robostack calibrate hardware:so101 --port PORT"


class CalibrationError(ValueError):
    """A calibration that is missing, broken, or not of this arm."""


class Joint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The calibration of one joint."""

    id: int  # of the servo on the bus
    zero: int  # [tick] at 0 rad
    sign: Literal[-1, 1]  # of the angle over ticks
    low: int  # [tick] smallest that the joint may go to
    high: int  # [tick] largest
    homing_offset: int  # [tick] in the servo when this was measured

    def __post_init__(self) -> None:
        """Refuse what no STS3215 can be."""
        last = TICKS_PER_TURN - 1
        if not (0 <= self.id <= 253 and 0 <= self.low < self.high <= last):
            raise CalibrationError(
                f"expected an id in 0..253 and 0 <= low < high <= {last}, got id "
                f"{self.id}, low {self.low}, high {self.high}"
            )


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The calibration of an arm, joint by joint."""

    joints: dict[str, Joint]

    def __post_init__(self) -> None:
        """Refuse wrong joints, repeated ids, and a home that is out of reach."""
        if tuple(self.joints) != arm.JOINTS:
            raise CalibrationError(
                f"expected the joints {', '.join(arm.JOINTS)} in this order, got "
                f"{', '.join(self.joints) or 'none'}"
            )
        if len(set(self.ids)) != len(self.ids):
            raise CalibrationError(f"expected different ids, got {self.ids}")
        home = self.ticks(float32(arm.HOME))
        far = np.abs(self.radians(home) - np.array(arm.HOME)) > 2 * RADIANS_PER_TICK
        if far.any():
            names = [n for n, f in zip(arm.JOINTS, far, strict=True) if f]
            raise CalibrationError(
                f"home is outside the calibrated range of {', '.join(names)}: "
                f"calibrate again, and move every joint from stop to stop"
            )

    @property
    def ids(self) -> tuple[int, ...]:
        """The servos' ids, in the order of the joints."""
        return tuple(joint.id for joint in self.joints.values())

    @property
    def digest(self) -> str:
        """Identity of this calibration: 16 hexadecimal digits."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()[
            :16
        ]

    def radians(self, ticks: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return the angles (6,) [rad] at `ticks` (6,)."""
        turned = np.asarray(ticks, np.float64) - self._column("zero")
        return self._column("sign") * turned * RADIANS_PER_TICK

    def ticks(self, radians: Array) -> Ticks:
        """Return the nearest ticks (6,) within spec and range to `radians` (6,)."""
        sign, zero = self._column("sign"), self._column("zero")
        ends = np.array([arm.LOW, arm.HIGH]) / RADIANS_PER_TICK * sign + zero  # (2, 6)
        low = np.maximum(np.ceil(ends.min(0)), self._column("low"))
        high = np.minimum(np.floor(ends.max(0)), self._column("high"))
        raw = zero + sign * np.round(np.float64(radians) / RADIANS_PER_TICK)
        return np.clip(raw, low, high).astype(np.int64)

    def _column(self, field: str) -> Ticks:
        return np.array([getattr(joint, field) for joint in self.joints.values()])


def nominal() -> Calibration:
    """Return that of an arm built to the letter: ids 1 to 6, zero in the middle."""
    middle = TICKS_PER_TURN // 2
    return Calibration(
        {
            name: Joint(
                id=i,
                zero=middle,
                sign=1,
                low=middle + math.floor(low / RADIANS_PER_TICK),
                high=middle + math.ceil(high / RADIANS_PER_TICK),
                homing_offset=0,
            )
            for i, (name, low, high) in enumerate(
                zip(arm.JOINTS, arm.LOW, arm.HIGH, strict=True), 1
            )
        }
    )


def default_path() -> Path:
    """Return where the calibration of this user's one arm is kept."""
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home) / "robostack" / "so101.json"


def load(path: Path) -> Calibration:
    """Read a calibration; raises CalibrationError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Calibration)
    except FileNotFoundError:
        raise CalibrationError(f"no calibration of the arm at {path}: {HOW}") from None
    except (OSError, msgspec.MsgspecError, ValueError) as error:
        raise CalibrationError(f"cannot use the calibration {path}: {error}") from error


def store(calibration: Calibration, path: Path) -> None:
    """Write a calibration, whole or not at all; keep the one before as FILE.before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = msgspec.json.format(msgspec.json.encode(calibration), indent=2)
    half = path.with_name(path.name + ".part")
    half.write_bytes(text + b"\n")
    if path.exists():
        path.with_name(path.name + ".before").write_bytes(path.read_bytes())
    half.replace(path)
