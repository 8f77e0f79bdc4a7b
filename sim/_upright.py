"""Swinging up and staying there: what the tasks of the pendulums have in common.

Height is that of the tip over the pivot in parts of the arm's length: -1 hanging, 1
upright. All functions are of logged columns, so that logs without rewards get them too.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from robostack.robot import Columns, Mask, Task
from robostack.spec import Array, float32

LINE = 0.9  # height above which the arm counts as up
HOLD_S = 0.5  # for how long, without a break, it has to be up

_SPEED_COST = 0.0005  # per (rad/s)^2
_TORQUE_COST = 0.001  # per (N m)^2


def task(
    instruction: str,
    height: Callable[[Array], Array],
    period_s: float,
    episode_s: float,
) -> Task:
    """Return the swing-up of an arm whose tip is at `height(joint_position)`."""
    rows = round(HOLD_S / period_s)

    def reward(columns: Columns) -> Array:
        up = (1 + height(columns["joint_position"][1:])) / 2
        speed = np.square(columns["joint_velocity"][1:]).sum(-1)
        torque = np.square(columns["action"]).sum(-1)
        return float32(up - _SPEED_COST * speed - _TORQUE_COST * torque)

    def success(columns: Columns) -> Mask:
        return held(height(columns["joint_position"]) > LINE, rows)

    def terminated(columns: Columns) -> Mask:
        return np.zeros(len(columns["action"]), np.bool_)

    horizon = round(episode_s / period_s)
    return Task(instruction, horizon, reward, success, terminated)


def held(condition: Mask, rows: int) -> Mask:
    """Return where `condition` (T+1,) is true and was, for `rows` rows before too."""
    index = np.arange(len(condition))
    last_false = np.maximum.accumulate(np.where(condition, -1, index))
    return index - last_false > rows
