"""The torque-limited simple pendulum of the DFKI: one motor, one arm.

sim:pendulum           the rig: its motor can hold the arm anywhere
sim:pendulum/limited   its torque limited so that it has to pump to swing up
"""

from __future__ import annotations

import numpy as np

from robostack.plugins import PluginError, unknown
from robostack.robot import Task, Variant, World
from robostack.spec import Array, ArraySpec, CameraSpec, RobotSpec

from .. import _upright

JOINTS = ("pivot",)
TORQUE = {"rig": 5.0, "limited": 1.5}  # [N m] bounds of the action
TURNS = 10 * np.pi  # [rad] five turns either way
SPEED = 30.0  # [rad/s]
PERIOD_S = 0.02
EPISODE_S = 10.0
NOMINAL = Variant()


def spec(argument: str = "") -> RobotSpec:
    """Return the spec of the pendulum with all its torque, or `limited`."""
    kind = _kind(argument)
    torque = TORQUE[kind]
    return RobotSpec(
        name=f"pendulum/{kind}",
        control_period_s=PERIOD_S,
        command_timeout_s=0.1,
        control="torque",
        tracks="",
        observation={
            "joint_position": ArraySpec.uniform(JOINTS, "rad", -TURNS, TURNS),
            "joint_velocity": ArraySpec.uniform(JOINTS, "rad/s", -SPEED, SPEED),
        },
        cameras={"front": CameraSpec(height=128, width=128, period_s=0.1)},
        action=ArraySpec.uniform(JOINTS, "N m", -torque, torque),
        home=(0.0,),
        max_action_step=(2 * torque,),
        conventions={
            "zero pose": "the arm hangs straight down",
            "sign": "positive turns the hanging arm towards +x, seen from the camera",
            "turns": "angles count turns and are not wrapped; readings end at 5 turns",
        },
    )


def tasks(argument: str = "") -> dict[str, Task]:
    """Return the tasks, all of them functions of logged observations."""
    _kind(argument)
    instruction = "swing the arm up and keep it balanced upright"
    return {
        "swing_up": _upright.task(instruction, tip_height, TURNS, PERIOD_S, EPISODE_S)
    }


def tip_height(joint_position: Array) -> Array:
    """Return the height of the tip over the pivot, in parts of the arm's length."""
    return np.asarray(-np.cos(joint_position[..., 0]))


def make(argument: str = "", variant: Variant = NOMINAL) -> World:
    """Return the world; the only function here that needs mujoco."""
    from .world import Pendulum

    return Pendulum(spec(argument), variant)


def _kind(argument: str) -> str:
    kind = argument or "rig"
    if kind not in TORQUE:
        raise PluginError(unknown("sim:pendulum/...", kind, list(TORQUE)))
    return kind
