"""The double pendulum of the DFKI (design C.1): acrobot, pendubot, or both motors.

sim:double_pendulum            the acrobot: the motor of the elbow is driven
sim:double_pendulum/pendubot   the motor of the shoulder is driven
sim:double_pendulum/full       both are
"""

from __future__ import annotations

import numpy as np

from robostack.plugins import PluginError, unknown
from robostack.robot import Task, Variant, World
from robostack.spec import Array, ArraySpec, CameraSpec, RobotSpec

from .. import _upright

JOINTS = ("shoulder", "elbow")
DRIVEN = {"acrobot": ("elbow",), "pendubot": ("shoulder",), "full": JOINTS}

LENGTHS = (0.2, 0.3)  # [m] of the links, as in world.xml
TORQUE = 6.0  # [N m] limit on the rig
TURNS = 10 * np.pi  # [rad] five turns either way
SPEED = 30.0  # [rad/s]
PERIOD_S = 0.02
EPISODE_S = 10.0  # of the runs on the rig, and of the DFKI's competition
NOMINAL = Variant()


def spec(argument: str = "") -> RobotSpec:
    """Return the spec of the acrobot, the pendubot or the fully actuated arm."""
    kind = _kind(argument)
    driven = DRIVEN[kind]
    return RobotSpec(
        name=f"double_pendulum/{kind}",
        control_period_s=PERIOD_S,
        command_timeout_s=0.1,
        control="torque",
        tracks="",
        observation={
            "joint_position": ArraySpec.uniform(JOINTS, "rad", -TURNS, TURNS),
            "joint_velocity": ArraySpec.uniform(JOINTS, "rad/s", -SPEED, SPEED),
        },
        cameras={"front": CameraSpec(height=128, width=128, period_s=0.1)},
        action=ArraySpec.uniform(driven, "N m", -TORQUE, TORQUE),
        home=(0.0,) * len(driven),
        max_action_step=(2 * TORQUE,) * len(driven),
        conventions={
            "zero pose": "both links hang straight down",
            "elbow": "relative to the upper link",
            "sign": "positive turns a hanging link towards +x, seen from the camera",
            "turns": "angles count turns and are not wrapped; readings end at 5 turns",
        },
    )


def tasks(argument: str = "") -> dict[str, Task]:
    """Return the tasks, all of them functions of logged observations."""
    _kind(argument)
    instruction = "swing both links up and keep them balanced upright"
    return {
        "swing_up": _upright.task(instruction, tip_height, TURNS, PERIOD_S, EPISODE_S)
    }


def tip_height(joint_position: Array) -> Array:
    """Return the height of the tip over the shoulder, in parts of the arm's length."""
    shoulder, elbow = joint_position[..., 0], joint_position[..., 1]
    upper, lower = LENGTHS
    height = -upper * np.cos(shoulder) - lower * np.cos(shoulder + elbow)
    return np.asarray(height / (upper + lower))


def make(argument: str = "", variant: Variant = NOMINAL) -> World:
    """Return the world; the only function here that needs mujoco."""
    from .world import DoublePendulum

    return DoublePendulum(spec(argument), variant)


def _kind(argument: str) -> str:
    kind = argument or "acrobot"
    if kind not in DRIVEN:
        raise PluginError(unknown("sim:double_pendulum/...", kind, list(DRIVEN)))
    return kind
