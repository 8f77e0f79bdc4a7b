"""What the fake robot is: names, units, limits, and how its joints move.

Each joint follows its target q* as a critically damped spring,

    acceleration = w^2 (q* - q) - 2 w v        w = 1 / 0.05 s

which over a time t of constant target has the closed form used here, so that the path
depends on when actions came, and not on how often somebody looked.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from robostack.spec import ArraySpec, RobotSpec

_JOINTS = ("shoulder", "elbow")
_W = 20.0  # [1/s]

SPEC = RobotSpec(
    name="fake",
    control_period_s=0.02,
    command_timeout_s=0.1,
    control="position",
    tracks="joint_position",
    observation={
        "joint_position": ArraySpec.uniform(_JOINTS, "rad", -1.6, 1.6),
        "joint_velocity": ArraySpec.uniform(_JOINTS, "rad/s", -10.0, 10.0),
    },
    cameras={},
    action=ArraySpec.uniform(_JOINTS, "rad", -1.5, 1.5),
    home=(0.0, 0.0),
    max_action_step=(0.1, 0.1),
    conventions={"zero pose": "both joints straight", "sign": "positive is up"},
)


class Joints(NamedTuple):
    """Position [rad] and velocity [rad/s] of every joint, (2,) each."""

    position: npt.NDArray[np.float64]
    velocity: npt.NDArray[np.float64]

    def after(self, seconds: float, target: npt.NDArray[np.float64]) -> Joints:
        """Return the joints `seconds` later, all that time drawn to `target` (2,)."""
        gap = self.position - target
        slope = self.velocity + _W * gap
        decay = np.exp(-_W * seconds)
        position = target + (gap + slope * seconds) * decay
        velocity = (self.velocity - _W * slope * seconds) * decay
        return Joints(position, velocity)
