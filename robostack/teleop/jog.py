"""Moving a target a little at a time: what keyboard and gamepad share."""

from __future__ import annotations

import numpy as np

from robostack.spec import Array, RobotSpec, float32

_PART = 0.5  # of the largest step of the robot, at full speed


class Jog:
    """A target that a person pushes, and an action that follows it in small steps."""

    def __init__(self, robot: RobotSpec) -> None:
        self.names = robot.action.names
        self._spec = robot.action
        self._step = float32(robot.max_action_step)
        self._action = self._target = float32(robot.home)

    def start(self, action: Array) -> None:
        """Go on from `action` (A,)."""
        self._action = self._target = self._spec.clip(action)

    def push(self, element: int, amount: float) -> None:
        """Move the target of one element by `amount` of what is fast, -1 to 1."""
        target = self._target.copy()
        target[element] += amount * _PART * self._step[element]
        self._target = self._spec.clip(target)

    def advance(self) -> Array:
        """Return the action (A,) of this period, at most half a largest step on."""
        most = _PART * self._step
        self._action = self._action + np.clip(self._target - self._action, -most, most)
        return self._action
