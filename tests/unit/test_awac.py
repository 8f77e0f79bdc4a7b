"""AWAC: its losses by hand, and its claim at toy size."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from robostack.learner import Batch, LearnerError, Statistics  # noqa: E402
from robostack.policies import awac  # noqa: E402
from robostack.spec import float32  # noqa: E402

STATISTICS = Statistics(np.zeros(4, np.float32), np.ones(4, np.float32), 0.0, 1.0)


def make(robot, **settings):
    config = awac.Config(hidden=(32, 32), learning_rate=3e-3, **settings)
    return awac.Learner(robot, config, statistics=STATISTICS, steps=600, seed=0)


def bandit(rng, size=256):
    """Return one-step episodes; actions around 0, and rewards best at (0.5, 0.5)."""
    observation = float32(rng.uniform(-1, 1, (size, 4)))
    action = float32(rng.normal(0.0, 0.3, (size, 2)).clip(-0.9, 0.9))
    reward = -np.square(action - 0.5).sum(1)
    return Batch(
        observation, action, float32(reward), np.zeros(size, np.float32), observation
    )


def train(learner, steps=600):
    rng = np.random.default_rng(0)
    for _ in range(steps):
        learner.update(bandit(rng))
    return learner.act(bandit(rng).observation, None)


def test_weights_are_exponential_and_limited():
    advantage = torch.tensor([0.0, -1.0, 10.0])
    config = awac.Config(inverse_temperature=2.0, max_weight=50.0)
    weight = awac.advantage_weight(advantage, config)
    assert weight.tolist() == pytest.approx([1.0, math.exp(-2.0), 50.0])


def test_weights_of_a_batch_have_mean_one():
    advantage = torch.tensor([0.0, math.log(3.0)])
    weight = awac.advantage_weight(advantage, awac.Config(weights="batch"))
    assert weight.tolist() == pytest.approx([0.5, 1.5])


def test_it_learns_the_weighted_mean_of_the_data(robot):
    """exp(-5 (a - 0.5)^2) times a normal density of spread 0.3 has its mean at 0.237.

    That of the data is 0, and the best action 0.5.
    """
    learned = train(make(robot, weights="batch", inverse_temperature=5.0), steps=1200)
    assert learned.mean(0) == pytest.approx([0.237, 0.237], abs=0.06)


def test_settings_that_no_run_could_mean_are_refused(robot):
    with pytest.raises(LearnerError, match="samples"):
        make(robot, samples=0)
