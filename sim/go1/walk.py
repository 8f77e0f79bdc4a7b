"""Walking as commanded: reward, success and end, row by row of logged columns."""

from __future__ import annotations

import numpy as np

from robostack.robot import Columns, Mask, Task
from robostack.spec import Array, float32

from . import dog

HORIZON = 500  # [steps] 10 s
UPRIGHT = 0.5  # least share of gravity along the trunk's down: tilted by 60 degrees
LOW = 0.15  # [m] height of the trunk below which it lies; it walks at 0.25 to 0.31
VARIANCE = 0.25  # [(m/s)^2, (rad/s)^2] Playground's tracking_sigma
TURN_WEIGHT = 0.5  # Playground's tracking_ang_vel; that of moving is 1
SLACK = np.array([0.3, 0.3, 0.6])  # m/s, m/s, rad/s: a gait sways
WAY_SLACK, WAY_PART = 0.1, 0.1  # [m, rad], and parts of the way, it may be off by


def standing(columns: Columns) -> Mask:
    """Return where (T + 1,) the dog is on its legs.

    Its height is for the referee only; logs without truths are judged by tilt.
    """
    upright = columns["gravity"][:, 2] < -UPRIGHT
    if "truth.base_position" in columns:
        upright = upright & (columns["truth.base_position"][:, 2] > LOW)
    return np.asarray(upright)


def _error(columns: Columns) -> Array:
    """Return how far (T + 1, 3) velocities are from the command."""
    moving = columns["linear_velocity"][:, :2]
    turning = columns["gyro"][:, 2:]
    return np.concatenate([moving, turning], axis=1) - columns["command"]


def _reward(columns: Columns) -> Array:
    """Return Playground's two tracking terms, a second of perfection worth 1.5."""
    square = np.square(_error(columns)[1:])
    moving = np.exp(-square[:, :2].sum(axis=1) / VARIANCE)
    turning = np.exp(-square[:, 2] / VARIANCE)
    earned = (moving + TURN_WEIGHT * turning) * standing(columns)[1:]
    return float32(earned * dog.PERIOD_S)


def _success(columns: Columns) -> Mask:
    good = standing(columns) & (np.abs(_error(columns)) < SLACK).all(axis=1)
    if "truth.way" in columns:
        good = good & _on_the_way(columns["truth.way"], columns["truth.way_commanded"])
    return np.asarray(good)


def _on_the_way(way: Array, asked: Array) -> Mask:
    """Return where (T + 1,) the `way` (T + 1, 3) is about the one `asked` for.

    A radian counts as a metre: turning on the spot wanders, and walking veers.
    """
    off, length = np.linalg.norm(way - asked, axis=1), np.linalg.norm(asked, axis=1)
    return np.asarray(off <= WAY_SLACK + WAY_PART * length)


def _terminated(columns: Columns) -> Mask:
    return ~standing(columns)[1:]


TASK = Task(
    instruction="walk as commanded, and do not fall",
    horizon=HORIZON,
    reward=_reward,
    success=_success,
    terminated=_terminated,
)
