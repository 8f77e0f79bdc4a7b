"""What an embodiment is: named arrays with units and bounds, cameras, period, limits.

A `RobotSpec` is the contract that a dataset, a bundle and a node each carry. Two of
them are compared element by element, by name, and every difference is put in words:

    difference(bundle.robot, node.robot)
    -> ["action: element 2 is 'elbow' [rad] here and 'elbow_flex' [rad] there"]
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Image = npt.NDArray[np.uint8]  # (H, W, 3), RGB

Control = Literal["position", "velocity", "torque", "normalized"]


class SpecError(ValueError):
    """A spec that contradicts itself, or a value that contradicts its spec."""


def float32(value: npt.ArrayLike) -> Array:
    """Return `value` as a C-ordered float32 array."""
    return np.ascontiguousarray(value, dtype=np.float32)


class ArraySpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A named vector: name, unit and inclusive bounds of every element."""

    names: tuple[str, ...]
    units: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuse lengths that differ, repeated names, and bounds out of order."""
        sizes = {len(self.names), len(self.units), len(self.low), len(self.high)}
        if len(sizes) != 1:
            raise SpecError(f"names, units, low and high differ in length: {self}")
        if len(set(self.names)) != len(self.names):
            raise SpecError(f"expected different names, got {self.names}")
        for name, low, high in zip(self.names, self.low, self.high, strict=True):
            if not (math.isfinite(low) and math.isfinite(high) and low <= high):
                raise SpecError(
                    f"expected finite low <= high for {name}: {low}, {high}"
                )

    @classmethod
    def uniform(
        cls, names: Sequence[str], unit: str, low: float, high: float
    ) -> ArraySpec:
        """Return a spec whose elements share unit and bounds."""
        n = len(names)
        return cls(tuple(names), (unit,) * n, (float(low),) * n, (float(high),) * n)

    @property
    def size(self) -> int:
        """Number of elements."""
        return len(self.names)

    def validate(self, value: npt.ArrayLike) -> Array:
        """Return `value` as float32 (size,); raise if it is misshapen or not finite."""
        array = float32(value)
        if array.shape != (self.size,):
            raise SpecError(f"expected shape ({self.size},), got {array.shape}")
        if not np.isfinite(array).all():
            pairs = zip(self.names, array, strict=True)
            bad = [name for name, x in pairs if not np.isfinite(x)]
            raise SpecError(f"not finite: {', '.join(bad)}")
        return array

    def clip(self, value: Array) -> Array:
        """Return `value` limited to [low, high]."""
        return np.clip(value, float32(self.low), float32(self.high))


class CameraSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A camera that gives RGB frames (height, width, 3)."""

    height: int  # [pixel]
    width: int  # [pixel]
    period_s: float  # time between frames


class RobotSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One embodiment: what a policy is trained for and a driver fulfils."""

    name: str
    control_period_s: float
    command_timeout_s: float  # without a fresh action for this long, the robot holds
    control: Control  # what an action is
    tracks: str  # the observation array that the action is a target for, or ""
    observation: dict[str, ArraySpec]
    cameras: dict[str, CameraSpec]
    action: ArraySpec
    home: tuple[float, ...]  # the action that holds the robot where reset() leaves it
    max_action_step: tuple[float, ...]  # per control period, in the action's unit
    conventions: dict[str, str]  # frames, quaternion order, zero pose, signs: in words

    def __post_init__(self) -> None:
        """Refuse a spec that no driver could fulfil."""
        if not self.observation:
            raise SpecError(f"expected at least one observation array in {self.name}")
        if not 0 < self.control_period_s <= self.command_timeout_s / 2:
            raise SpecError(
                f"expected 0 < control_period_s <= command_timeout_s / 2, got "
                f"{self.control_period_s} and {self.command_timeout_s}"
            )
        size = self.action.size
        if not size == len(self.home) == len(self.max_action_step):
            raise SpecError(f"action, home and max_action_step differ in {self.name}")
        bounds = zip(self.home, self.action.low, self.action.high, strict=True)
        if not all(low <= home <= high for home, low, high in bounds):
            raise SpecError(f"expected home within the action bounds, got {self.home}")
        if not all(0 < step < math.inf for step in self.max_action_step):
            raise SpecError(f"expected positive steps, got {self.max_action_step}")
        if self.tracks and self.tracks not in self.observation:
            raise SpecError(
                f"expected tracks to be one of {list(self.observation)} or '', "
                f"got {self.tracks!r}"
            )
        if self.tracks and self.observation[self.tracks].size != size:
            raise SpecError(f"action and {self.tracks} differ in size")

    @property
    def digest(self) -> str:
        """Identity of this spec: 16 hexadecimal digits over its whole content."""
        content = msgspec.json.encode(self, order="sorted")
        return hashlib.sha256(content).hexdigest()[:16]

    @property
    def observation_size(self) -> int:
        """Length of all observation arrays put end to end, in the order of the spec."""
        return sum(array.size for array in self.observation.values())


def concatenate(spec: RobotSpec, reading: dict[str, Array]) -> Array:
    """Return the arrays of `reading` (..., n_k) end to end (..., O), in spec order."""
    return np.concatenate([reading[name] for name in spec.observation], axis=-1)


def split(spec: RobotSpec, observations: Array) -> dict[str, Array]:
    """Return the arrays (B, n_k) that `observations` (B, O) are made of."""
    ends = np.cumsum([array.size for array in spec.observation.values()])
    pieces = np.split(observations, ends[:-1], axis=1)
    return {k: float32(v) for k, v in zip(spec.observation, pieces, strict=True)}


def difference(here: RobotSpec, there: RobotSpec) -> list[str]:
    """Return what differs between two specs, a sentence each; empty if nothing does.

    Names come first: a renamed element is one line, not one for each of its columns,
    and a mere change of order is named as such, with the permutation.
    """
    return list(_differences(here, there))


def _differences(here: RobotSpec, there: RobotSpec) -> Iterator[str]:
    for field in ("name", "control", "tracks"):
        yield from _unequal(field, getattr(here, field), getattr(there, field))
    for field in ("control_period_s", "command_timeout_s"):
        yield from _unequal(f"{field} [s]", getattr(here, field), getattr(there, field))
    yield from _absent("observation", here.observation, there.observation)
    for name in here.observation.keys() & there.observation.keys():
        pair = here.observation[name], there.observation[name]
        yield from _array_differences(f"observation {name}", *pair)
    yield from _array_differences("action", here.action, there.action)
    for field in ("home", "max_action_step", "conventions"):
        yield from _unequal(field, getattr(here, field), getattr(there, field))
    yield from _absent("camera", here.cameras, there.cameras)
    for name in here.cameras.keys() & there.cameras.keys():
        yield from _unequal(f"camera {name}", here.cameras[name], there.cameras[name])


def _unequal(label: str, here: object, there: object) -> Iterator[str]:
    if here != there:
        yield f"{label}: {here!r} here and {there!r} there"


def _absent(
    label: str,
    here: dict[str, ArraySpec] | dict[str, CameraSpec],
    there: dict[str, ArraySpec] | dict[str, CameraSpec],
) -> Iterator[str]:
    for name in here.keys() - there.keys():
        yield f"{label} {name}: here and not there"
    for name in there.keys() - here.keys():
        yield f"{label} {name}: there and not here"


def _array_differences(label: str, here: ArraySpec, there: ArraySpec) -> Iterator[str]:
    if here.names != there.names and sorted(here.names) == sorted(there.names):
        order = [there.names.index(name) for name in here.names]
        yield f"{label}: the same names in another order, permutation {order}"
        return
    if here.size != there.size:
        yield f"{label}: {here.size} elements here and {there.size} there"
        yield from _unequal(f"{label} names", list(here.names), list(there.names))
        return
    for i, (ours, theirs) in enumerate(zip(here.names, there.names, strict=True)):
        if ours != theirs:
            yield f"{label}: element {i} is {ours!r} here and {theirs!r} there"
        for field in ("units", "low", "high"):
            a, b = getattr(here, field)[i], getattr(there, field)[i]
            word = field.removesuffix("s")
            yield from _unequal(f"{label}: {word} of {ours}", a, b)
