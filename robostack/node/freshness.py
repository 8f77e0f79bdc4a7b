"""How old readings may be, and when readings that never change are a dead sensor.

Age     what a driver's own thread filled long ago; only the driver can know
Frozen  the same bits again and again, while what they should show was moving
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import gt, sub

import msgspec

from robostack.robot import Robot
from robostack.spec import RobotSpec


class SensorLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a node asks of sensors."""

    array_s: float = 0.05  # oldest observation array, or
    camera_s: float = 0.2  # camera frame, or
    periods: float = 2.0  # so many periods of control or camera, if that is longer
    same_readings: int = 15  # alike in a row while the targets moved, and
    same_s: float = 0.2  # for so long, are a dead bus
    same_frames: int = 10  # alike in a row while the joints moved are a dead camera
    target_moved: float = 0.02  # parts of an element's range that count as moved
    joint_moved: float = 0.05  # the same for what a camera should have seen


class FreshnessError(RuntimeError):
    """A driver tells ages of what it does not have."""


def oldest(spec: RobotSpec, limits: SensorLimits) -> dict[str, float]:
    """Return the largest age [s] of every array and camera of `spec`."""
    array_s = max(limits.array_s, limits.periods * spec.control_period_s)
    ages = dict.fromkeys(spec.observation, array_s)
    for name, camera in spec.cameras.items():
        ages[name] = max(limits.camera_s, limits.periods * camera.period_s)
    return ages


class Ages:
    """The ages that one driver tells, if it tells any."""

    def __init__(self, robot: Robot, limits: SensorLimits) -> None:
        self._read = getattr(robot, "ages", None)
        self._most = oldest(robot.spec, limits)

    def read(self) -> dict[str, float]:
        """Return the age [s] of everything that a thread of the driver fills.

        Raises:
            FreshnessError: the driver names what is not in its spec.
        """
        if self._read is None:
            return {}
        ages: dict[str, float] = self._read()
        if unknown := ages.keys() - self._most.keys():
            raise FreshnessError(
                f"expected ages of {sorted(self._most)}, got {sorted(unknown)}"
            )
        return ages

    def complaint(self, ages: Mapping[str, float]) -> str:
        """Return which sensor is too old, or an empty string."""
        for name, age_s in ages.items():
            if not age_s <= self._most[name]:  # or NaN
                return (
                    f"{name} is {1e3 * age_s:.0f} ms old, and may be "
                    f"{1e3 * self._most[name]:.0f} ms"
                )
        return ""


class Frozen:
    """Says when a content stays the same, bit for bit, while a vector moves."""

    def __init__(
        self, most: int, most_s: float, moved: tuple[float, ...], elements: int
    ) -> None:
        """Expect a change.

        Args:
            most: contents alike in a row, after the first.
            most_s: and for at least this long [s].
            moved: how far each element of the vector has to go meanwhile, and
            elements: how many of them.
        """
        self._most, self._most_s = most, most_s
        self._moved, self._elements = moved, elements
        self.start()

    def start(self) -> None:
        """Forget what was."""
        self._content: object = None
        self.run = 0  # contents that were like the one before

    def note(self, content: object, vector: bytes, now: float) -> bool:
        """Note `content` and `vector` at `now` [s]; return the verdict.

        Args:
            content: of any type that is compared in C, as this is done every period.
            vector: (N,) float32.
            now: [s].
        """
        if content != self._content:  # at the first byte that differs
            self._content, self.run = content, 0
            return False
        values = memoryview(vector).cast("f").tolist()
        if self.run == 0:
            self._low = self._high = values
            self._since_s = now
        self.run += 1
        self._low = list(map(min, self._low, values))
        self._high = list(map(max, self._high, values))
        went = map(gt, map(sub, self._high, self._low), self._moved)
        return (
            self.run >= self._most
            and now - self._since_s >= self._most_s
            and sum(went) >= self._elements
        )


def frozen_readings(spec: RobotSpec, limits: SensorLimits) -> Frozen:
    """Return who watches the readings; the vector is the action in effect (A,).

    Of three joints or more, the targets of two must move: one alone may be a gripper
    that has closed on something.
    """
    bounds = zip(spec.action.low, spec.action.high, strict=True)
    moved = tuple(limits.target_moved * (high - low) for low, high in bounds)
    elements = 2 if len(moved) > 2 else 1
    return Frozen(limits.same_readings, limits.same_s, moved, elements)


def frozen_frames(spec: RobotSpec, limits: SensorLimits) -> dict[str, Frozen]:
    """Return who watches each camera; the vector is the tracked array (N,)."""
    if not spec.tracks:
        return {}
    joints = spec.observation[spec.tracks]
    bounds = zip(joints.low, joints.high, strict=True)
    moved = tuple(limits.joint_moved * (high - low) for low, high in bounds)
    return {name: Frozen(limits.same_frames, 0.0, moved, 1) for name in spec.cameras}
