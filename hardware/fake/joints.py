"""What the fake robot is: names, units, limits, and why its joints keep them.

Each joint follows its set point s as a critically damped spring,

    acceleration = w^2 (s - q) - 2 w v        w = 1 / 0.05 s

in physics steps of 1 ms. The set point is drawn through the targets q_k, one a control
period, as a cubic B-spline, s(t) = sum_k q_k B3(t / T - k).

*If the targets are within limits, so are the joints, at every physics step.* The
spline's derivatives are splines of the targets' differences, s' = sum_k (q_k - q_{k-1})
/ T B2, and so on with B1 and B0, whose weights are positive and sum to 1: position,
velocity, acceleration and jerk of the set point are averages of those of the targets.
The joint's response to an impulse, w^2 t exp(-w t), is positive, and its integral is 1:
what the joint does is again an average, over the past, of what the set point did. An
average is within the limits of what it is of. Sampled at physics steps both hold
without error, for the differences of s between steps are averages of its derivatives.
"""

from __future__ import annotations

import math

from robostack.spec import ArraySpec, RobotSpec

JOINTS = ("shoulder", "elbow")
_W = 20.0  # [1/s]
TICK_S = 0.001  # physics step
MAX_SPEED = 5.0  # [rad/s]
MAX_ACCELERATION = 50.0  # [rad/s^2] of the joints; to full speed in 0.1 s
MAX_JERK = 1000.0  # [rad/s^3]

SPEC = RobotSpec(
    name="fake",
    control_period_s=0.02,
    command_timeout_s=0.1,
    control="position",
    tracks="joint_position",
    observation={
        "joint_position": ArraySpec.uniform(JOINTS, "rad", -1.6, 1.6),
        "joint_velocity": ArraySpec.uniform(JOINTS, "rad/s", -10.0, 10.0),
    },
    cameras={},
    action=ArraySpec.uniform(JOINTS, "rad", -1.5, 1.5),
    home=(0.0, 0.0),
    max_action_step=(0.1, 0.1),
    conventions={"zero pose": "both joints straight", "sign": "positive is up"},
)
REST = 1e-9  # [rad], and [rad/s]: nobody sees it move
PERIOD_TICKS = round(SPEC.control_period_s / TICK_S)


class Joint:
    """One joint: position [rad] and velocity [rad/s] at physics steps."""

    _DECAY = math.exp(-_W * TICK_S)
    _A = (1.0 + _W * TICK_S) * _DECAY  # closed form of the spring over one step
    _B = TICK_S * _DECAY
    _C = -_W * _W * TICK_S * _DECAY
    _D = (1.0 - _W * TICK_S) * _DECAY

    def __init__(self, position: float) -> None:
        self.position = position
        self.velocity = 0.0

    def step(self, point: float) -> float:
        """Be drawn to the set `point` for one physics step; return the position."""
        gap, speed = self.position - point, self.velocity
        self.position = point + self._A * gap + self._B * speed
        self.velocity = self._C * gap + self._D * speed
        return self.position


class Spline:
    """A cubic B-spline through the newest four targets of one joint."""

    def __init__(self, target: float) -> None:
        self._knots = [target] * 4

    def add(self, target: float) -> None:
        """Begin the next control period, in which `target` is the newest."""
        self._knots = [*self._knots[1:], target]

    def points(self, ticks: range) -> list[float]:
        """Return the set points at `ticks` within this control period."""
        a, b, c, d = self._knots
        points = []
        for tick in ticks:
            u = (tick + 1) / PERIOD_TICKS
            w = 1.0 - u
            points.append(
                a * w**3 / 6
                + b * (3 * u**3 - 6 * u**2 + 4) / 6
                + c * (3 * w**3 - 6 * w**2 + 4) / 6
                + d * u**3 / 6
            )
        return points

    def at_rest(self) -> bool:
        """Return whether it stands where its newest target is."""
        return max(self._knots) - min(self._knots) < REST
