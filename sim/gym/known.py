"""The common MuJoCo tasks of Gymnasium, known without importing it or mujoco.

tests/unit/test_world_gym.py compares every entry with what Gymnasium says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from robostack.robot import Columns, Mask

Rows = Callable[[Columns], Mask]


class Known(NamedTuple):
    """What a spec and a task are made of."""

    position: tuple[str, ...]  # joints whose position is observed, in order
    velocity: tuple[str, ...]  # joints whose velocity is
    action: tuple[str, ...]  # joints that are driven
    limit: float  # of every action element, either way
    period_s: float
    terminated: Rows  # from the readings alone, of every row


def _never(columns: Columns) -> Mask:
    return np.zeros(len(columns["joint_position"]), np.bool_)


def _hopper(columns: Columns) -> Mask:
    position, velocity = columns["joint_position"], columns["joint_velocity"]
    height, pitch = position[:, 0], position[:, 1]
    state = np.concatenate([position[:, 1:], velocity], axis=1)
    healthy = (height > 0.7) & (np.abs(pitch) < 0.2) & (np.abs(state) < 100).all(1)
    return np.asarray(~healthy)


def _walker(columns: Columns) -> Mask:
    height, pitch = columns["joint_position"][:, 0], columns["joint_position"][:, 1]
    return ~((height > 0.8) & (height < 2.0) & (np.abs(pitch) < 1.0))


def _inverted_pendulum(columns: Columns) -> Mask:
    return np.asarray(np.abs(columns["joint_position"][:, 1]) > 0.2)


_ROOT = ("rootx", "rootz", "rooty")
_CHEETAH = ("bthigh", "bshin", "bfoot", "fthigh", "fshin", "ffoot")
_LEG = ("thigh_joint", "leg_joint", "foot_joint")
_LEGS = (*_LEG, "thigh_left_joint", "leg_left_joint", "foot_left_joint")
_SWIMMER = ("free_body_rot", "motor1_rot", "motor2_rot")

_FAMILIES = {
    "HalfCheetah": Known(
        (*_ROOT[1:], *_CHEETAH), (*_ROOT, *_CHEETAH), _CHEETAH, 1.0, 0.05, _never
    ),
    "Hopper": Known((*_ROOT[1:], *_LEG), (*_ROOT, *_LEG), _LEG, 1.0, 0.008, _hopper),
    "Walker2d": Known(
        (*_ROOT[1:], *_LEGS), (*_ROOT, *_LEGS), _LEGS, 1.0, 0.008, _walker
    ),
    "Swimmer": Known(
        _SWIMMER, ("slider1", "slider2", *_SWIMMER), _SWIMMER[1:], 1.0, 0.04, _never
    ),
    "InvertedPendulum": Known(
        ("slider", "hinge"), ("slider", "hinge"), ("slider",), 3.0, 0.04,
        _inverted_pendulum,
    ),
}  # fmt: skip

KNOWN = {
    f"{family}-{version}": known
    for family, known in _FAMILIES.items()
    for version in ("v4", "v5")
}
SLIDES = frozenset({"rootx", "rootz", "slider", "slider1", "slider2"})
HORIZON = 1000  # [steps] of all of them
