"""A scripted and imperfect operator of the table: what the logs are made of.

The plan of a person who pushes with a closed gripper, decided anew at every step from
what is seen (so there is no hidden phase):

    not behind the cube   lift, and go over the point behind it (as seen from the goal)
    over that point       come down
    behind and low        push through the cube, straight to the goal
    the cube is there     lift, and wait

and the faults of one, drawn for each episode: the cube is seen elsewhere than it is,
the goal is held for nearer, farther or on the other side, the hand moves too slowly,
trembles, hesitates, does not lift.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from robostack.spec import Array, float32

from . import table
from .kinematics import Arm, Vector

LOW_Z, HIGH_Z = 0.015, 0.075  # [m] of the tip when it pushes, and when it travels
STAND_OFF = 0.056  # [m] from the cube's centre to the tip, behind it
PUSH_OFF = 0.028  # [m] the same while they touch
ARRIVED = 0.012  # [m] from cube to goal at which an operator is content
PATIENCE = 10  # [steps] that a content operator waits before ending the episode


class Fault(NamedTuple):
    """What is wrong with the operator in one episode."""

    aim: Vector  # (2,) error of the seen cube position [m]
    goal: Vector  # (2,) where the operator pushes to [m]
    speed: float  # [m/s] of the tip
    tremor: float  # [rad] standard deviation of the noise on targets
    pause: float  # probability per step to begin to hesitate
    drags: bool  # does not lift on the way to the cube's back


def operator(
    task: str, seed: int, skill: float = 0.5
) -> Callable[[dict[str, Array]], Array | None]:
    """Return a new operator for one episode.

    Args:
        task: "push_left" or "push_right".
        seed: fixes all faults of the episode.
        skill: 1 makes no mistakes, 0 nearly nothing else.
    """
    rng = np.random.default_rng(seed)
    return _Operator(_draw(task, rng, 1.0 - skill), rng)


def _draw(task: str, rng: np.random.Generator, clumsiness: float) -> Fault:
    goal = table.goal(task)
    chance = rng.random(4)
    if chance[0] < 0.2 * clumsiness:
        goal = goal * (1, -1)  # the wrong direction
    elif chance[1] < 0.5 * clumsiness:
        goal = goal * (1, rng.uniform(0.1, 0.6))  # stops early
    elif chance[2] < 0.3 * clumsiness:
        goal = goal * (1, rng.uniform(1.4, 1.8))  # goes too far
    return Fault(
        aim=rng.normal(0.0, 0.024 * clumsiness, 2),
        goal=goal + rng.normal(0.0, 0.015 * clumsiness, 2),
        speed=rng.uniform(0.22 - 0.1 * clumsiness, 0.24),
        tremor=0.03 * clumsiness,
        pause=0.05 * clumsiness,
        drags=bool(chance[3] < 0.3 * clumsiness),
    )


class _Operator:
    def __init__(self, fault: Fault, rng: np.random.Generator) -> None:
        self._fault, self._rng = fault, rng
        self._arm = Arm()
        self._tremor = np.zeros(6)
        self._paused = 0
        self._content = 0  # steps since the cube was seen where it should go

    def __call__(self, reading: dict[str, Array]) -> Array | None:
        """Return joint position targets (6,) [rad], or None to end the episode."""
        joints = reading["joint_position"].astype(np.float64)
        cube = reading["cube_position"][:2] + self._fault.aim
        tip = self._arm.tip(joints)
        if self._is_content(cube):
            return None
        step = self._fault.speed * table.PERIOD_S
        wanted = plan(tip, cube, self._fault.goal, lift=not self._fault.drags)
        move = _shorten(wanted, step)
        if self._hesitates():
            move = np.zeros(3)
        noise = self._rng.normal(0.0, self._fault.tremor, 6) * (1, 1, 1, 1, 1, 0.2)
        self._tremor = 0.7 * self._tremor + 0.3 * noise
        target = joints + self._arm.solve(joints, move) + self._tremor
        return table.SPEC.action.clip(float32(target))

    def _is_content(self, cube: Vector) -> bool:
        near = float(np.linalg.norm(self._fault.goal - cube)) < ARRIVED
        self._content = self._content + 1 if near else 0
        return self._content > PATIENCE

    def _hesitates(self) -> bool:
        if self._paused == 0 and self._rng.random() < self._fault.pause:
            self._paused = int(self._rng.integers(3, 12))
        self._paused = max(0, self._paused - 1)
        return self._paused > 0


def plan(tip: Vector, cube: Vector, goal: Vector, *, lift: bool = True) -> Vector:
    """Return how far (3,) the tip (3,) should be moved, given cube and goal (2,) [m].

    A smooth field, so that it can be learned and averaged: nothing switches.
    """
    way = goal - cube
    distance = float(np.linalg.norm(way))
    forward = way / (distance + 1e-9)
    offset = tip[:2] - cube
    along = float(offset @ forward)
    across = float(np.linalg.norm(offset - along * forward))
    needed = _ramp(distance, 0.008, 0.02)  # 0: the cube is there
    high = _ramp(tip[2], LOW_Z + 0.01, LOW_Z + 0.04) if lift else 0.0
    clear = -0.02 - 0.02 * high  # along, to come down without touching the cube
    ready = needed * _ramp(across, 0.035, 0.015) * _ramp(along, clear, clear - 0.01)
    approach = cube - STAND_OFF * forward - tip[:2]
    push = goal - PUSH_OFF * forward - tip[:2]
    away = high if lift else 1.0 - ready
    plane = (1 - away) * ready * push + away * needed * approach
    height = HIGH_Z - ready * (HIGH_Z - LOW_Z) if lift or not needed else LOW_Z
    return np.array([*plane, height - tip[2]])


def _ramp(value: float, zero: float, one: float) -> float:
    """Return 0 up to `zero`, 1 from `one` on, and a straight line in between."""
    return float(np.clip((value - zero) / (one - zero), 0.0, 1.0))


def _shorten(move: Vector, length: float) -> Vector:
    return move * min(1.0, length / (float(np.linalg.norm(move)) + 1e-9))
