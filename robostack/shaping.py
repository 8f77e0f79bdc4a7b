"""Targets that a joint can follow: velocity, acceleration and jerk within limits.

Times are counted in control periods, so that velocity v, acceleration a and jerk are
the first, second and third differences of the targets p:

    a' = a + jerk,  v' = v + a',  p' = p + v'     |v| <= speed, |a| <= surge,
                                                  |jerk| <= jolt, low <= p <= high

A motion (p, v, a) is safe if it can be braked to rest within all of them. A target is
feasible if the motion it leads to is safe. So from every safe motion there is a
feasible target, the next one of its braking, and its motion is safe again: whatever is
asked for, the shaper can go on for ever.

Braking (`brake`) is the quickest way to v = a = 0, and lands there exactly. Easing an
acceleration a > 0 off by `jolt` a period still adds B(a) to the velocity; the sum a +
B(a) is piecewise linear, and `ease` is its inverse:

    v stays below `speed`     while v' + B(a') <= speed:   a' <= ease(speed - v)
    braking ends at v = 0     with a' = -ease(v)
"""

from __future__ import annotations

import math
from typing import NamedTuple

_HALVINGS = 30  # of an acceleration between one that is too much and one that is not
_ROUNDING = 2.0**-24  # of a float32, in parts of its size


class Axis(NamedTuple):
    """Limits of one element, in units of the action per control period."""

    low: float
    high: float
    speed: float
    surge: float
    jolt: float


class Motion(NamedTuple):
    """A target, and its first and second difference."""

    p: float
    v: float
    a: float

    def after(self, a: float) -> Motion:
        """Return the motion one period later, the acceleration then being `a`."""
        v = self.v + a
        return Motion(self.p + v, v, a)

    def at(self, p: float) -> Motion:
        """Return the motion one period later, the target then being `p`."""
        v = p - self.p
        return Motion(p, v, v - self.v)


def ease(change: float, jolt: float) -> float:
    """Return the acceleration that, eased off from now on, adds `change` >= 0 to v."""
    n = int((math.sqrt(1.0 + 8.0 * max(change, 0.0) / jolt) - 1.0) / 2.0)
    return (change + jolt * n * (n + 1) / 2.0) / (n + 1)


def brake(axis: Axis, m: Motion) -> float:
    """Return the next acceleration on the quickest way to rest."""
    wanted = -math.copysign(ease(abs(m.v), axis.jolt), m.v)
    low, high = max(m.a - axis.jolt, -axis.surge), min(m.a + axis.jolt, axis.surge)
    return min(max(wanted, low), high)


def stays(axis: Axis, m: Motion, low: float, high: float) -> bool:
    """Return whether the way to rest stays within `low` and `high`."""
    rest = (axis.high - axis.low + 1.0) * 1e-12
    while low <= m.p <= high:
        if abs(m.v) <= rest and abs(m.a) <= axis.jolt:
            return True
        m = m.after(brake(axis, m))
    return False


def window(axis: Axis, m: Motion) -> tuple[float, float]:
    """Return the least and the largest next acceleration that velocity allows."""
    least = max(m.a - axis.jolt, -axis.surge, -ease(axis.speed + m.v, axis.jolt))
    most = min(m.a + axis.jolt, axis.surge, ease(axis.speed - m.v, axis.jolt))
    return least, most


def feasible(axis: Axis, m: Motion, p: float, slack: float) -> bool:
    """Return whether `p` may be the next target."""
    least, most = window(axis, m)
    a = p - m.p - m.v
    if not (least - slack <= a <= most + slack and abs(a + m.v) <= axis.speed + slack):
        return False
    return stays(axis, m.at(p), axis.low - slack, axis.high + slack)


def approach(axis: Axis, m: Motion, goal: float, slack: float) -> Motion:
    """Return the safe motion of the next period that brings `goal` nearest.

    It can still be braked before the goal, if `m` could: who asks for one place again
    and again gets there without overshoot.
    """
    goal = min(max(goal, axis.low), axis.high)
    low, high = axis.low - slack, axis.high + slack
    if goal > m.p:
        high = min(high, goal + slack)
    else:
        low = max(low, goal - slack)
    held = brake(axis, m)
    least, most = window(axis, m)
    wanted = max(min(goal - m.p - m.v, most), least)
    if stays(axis, m.after(wanted), low, high):
        return m.after(wanted)
    if not stays(axis, m.after(held), low, high):
        return m.after(held)
    for _ in range(_HALVINGS):
        middle = (held + wanted) / 2
        if stays(axis, m.after(middle), low, high):
            held = middle
        else:
            wanted = middle
    return m.after(held)


def stopping_distance(axis: Axis) -> float:
    """Return the longest way to rest from any motion that velocity allows."""
    a = min(axis.surge, ease(axis.speed, axis.jolt))
    added, left = 0.0, a - axis.jolt
    while left > 0.0:
        added, left = added + left, left - axis.jolt
    endless = axis._replace(low=-math.inf, high=math.inf)
    m = start = Motion(0.0, max(axis.speed - added, 0.0), a)
    while m.v > 1e-12 * axis.speed:
        m = m.after(brake(endless, m))
    return m.p - start.p


def rounding(axis: Axis) -> float:
    """Return by how much a third difference may be off, its targets being float32s."""
    return 8.0 * _ROUNDING * max(abs(axis.low), abs(axis.high))
