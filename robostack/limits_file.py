"""Limits in a TOML file that the node's operator owns.

    [action.shoulder_pan]      # an element of the action; what is left out stays
    low = -1.2                 # bounds of targets, in the action's unit
    high = 1.2
    step = 0.05                # largest change per control period
    velocity = 1.0             # of targets, per second
    acceleration = 8.0
    jerk = 80.0
    first = 0.05               # distance of the first action that is gone at once,
    gate = 0.5                 # and that beyond which it is refused

    [box.tip_position]         # FAULT where a reading is outside
    low = [0.05, -0.3, 0.0]
    high = [0.4, 0.3, 0.5]
    tolerance = 0.01

`robostack serve ROBOT --print-limits` writes those in effect. A file may not lead
beyond the robot's own bounds: to `low`, `high` and `step` it only adds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from robostack.limits import Box, Limits
from robostack.shaper import limits_axes
from robostack.spec import RobotSpec, SpecError

_LONGEST = 1000.0  # control periods in which a target comes to rest at the latest
_SHAPE = ("velocity", "acceleration", "jerk")


class LimitsError(SpecError):
    """A file of limits that cannot be used."""


class Element(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True
):
    """What a file says of one element of the action; None: nothing."""

    low: float | None = None
    high: float | None = None
    step: float | None = None
    velocity: float | None = None
    acceleration: float | None = None
    jerk: float | None = None
    first: float | None = None
    gate: float | None = None


class File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a file of limits holds."""

    action: dict[str, Element] = {}
    box: dict[str, Box] = {}


def load(path: Path, limits: Limits, spec: RobotSpec) -> Limits:
    """Return `limits` with what the file at `path` says instead.

    Raises:
        LimitsError: it cannot be read, or says what it may not.
    """
    try:
        file = msgspec.toml.decode(path.read_bytes(), type=File)
        return apply(file, limits, spec)
    except (OSError, msgspec.MsgspecError, LimitsError) as error:
        raise LimitsError(f"the limits in {path} cannot be used: {error}") from error


def apply(file: File, limits: Limits, spec: RobotSpec) -> Limits:
    """Return `limits` with what `file` says instead.

    Raises:
        LimitsError: it says what it may not.
    """
    _known("an element of the action", file.action, limits.names)
    _known("an observation array", file.box, spec.observation)
    for name, box in file.box.items():
        _check_box(name, box, spec.observation[name].size)
    columns = {field: list(getattr(limits, field)) for field in _FIELDS}
    for i, name in enumerate(limits.names):
        if name in file.action:
            _set(columns, i, name, file.action[name], home=spec.home[i])
    changed = msgspec.structs.replace(
        limits,
        boxes=limits.boxes | file.box,
        **{field: tuple(column) for field, column in columns.items()},
    )
    _check_stopping(changed)
    return changed


_FIELDS = (
    "low", "high", "margin_low", "margin_high", "step", "first", "gate", *_SHAPE
)  # fmt: skip


def dump(limits: Limits) -> str:
    """Return `limits` as the text of a file that says all of them."""
    rows = [
        {
            "low": limits.low[i] + limits.margin_low[i],
            "high": limits.high[i] - limits.margin_high[i],
            **{
                field: getattr(limits, field)[i]
                for field in ("step", *_SHAPE, "first", "gate")
                if getattr(limits, field)
            },
        }
        for i in range(len(limits.names))
    ]
    tables: list[tuple[str, Mapping[str, Any]]] = [
        (f"action.{_key(name)}", row)
        for name, row in zip(limits.names, rows, strict=True)
    ]
    tables += [
        (f"box.{_key(name)}", msgspec.structs.asdict(box))
        for name, box in limits.boxes.items()
    ]
    return "\n".join(_table(title, row) for title, row in tables)


def _table(title: str, row: Mapping[str, Any]) -> str:
    lines = [f"{key} = {_value(value)}" for key, value in row.items()]
    return "\n".join([f"[{title}]", *lines, ""])


def _key(name: str) -> str:
    plain = name.replace("_", "").replace("-", "")
    bare = plain.isascii() and plain.isalnum()
    return name if bare else msgspec.json.encode(name).decode()


def _value(value: float | tuple[float, ...]) -> str:
    return str(list(value)) if isinstance(value, tuple) else repr(float(value))


def _known(what: str, names: Iterable[str], known: Iterable[str]) -> None:
    there = list(known)
    for name in names:
        if name not in there:
            raise LimitsError(
                f"expected {what}, one of {', '.join(there)}, got {name!r}"
            )


def _set(
    columns: dict[str, list[float]], i: int, name: str, said: Element, *, home: float
) -> None:
    """Put what was said of element `i` in its place."""
    for field in said.__struct_fields__:
        value = getattr(said, field)
        if value is None:
            continue
        if not columns[field]:
            raise LimitsError(
                f"expected no {field} for {name}: its action is no target for anything "
                f"measured"
            )
        _check_value(name, field, value, columns, i)
        if field in ("low", "high"):  # the bounds stay: beyond them are other units
            columns[f"margin_{field}"][i] = abs(value - columns[field][i])
        else:
            columns[field][i] = value
    low = columns["low"][i] + columns["margin_low"][i]
    high = columns["high"][i] - columns["margin_high"][i]
    if not low <= home <= high:
        raise LimitsError(
            f"expected home, {home:g}, within the bounds of {name}, got {low:g} to "
            f"{high:g}"
        )


def _check_value(
    name: str, field: str, value: float, columns: Mapping[str, list[float]], i: int
) -> None:
    if not math.isfinite(value):
        raise LimitsError(f"expected a finite {field} for {name}, got {value}")
    most = columns[field][i]
    if field in ("low", "high"):
        if value < most if field == "low" else value > most:
            raise LimitsError(
                f"expected {field} of {name} within the robot's own bound {most:g}, "
                f"got {value:g}"
            )
    elif value <= 0:
        raise LimitsError(f"expected {field} of {name} above 0, got {value:g}")
    elif field == "step" and value > most:
        raise LimitsError(
            f"expected step of {name} at most the robot's own {most:g}, got {value:g}"
        )


def _check_box(name: str, box: Box, size: int) -> None:
    numbers = (*box.low, *box.high, box.tolerance)
    if not len(box.low) == len(box.high) == size:
        raise LimitsError(
            f"expected {size} numbers in low and high of box {name}, got "
            f"{len(box.low)} and {len(box.high)}"
        )
    if not all(map(math.isfinite, numbers)) or box.tolerance < 0:
        raise LimitsError(
            f"expected finite numbers and a tolerance of at least 0 in box {name}"
        )
    if not all(low <= high for low, high in zip(box.low, box.high, strict=True)):
        raise LimitsError(f"expected low at most high in box {name}")


def _check_stopping(limits: Limits) -> None:
    """Refuse limits by which a target would need for ever to come to rest."""
    if not limits.velocity:
        return
    for name, axis in zip(limits.names, limits_axes(limits), strict=True):
        periods = axis.speed / axis.surge + 2 * math.sqrt(axis.speed / axis.jolt)
        if periods > _LONGEST:
            raise LimitsError(
                f"expected {name} to come to rest within {_LONGEST:g} control periods, "
                f"got {periods:.0f}: raise its acceleration or jerk, or lower velocity"
            )
