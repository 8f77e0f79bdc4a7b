"""From LeRobot's features to our arrays: names, units, bounds, factors.

    DEGREES           x pi / 180                            rad, 0 in mid-range
    RANGE_M100_100    x half the calibrated range / 100      rad, 0 in mid-range
    RANGE_0_100       / 100                                 1 (of the range)

Whatever has no motor with a calibration needs an entry under "ranges". Signs are
LeRobot's: those of the motor, turned where its calibration has a drive mode.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from robostack.spec import Array, ArraySpec, float32

from .settings import Range


class FeatureError(ValueError):
    """A feature that cannot be put in units."""


class Channel(NamedTuple):
    """One number that LeRobot reads or takes."""

    key: str  # LeRobot's
    name: str  # ours
    unit: str
    low: float
    high: float
    scale: float  # ours = scale * LeRobot's


class Channels(tuple[Channel, ...]):
    """Numbers in a fixed order."""

    __slots__ = ()

    def spec(self) -> ArraySpec:
        """Return names, units and bounds."""
        return ArraySpec(
            tuple(c.name for c in self),
            tuple(c.unit for c in self),
            tuple(c.low for c in self),
            tuple(c.high for c in self),
        )

    def pack(self, values: Mapping[str, Any]) -> Array:
        """Return LeRobot's values as ours (n,).

        Raises:
            FeatureError: one is missing.
        """
        missing = [c.key for c in self if c.key not in values]
        if missing:
            raise FeatureError(
                f"expected {', '.join(missing)} from LeRobot, got {sorted(values)}"
            )
        return float32([float(values[c.key]) * c.scale for c in self])

    def unpack(self, array: Array) -> dict[str, float]:
        """Return ours (n,) as LeRobot's values."""
        pairs = zip(self, array.tolist(), strict=True)
        return {c.key: value / c.scale for c, value in pairs}


def channels(
    device: Any, features: Mapping[str, Any], ranges: Mapping[str, Range]
) -> Channels:
    """Return a channel for every scalar of `features`, in their order.

    Args:
        device: LeRobot's robot or teleoperator, for its motors and calibration.
        features: its `observation_features` or `action_features`.
        ranges: of what has no calibrated motor.
    """
    keys = [key for key, kind in features.items() if kind in (float, int, "float32")]
    found = {key: _channel(device, key, ranges) for key in keys}
    lost = [key for key, channel in found.items() if channel is None]
    if lost:
        raise FeatureError(
            f"no unit is known for {', '.join(lost)} of {device.name}: calibrate it "
            f"with lerobot-calibrate, or add to the file "
            f'"ranges": {{"{lost[0]}": {{"unit": "rad", "low": -1.0, "high": 1.0, '
            f'"scale": 1.0}}}}'
        )
    names = _names(keys)
    return Channels(
        channel._replace(name=names[key]) for key, channel in found.items() if channel
    )


def images(features: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Return height and width of every image of `features`."""
    sizes = {key: size for key, size in features.items() if isinstance(size, tuple)}
    odd = {key: size for key, size in sizes.items() if len(size) != 3 or size[2] != 3}
    if odd:
        raise FeatureError(f"expected images (height, width, 3), got {odd}")
    return {key: (int(size[0]), int(size[1])) for key, size in sizes.items()}


def _channel(device: Any, key: str, ranges: Mapping[str, Range]) -> Channel | None:
    if known := ranges.get(key):
        return Channel(key, key, known.unit, known.low, known.high, known.scale)
    motor_name = key.removesuffix(".pos")
    bus: Any = getattr(device, "bus", None)
    motor = getattr(bus, "motors", {}).get(motor_name)
    calibration = getattr(device, "calibration", {}).get(motor_name)
    if motor is None or calibration is None or not key.endswith(".pos"):
        return None
    mode = motor.norm_mode.value
    if mode == "range_0_100":
        return Channel(key, key, "1", 0.0, 1.0, 0.01)
    ticks = calibration.range_max - calibration.range_min
    turn = bus.model_resolution_table[motor.model] - 1  # as LeRobot has it
    half = math.pi * ticks / turn
    if mode == "degrees":
        return Channel(key, key, "rad", -half, half, math.pi / 180)
    if mode == "range_m100_100":
        return Channel(key, key, "rad", -half, half, half / 100)
    return None


def _names(keys: Iterable[str]) -> dict[str, str]:
    """Return names without LeRobot's endings, where they stay different."""
    short = {key: key.rpartition(".")[0] or key for key in keys}
    unique = len(set(short.values())) == len(short)
    return short if unique else {key: key for key in short}
