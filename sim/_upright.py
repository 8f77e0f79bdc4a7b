"""Swinging up and staying there: what the tasks of the pendulums have in common.

Height is that of the tip over the pivot in parts of the arm's length: -1 hanging, 1
upright. All functions are of logged columns, row by row, so that logs without rewards
get them too, and one step is judged like a whole episode.

The DFKI's competition counts a swing-up where the tip stays above the line until the
end of the run. A single row cannot say "stays", so `success` also asks for slow joints:
who passes the line in flight is not there yet. Of an episode, look at the last row.

An episode terminates where the readings of an angle end: from there on nobody, task and
policy included, knows where the arm is, and a learner that spun there would go on
learning from steps that all look alike.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from robostack.robot import Columns, Mask, Task
from robostack.spec import Array, float32

LINE = 0.9  # height above which the arm counts as up: 0.45 m of 0.5 m on design C.1
STILL = 1.5  # [rad/s] below which a joint counts as balanced; real runs stay below 0.5

_SPEED_COST = 0.0005  # per (rad/s)^2
_TORQUE_COST = 0.001  # per (N m)^2


def task(
    instruction: str,
    height: Callable[[Array], Array],
    reach: float,
    period_s: float,
    episode_s: float,
) -> Task:
    """Return the swing-up of an arm whose tip is at `height(joint_position)`.

    The reward is 1 upright and 0 hanging, less a little for speed and torque. Readings
    of angles end at +-`reach` [rad].
    """

    def reward(columns: Columns) -> Array:
        up = (1 + height(columns["joint_position"][1:])) / 2
        speed = np.square(columns["joint_velocity"][1:]).sum(-1)
        torque = np.square(columns["action"]).sum(-1)
        return float32(up - _SPEED_COST * speed - _TORQUE_COST * torque)

    def success(columns: Columns) -> Mask:
        still = (np.abs(columns["joint_velocity"]) < STILL).all(-1)
        return still & (height(columns["joint_position"]) > LINE)

    def terminated(columns: Columns) -> Mask:
        wound = np.abs(columns["joint_position"][1:]) >= np.float32(reach)
        return np.asarray(wound.any(-1))

    horizon = round(episode_s / period_s)
    return Task(instruction, horizon, reward, success, terminated)
