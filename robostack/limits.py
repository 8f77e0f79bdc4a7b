"""What a node enforces on every action and reading, and what of it a spec implies.

Bounds, largest step and first command hold for every robot. Where an action is a target
for something measured, so do velocity, acceleration and jerk of the target: its finite
differences at the control period, divided by the period once, twice and three times.
Limits come from the spec, the driver, or a file that the node loads; never from a
client.
"""

from __future__ import annotations

import hashlib
import math

import msgspec

from robostack.spec import RobotSpec

_FIRST_RAD = 0.05  # largest first step from where the robot was measured
_FIRST_PART = 0.02  # the same for elements in other units, in parts of their range
_GATE_RAD = 0.8  # distance of a first command that is refused; GELLO's
_GATE_PART = 0.25
_MARGIN_RAD = 0.1  # that targets keep from the bounds of what they are for
_MARGIN_PART = 0.02
_CHATTER = 10  # commands in a row of which half may not be reversals

Numbers = tuple[float, ...]


class Box(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where an observation array may be; outside by more than the tolerance: FAULT."""

    low: Numbers
    high: Numbers
    tolerance: float = 0.0  # in the array's unit


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the node enforces on every action, element by element."""

    names: tuple[str, ...]
    period_s: float  # control period, at which differences are taken
    low: Numbers  # bounds of the action
    high: Numbers
    margin_low: Numbers  # that targets keep from them
    margin_high: Numbers
    step: Numbers  # largest change per control period
    velocity: Numbers  # of a target, per second; (): this and the next two are none
    acceleration: Numbers
    jerk: Numbers
    first: Numbers  # largest distance of the first action from where we are
    gate: Numbers  # distance of a first request from there that is refused; (): none
    boxes: dict[str, Box]  # by observation array
    outside_per_s: float  # commands out of bounds, within one second, before FAULT
    reversals: int  # commands that turn round beyond the largest step, before FAULT,
    reversals_s: float  # within this time [s]
    command_timeout_s: float  # without a fresh command for this long: HOLD
    safe_after_s: float  # without one for this long: SAFE

    @property
    def digest(self) -> str:
        """Identity of these limits: 16 hexadecimal digits."""
        content = msgspec.json.encode(self, order="sorted")
        return hashlib.sha256(content).hexdigest()[:16]


def derive(spec: RobotSpec) -> Limits:
    """Return the limits that follow from a spec alone.

    The first action is held near the measured array that `spec.tracks` names; where an
    action is no target for anything measured, one step from home. More than half of
    the commands of one second out of bounds means that their author works in other
    units, and is a FAULT.

    So are reversals in half of ten commands in a row: an element was to go farther than
    its largest step, and in the very next command as far back. Who is merely far from
    where he wants to be is clamped one way only, command after command. What comes of
    a wrong scale is thrown about, and a robot on legs has less than a second.

    A spec knows how fast a target may be, not how fast it may get so. Its acceleration
    is let reach full speed within one period (two from full speed to full reverse), its
    jerk change from full acceleration to full braking within one: enough for the
    quickest policy at hand, a dog's gait, and half of what steps alone would allow. A
    driver that knows its motors says less by `limits(argument)`.
    """
    action, step, period_s = spec.action, spec.max_action_step, spec.control_period_s
    tracks = bool(spec.tracks)
    shaped = tracks and spec.control == "position"
    ranges = list(zip(action.units, action.low, action.high, strict=True))
    near = [_FIRST_RAD if u == "rad" else _FIRST_PART * (b - a) for u, a, b in ranges]
    far = (_GATE_RAD if u == "rad" else _GATE_PART * (b - a) for u, a, b in ranges)
    margins = _margins(spec) if shaped else [(0.0, 0.0)] * action.size
    velocity = tuple(most / period_s for most in step) if shaped else ()
    return Limits(
        names=action.names,
        period_s=period_s,
        low=action.low,
        high=action.high,
        margin_low=tuple(low for low, _ in margins),
        margin_high=tuple(high for _, high in margins),
        step=step,
        velocity=velocity,
        acceleration=tuple(x / period_s for x in velocity),
        jerk=tuple(2 * x / period_s**2 for x in velocity),
        first=tuple(map(min, step, near)) if tracks else step,
        gate=tuple(map(max, near, far)) if tracks else (),
        boxes={},
        outside_per_s=0.5 / period_s,
        reversals=_CHATTER // 2 - 1,
        reversals_s=_CHATTER * period_s,
        command_timeout_s=spec.command_timeout_s,
        safe_after_s=max(0.5, 2 * spec.command_timeout_s),
    )


def _margins(spec: RobotSpec) -> list[tuple[float, float]]:
    """Return how far from each bound targets stay, (A, 2).

    So far that the joint has room to overshoot in, but never more than half way home.
    """
    action, joint = spec.action, spec.observation[spec.tracks]
    rows = zip(
        action.units, action.low, action.high, joint.low, joint.high, spec.home,
        strict=True,
    )  # fmt: skip
    margins = []
    for unit, low, high, joint_low, joint_high, home in rows:
        width = joint_high - joint_low
        room = _MARGIN_RAD if unit == "rad" else _MARGIN_PART * width
        if not math.isfinite(room):
            room = 0.0
        below, above = joint_low + room - low, high - (joint_high - room)
        margins.append(
            (
                min(max(below, 0.0), (home - low) / 2),
                min(max(above, 0.0), (high - home) / 2),
            )
        )
    return margins
