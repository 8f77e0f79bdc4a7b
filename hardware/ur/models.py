"""What the e-series arms are: names, limits, home, geometry, and how they are moved.

Joint ranges and speeds are those of Universal Robots' technical details (the elbow is
narrower here, as in their own ROS description: it cannot turn around); geometry is
their published Denavit-Hartenberg table.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import msgspec

from robostack.spec import ArraySpec, RobotSpec

JOINTS = (
    "shoulder_pan_joint",
    "shoulder_lift_joint",
    "elbow_joint",
    "wrist_1_joint",
    "wrist_2_joint",
    "wrist_3_joint",
)
PERIOD_S = 0.02
MARGIN = 0.1  # [rad] that actions keep from the ends of the joints
HOME = (0.0, -math.pi / 2, math.pi / 2, -math.pi / 2, -math.pi / 2, 0.0)  # [rad]
_TURN = 2 * math.pi
_RANGE = (_TURN, _TURN, math.pi, _TURN, _TURN, _TURN)  # [rad] to either side
_TIP_LIMIT = 3.0  # [m] and more than the reach with any tool
_FORCE, _TORQUE = 1000.0, 200.0  # [N], [Nm]; a protective stop comes long before


class Model(NamedTuple):
    """One size of arm."""

    name: str
    speed: tuple[float, ...]  # [rad/s] of each joint at most
    a: tuple[float, ...]  # [m] Denavit-Hartenberg, as is d
    d: tuple[float, ...]


_FAST, _SLOW, _WRIST = math.radians(180), math.radians(120), math.radians(360)

MODELS = {
    model.name: model
    for model in (
        Model(
            "ur3e",
            (_FAST,) * 3 + (_WRIST,) * 3,
            (0.0, -0.24355, -0.2132, 0.0, 0.0, 0.0),
            (0.15185, 0.0, 0.0, 0.13105, 0.08535, 0.0921),
        ),
        Model(
            "ur5e",
            (_FAST,) * 6,
            (0.0, -0.425, -0.3922, 0.0, 0.0, 0.0),
            (0.1625, 0.0, 0.0, 0.1333, 0.0997, 0.0996),
        ),
        Model(
            "ur10e",
            (_SLOW,) * 2 + (_FAST,) * 4,
            (0.0, -0.6127, -0.57155, 0.0, 0.0, 0.0),
            (0.1807, 0.0, 0.0, 0.17415, 0.11985, 0.11655),
        ),
        Model(
            "ur16e",
            (_SLOW,) * 2 + (_FAST,) * 4,
            (0.0, -0.4784, -0.36, 0.0, 0.0, 0.0),
            (0.1807, 0.0, 0.0, 0.17415, 0.11985, 0.11655),
        ),
    )
}
TWISTS = (math.pi / 2, 0.0, 0.0, math.pi / 2, -math.pi / 2, 0.0)  # [rad] of all sizes


class Care(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the driver moves the arm, and for how long it trusts the connection."""

    target_speed: float = 1.0  # [rad/s] of a target at most, whatever the joint can
    homing_speed: float = 0.5  # [rad/s] of the joint with the longest way
    lag: float = 0.5  # [rad] behind its target: the joint is blocked
    arrival: float = 0.02  # [rad] from home that will do
    settle_s: float = 2.0  # to get there after the last target
    lookahead_s: float = 0.1  # of servoj: smooths, and delays (0.03 to 0.2)
    gain: float = 300.0  # of servoj (100 to 2000)
    braking: float = 10.0  # [m/s^2] of the tool at a stop
    braking_joint: float = 4.0  # [rad/s^2]
    watchdog_hz: float = 4.0  # slower than this, the controller ends the program
    stale_s: float = 0.2  # without a new package: the connection is lost
    connect_s: float = 2.0  # to open a port
    answer_s: float = 1.0  # for the control program to do as it is told
    start_s: float = 5.0  # for the control program to run


CARE = Care()
PATIENT = Care(watchdog_hz=1.0, stale_s=1.0, connect_s=5.0)  # with an emulated arm


def make_spec(model: Model, care: Care = CARE) -> RobotSpec:
    """Return the spec of an arm of that size."""
    reach = tuple(turn - MARGIN for turn in _RANGE)
    low, high = tuple(-x for x in reach), reach
    speeds = tuple(min(x, care.target_speed) for x in model.speed)
    radians, wrench = ("rad",) * 6, ("N",) * 3 + ("Nm",) * 3
    most = (_FORCE,) * 3 + (_TORQUE,) * 3
    return RobotSpec(
        name=model.name,
        control_period_s=PERIOD_S,
        command_timeout_s=5 * PERIOD_S,
        control="position",
        tracks="joint_position",
        observation={
            "joint_position": ArraySpec.uniform(JOINTS, "rad", -_TURN, _TURN),
            "joint_velocity": ArraySpec(
                JOINTS,
                ("rad/s",) * 6,
                tuple(-2 * x for x in model.speed),
                tuple(2 * x for x in model.speed),
            ),
            "tip_position": ArraySpec.uniform(
                ("tip_x", "tip_y", "tip_z"), "m", -_TIP_LIMIT, _TIP_LIMIT
            ),
            "tip_axes": ArraySpec.uniform(
                ("xx", "xy", "xz", "yx", "yy", "yz"), "1", -1.0, 1.0
            ),
            "tip_wrench": ArraySpec(
                ("fx", "fy", "fz", "tx", "ty", "tz"),
                wrench,
                tuple(-x for x in most),
                most,
            ),
        },
        cameras={},
        action=ArraySpec(JOINTS, radians, low, high),
        home=HOME,
        max_action_step=tuple(x * PERIOD_S for x in speeds),
        conventions={
            "frame": "arm base, as the controller has it: z up if mounted on a floor",
            "zero pose": "Universal Robots': arm stretched out, level, towards -x",
            "sign": "right-handed about each joint's axis, as the pendant shows",
            "tip": "the tool centre point that is set on the pendant",
            "tip_axes": "the tool's x axis, then its y axis, in the base frame",
            "tip_wrench": "at the tool centre point, in the base frame, as measured",
        },
    )
