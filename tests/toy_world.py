"""A world without physics, for loops that act: a hand on a line, that goes to +-1.

Actions are where it should be, at most 0.2 a step; the task pays for being at the goal.
"""

import numpy as np

from robostack.robot import Task
from robostack.spec import ArraySpec, RobotSpec, float32
from robostack.training.evaluate import Arena

HORIZON = 15
SPEC = RobotSpec(
    name="hand",
    control_period_s=0.02,
    command_timeout_s=0.1,
    control="position",
    tracks="position",
    observation={
        "position": ArraySpec.uniform(("hand",), "m", -2.0, 2.0),
        "goal": ArraySpec.uniform(("hand",), "m", -1.0, 1.0),
    },
    cameras={},
    action=ArraySpec.uniform(("hand",), "m", -2.0, 2.0),
    home=(0.0,),
    max_action_step=(0.2,),
    conventions={},
)


class World:
    """The hand follows at once; where its goal is follows from the seed."""

    spec = SPEC

    def __init__(self):
        self._now_s = 0.0
        self.seeds = []
        self.stops = 0

    def seed(self, seed):
        self.seeds.append(seed)
        self._random = np.random.default_rng(seed)

    def reset(self):
        self._position = self._target = np.zeros(1, np.float32)
        self._goal = float32([self._random.choice([-1.0, 1.0])])

    def read(self):
        return {"position": self._position.copy(), "goal": self._goal.copy()}

    def truth(self):
        return {}

    def apply(self, action):
        self._target = action.copy()
        return action.copy()

    def now(self):
        return self._now_s

    def sleep_until(self, deadline):
        self._position = self._target
        self._now_s = deadline

    def stop(self):
        self.stops += 1

    def close(self):
        self.stop()


def _distance(columns):
    return np.abs(columns["position"] - columns["goal"])[:, 0]


def task(*, ends=True):
    """Return the task to be at the goal; `ends`: the episode does once it fell off."""

    def terminated(columns):
        return ends & (np.abs(columns["position"][1:, 0]) > 1.5)

    return Task(
        instruction="go to the goal",
        horizon=HORIZON,
        reward=lambda columns: float32(-_distance(columns)[1:]),
        success=lambda columns: _distance(columns) < 0.1,
        terminated=terminated,
    )


def open_arena(address="sim:toy", task_name="", variant=None):
    """Stand in for robostack.training.evaluate.open_arena."""
    return Arena(World(), task())
