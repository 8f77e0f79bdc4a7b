"""What the SO-101 is: names, limits, home, and how carefully it is moved.

The numbers of the spec are those of `sim:so101_table`, and a test compares them. What
that world has beyond this (the cube's position, two cameras) no servo can tell.
"""

from __future__ import annotations

import msgspec

from robostack.robot import Ending
from robostack.spec import ArraySpec, RobotSpec

JOINTS = (
    "shoulder_pan",
    "shoulder_lift",
    "elbow_flex",
    "wrist_flex",
    "wrist_roll",
    "gripper",
)
LOW = (-1.91986, -1.74533, -1.69, -1.65806, -2.74385, -0.17453)  # [rad]
HIGH = (1.91986, 1.74533, 1.69, 1.65806, 2.84121, 1.74533)  # [rad]
HOME = (0.0, -0.9, 0.75, 1.35, 0.0, -0.15)  # [rad]
PERIOD_S = 0.05
MAX_SPEED = 2.0  # [rad/s] of a target

SPEC = RobotSpec(
    name="so101",
    control_period_s=PERIOD_S,
    command_timeout_s=3 * PERIOD_S,
    control="position",
    tracks="joint_position",
    observation={
        "joint_position": ArraySpec(JOINTS, ("rad",) * 6, LOW, HIGH),
        "tip_position": ArraySpec.uniform(("tip_x", "tip_y", "tip_z"), "m", -0.6, 0.6),
    },
    cameras={},
    action=ArraySpec(JOINTS, ("rad",) * 6, LOW, HIGH),
    home=HOME,
    max_action_step=(MAX_SPEED * PERIOD_S,) * 6,
    conventions={
        "frame": "arm base: x forward, y left, z up",
        "zero pose": "so101_new_calib: arm stretched forward, gripper closed",
        "tip_position": "site gripperframe, by forward kinematics of joint_position",
    },
)


class Care(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the driver holds the servos to, beyond the spec."""

    torque_limit: tuple[int, ...] = (1000, 1000, 1000, 1000, 1000, 500)  # [0.1 %]
    hottest_c: int = 60  # at or above this: a fault; the servo's own limit is 70
    servo_speed: float = 2.5  # [rad/s] at most, whatever goal a servo gets
    servo_acceleration: float = 30.0  # [rad/s^2]
    homing_speed: float = 0.5  # [rad/s] of the joint with the longest way
    homing_tick_s: float = 0.02  # between two goals on the way home
    lag: float = 0.35  # [rad] behind its goal: the joint is blocked
    arrival: float = 0.04  # [rad] from home that will do
    settle_s: float = 1.0  # to get there after the last goal
    outside: float = 0.1  # [rad] beyond its limits from where a joint is not moved
    rest: float = 0.03  # [rad] from its goal at which a stopped joint keeps the goal
    lowering_s: float = 1.0  # in which close() lets go of the arm


CARE = Care()

ENDING = Ending(safe="hold", close="home", orphan="hold", orphan_s=0.5)
