"""The toy problem, and the learners on it, that tests of algorithms share.

The robot is the `robot` of conftest: 4 observations, 2 actions within [-2, 2].
"""

import msgspec
import numpy as np

from robostack.learner import Batch, Statistics
from robostack.spec import float32

STATISTICS = Statistics(np.zeros(4, np.float32), np.ones(4, np.float32), 0.0, 1.0)
STEPS = 600


def make(robot, module, **settings):
    small = {"hidden": (32, 32), "learning_rate": 3e-3}
    known = {field.name for field in msgspec.structs.fields(module.Config)}
    wanted = {k: v for k, v in small.items() if k in known} | settings
    config = module.Config(**wanted)
    return module.Learner(robot, config, statistics=STATISTICS, steps=STEPS, seed=0)


def bandit(rng, size=256):
    """Return one-step episodes; actions around 0, and rewards best at (0.5, 0.5)."""
    observation = float32(rng.uniform(-1, 1, (size, 4)))
    action = float32(rng.normal(0.0, 0.3, (size, 2)).clip(-0.9, 0.9))
    reward = -np.square(action - 0.5).sum(1)
    return Batch(
        observation, action, float32(reward), np.zeros(size, np.float32), observation
    )


def train(learner, steps=STEPS):
    """Return how `learner` acts after `steps` updates on the bandit, (B, A)."""
    rng = np.random.default_rng(0)
    for _ in range(steps):
        learner.update(bandit(rng))
    return learner.act(bandit(rng).observation, None)
