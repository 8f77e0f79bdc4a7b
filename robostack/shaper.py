"""Shapes a vector of targets, element by element, in plain floats.

A command that is feasible passes bit by bit. It is in the way of every command, so what
is far from all limits is seen by comparisons alone, and braking is looked at only where
a bound is within the longest way to rest.
"""

from __future__ import annotations

from collections.abc import Sequence

from robostack.limits import Limits
from robostack.shaping import (
    Axis,
    Motion,
    approach,
    brake,
    feasible,
    rounding,
    stopping_distance,
)

_DRIVER = 0.003  # parts of the range by which a driver may round a target


class Shaper:
    """Keeps targets within position, velocity, acceleration and jerk.

    Where an episode begins beyond the margin, the margin begins there: targets may stay
    or lead inside, and the bounds of the action hold all the same.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._first = limits.first
        self._starting = False
        self._late = [False] * len(limits.names)  # clamped, and not yet where asked
        self._proposed: list[Motion] = []
        self._settle_in(limits_axes(limits))
        self._motions = [Motion((x.low + x.high) / 2, 0.0, 0.0) for x in self._axes]

    @property
    def motions(self) -> list[Motion]:
        """Where the targets are, and how they move."""
        return list(self._motions)

    @property
    def base(self) -> list[float]:
        """The targets of the period before, or what was measured at the start."""
        return [m.p for m in self._motions]

    @property
    def reach(self) -> Sequence[float]:
        """How far from `base` the next targets may be."""
        return self._first if self._starting else self._speed

    def start(self, measured: list[float]) -> None:
        """Begin at rest, at `measured` (A,)."""
        limits = self._limits
        inside = list(
            map(min, map(max, measured, limits.low), limits.high)  # NaN is no reading
        )
        axes = [
            x._replace(low=min(x.low, p), high=max(x.high, p))
            for x, p in zip(limits_axes(limits), inside, strict=True)
        ]
        self._settle_in(axes)
        self._motions = [Motion(p, 0.0, 0.0) for p in inside]
        self._late = [False] * len(inside)
        self._proposed = []
        self._starting = True

    def settle(self, applied: list[float]) -> None:
        """End the period, in which `applied` (A,) was in effect.

        What a driver rounds is not counted as motion; without a new target, or with
        quite another one, the motion is what the difference says.
        """
        if not self._proposed:
            pairs = zip(self._motions, applied, self._width, strict=True)
            self._motions = [
                Motion(m.p if abs(m.p - x) <= _DRIVER * width else x, 0.0, 0.0)
                for m, x, width in pairs
            ]
        else:
            rows = zip(self._proposed, self._motions, applied, self._width, strict=True)
            self._motions = [
                new if abs(new.p - x) <= _DRIVER * width else old.at(x)
                for new, old, x, width in rows
            ]
        self._proposed = []
        self._starting = False

    def shape(self, values: list[float]) -> list[float]:
        """Return the targets (A,) nearest to `values` that are feasible.

        `values` itself, the same object, if it is; it counts once it is settled.
        """
        proposed, calm = [], not self._starting and not any(self._late)
        for x, m, quiet in zip(values, self._motions, self._calm, strict=True):
            new = m.at(x)
            p, v, a = new
            low, high, speed, surge, jolt = quiet
            if not (
                low <= p <= high
                and -speed <= v <= speed
                and -surge <= a <= surge
                and -jolt <= a - m.a <= jolt
            ):
                calm = False
                break
            proposed.append(new)
        if calm:
            self._proposed = proposed
            return values
        return self._shape(values)

    def brake(self) -> list[float] | None:
        """Return the targets (A,) that lead on to rest; None at rest.

        They count once they are settled, like those of `shape`.
        """
        pairs = list(zip(self._axes, self._motions, strict=True))
        proposed = [m.after(brake(axis, m)) for axis, m in pairs]
        still = all(
            abs(new.v) <= 1e-9 * width and abs(m.v) <= 1e-9 * width
            for new, (_, m), width in zip(proposed, pairs, self._width, strict=True)
        )
        if still:
            return None
        self._late = [True] * len(proposed)
        self._proposed = proposed
        return [m.p for m in proposed]

    def _shape(self, values: list[float]) -> list[float]:
        self._proposed = [self._one(i, x) for i, x in enumerate(values)]
        shaped = [m.p for m in self._proposed]
        return values if shaped == values else shaped

    def _one(self, i: int, x: float) -> Motion:
        """Return the motion of element `i` that `x` leads to, or the nearest one."""
        m, slack = self._motions[i], self._slack[i]
        axis = self._axes[i]
        if self._starting:
            axis = axis._replace(speed=min(axis.speed, self._first[i]))
        if not self._late[i] and feasible(axis, m, x, slack):
            return m.at(x)
        new = approach(axis, m, x, slack)
        self._late[i] = not abs(new.p - x) <= slack
        return new if self._late[i] else Motion(x, new.v, new.a)

    def _settle_in(self, axes: list[Axis]) -> None:
        self._axes = axes
        self._slack = [rounding(x) for x in axes]
        self._width = [x.high - x.low for x in axes]
        self._speed = [x.speed for x in axes]
        self._calm = [
            _calm(x, far) for x, far in zip(axes, self._stopping(axes), strict=True)
        ]

    def _stopping(self, axes: list[Axis]) -> list[float]:
        known: dict[tuple[float, ...], float] = {}
        for x in axes:
            if x[2:] not in known:
                known[x[2:]] = stopping_distance(x)
        return [known[x[2:]] for x in axes]


def limits_axes(limits: Limits) -> list[Axis]:
    """Return the limits of each element in units per period; margins are taken off."""
    period_s = limits.period_s
    rows = zip(
        map(float.__add__, limits.low, limits.margin_low),
        map(float.__sub__, limits.high, limits.margin_high),
        limits.velocity,
        limits.acceleration,
        limits.jerk,
        limits.step,
        strict=True,
    )
    return [
        Axis(low, high, min(v * period_s, step), a * period_s**2, j * period_s**3)
        for low, high, v, a, j, step in rows
    ]


def _calm(axis: Axis, far: float) -> tuple[float, float, float, float, float]:
    """Return low, high, speed, surge and jolt within which all is feasible.

    Farther from the bounds than the longest way to rest, and slower than the speed
    limit by all that easing off an acceleration can add.
    """
    added, left = 0.0, axis.surge - axis.jolt
    while left > 0.0:
        added, left = added + left, left - axis.jolt
    slack = rounding(axis)
    return (
        axis.low + far,
        axis.high - far,
        axis.speed + slack - added,
        axis.surge + slack,
        axis.jolt + slack,
    )
