"""A scripted and imperfect operator of the table: what the logs are made of.

The plan of a person who pushes with a closed gripper:

    approach   at a height, to behind the cube as seen from the goal, then down
    push       straight through the cube until the goal
    leave      up, and end the episode, or try again if the cube is elsewhere

and the faults of one, drawn for each episode: the cube is seen elsewhere than it is,
the goal is held for nearer, farther or on the other side, the hand is slow, trembles
and hesitates. What is done follows from where tip and cube are, nearly everywhere, so
that a policy without memory can learn it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from robostack.spec import Array, float32

from . import table
from .kinematics import Arm, Vector

LOW_Z, HIGH_Z = 0.015, 0.075  # [m] of the tip when it pushes, and when it travels
STAND_OFF = 0.056  # [m] from the cube's centre to the tip, behind it
PUSH_OFF = 0.028  # [m] the same while they touch
NEAR = 0.012  # [m] at which a place counts as reached
WAIT = 3  # [steps] of a satisfied or resigned operator before the episode is ended
TREMOR_SHARE = np.array([1.0, 1.0, 1.0, 1.0, 1.5, 0.5])  # joint by joint


class Fault(NamedTuple):
    """What is wrong with the operator in one episode."""

    aim: Vector  # (2,) error of the seen cube position [m]
    goal: Vector  # (2,) where the operator pushes to [m]
    speed: float  # [m/s] of the tip
    tremor: float  # [rad] standard deviation of the noise on targets, before smoothing
    pause: float  # probability per step to begin to hesitate
    attempts: int


def operator(
    task: str, seed: int, skill: float = 0.5
) -> Callable[[dict[str, Array]], Array | None]:
    """Return a new operator for one episode: readings in, joint targets (6,) out.

    It returns None when it wants the episode to end.

    Args:
        task: "push_left" or "push_right".
        seed: fixes all faults of the episode.
        skill: 1 makes hardly a mistake, 0 hardly anything else.
    """
    rng = np.random.default_rng(seed)
    return _Operator(draw(task, rng, 1.0 - skill), rng)


def draw(task: str, rng: np.random.Generator, clumsiness: float) -> Fault:
    """Return the faults of one episode; `clumsiness` is from 0 to 1."""
    goal = table.goal(task)
    kind = rng.random() / max(clumsiness, 1e-9)
    if kind < 0.2:
        goal = goal * (1, -1)  # the wrong direction
    elif kind < 0.6:
        goal = goal * (1, rng.uniform(0.0, 0.6))  # stops early
    elif kind < 0.8:
        goal = goal * (1, rng.uniform(1.4, 1.7))  # goes too far
    return Fault(
        aim=rng.normal(0.0, 0.025 * clumsiness, 2),
        goal=goal + rng.normal(0.0, 0.015 * clumsiness, 2),
        speed=rng.uniform(0.22 - 0.08 * clumsiness, 0.24),
        tremor=0.03 + 0.04 * clumsiness,
        pause=0.04 * clumsiness,
        attempts=2 if rng.random() < 1.0 - 0.6 * clumsiness else 1,
    )


class _Operator:
    def __init__(self, fault: Fault, rng: np.random.Generator) -> None:
        self._fault, self._rng = fault, rng
        self._arm = Arm()
        self._tremor = np.zeros(6)
        self._phase: Literal["approach", "push", "leave"] = "approach"
        self._paused = self._waited = 0
        self._attempts = fault.attempts

    def __call__(self, reading: dict[str, Array]) -> Array | None:
        joints = reading["joint_position"].astype(np.float64)
        cube = reading["cube_position"][:2] + self._fault.aim
        tip = self._arm.tip(joints)
        move = self._move(tip, cube)
        if self._waited > WAIT:
            return None
        move = _shorten(move, self._fault.speed * table.PERIOD_S)
        if self._hesitates():
            move = np.zeros(3)
        noise = self._rng.normal(0.0, self._fault.tremor, 6) * TREMOR_SHARE
        self._tremor = 0.7 * self._tremor + 0.3 * noise
        target = joints + self._arm.solve(joints, move) + self._tremor
        return table.SPEC.action.clip(float32(target))

    def _move(self, tip: Vector, cube: Vector) -> Vector:
        """Return how far (3,) the tip should go, and step from phase to phase."""
        goal = self._fault.goal
        if self._phase == "approach":
            if behind(tip, cube, goal) and tip[2] < LOW_Z + NEAR:
                self._phase = "push"
            return approach(tip, cube, goal)
        if self._phase == "push":
            move = push(tip, cube, goal)
            if np.linalg.norm(move) < NEAR:
                self._phase = "leave"
            return move
        if tip[2] > HIGH_Z - NEAR:
            self._leave(cube)
        return np.array([0.0, 0.0, HIGH_Z - tip[2]])

    def _leave(self, cube: Vector) -> None:
        """Wait for the end, or try again."""
        there = float(np.linalg.norm(self._fault.goal - cube)) < 2 * NEAR
        if there or self._attempts == 1:
            self._waited += 1
        else:
            self._attempts -= 1
            self._phase = "approach"

    def _hesitates(self) -> bool:
        if self._paused == 0 and self._rng.random() < self._fault.pause:
            self._paused = int(self._rng.integers(3, 10))
        self._paused = max(0, self._paused - 1)
        return self._paused > 0


def approach(tip: Vector, cube: Vector, goal: Vector) -> Vector:
    """Return the way (3,) from `tip` (3,) to behind `cube` (2,), down a funnel [m]."""
    way = cube - STAND_OFF * _toward(cube, goal) - tip[:2]
    high = _ramp(float(np.linalg.norm(way)), 0.01, 0.03)
    return np.array([*way, LOW_Z + high * (HIGH_Z - LOW_Z) - tip[2]])


def behind(tip: Vector, cube: Vector, goal: Vector) -> bool:
    """Return whether `tip` is behind `cube`, as seen from `goal`."""
    way = cube - STAND_OFF * _toward(cube, goal) - tip[:2]
    return float(np.linalg.norm(way)) < 2 * NEAR


def push(tip: Vector, cube: Vector, goal: Vector) -> Vector:
    """Return the way (3,) of `tip` to where `cube` would be at `goal` [m].

    On that way the tip is kept on the line through cube and goal, while the cube is
    between the two.
    """
    forward = _toward(tip[:2], goal)
    way = goal - PUSH_OFF * forward - tip[:2]
    ahead = float((cube - tip[:2]) @ forward)
    left = float((goal - cube) @ forward)
    steer = np.zeros(2)
    if ahead > 0.0 and left > 0.03:
        line = _toward(cube, goal)
        offset = tip[:2] - cube
        steer = (offset @ line) * line - offset
    return np.array([*(way + 5.0 * steer), LOW_Z - tip[2]])


def _toward(start: Vector, end: Vector) -> Vector:
    """Return the direction (2,) from `start` to `end`."""
    return (end - start) / (np.linalg.norm(end - start) + 1e-9)


def _ramp(value: float, zero: float, one: float) -> float:
    """Return 0 up to `zero`, 1 from `one` on, and a straight line in between."""
    return float(np.clip((value - zero) / (one - zero), 0.0, 1.0))


def _shorten(move: Vector, length: float) -> Vector:
    return move * min(1.0, length / (float(np.linalg.norm(move)) + 1e-9))
