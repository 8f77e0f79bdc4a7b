"""TD3+BC: its losses by hand, and its claim at toy size."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from robostack.learner import Batch, LearnerError, Statistics  # noqa: E402
from robostack.policies import td3_bc  # noqa: E402
from robostack.spec import float32  # noqa: E402

STATISTICS = Statistics(np.zeros(4, np.float32), np.ones(4, np.float32), 0.0, 1.0)


def make(robot, **settings):
    config = td3_bc.Config(hidden=(32, 32), learning_rate=3e-3, **settings)
    return td3_bc.Learner(robot, config, statistics=STATISTICS, steps=600, seed=0)


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


def test_the_policy_loss_weighs_the_critic_by_its_mean_size():
    q = torch.tensor([-4.0, 2.0])
    action = torch.tensor([[0.5, 0.0], [0.0, 0.0]])
    logged = torch.tensor([[0.0, 0.0], [0.0, 1.0]])
    cloning = (0.25 / 2 + 1.0 / 2) / 2
    loss = td3_bc.policy_loss(q, action, logged, 1.5)
    assert float(loss) == pytest.approx(cloning - 1.5 / 3.0 * (-1.0))


def test_the_critic_loss_is_summed_over_critics():
    qs = torch.tensor([[1.0, 2.0], [0.0, 0.0]])
    loss = td3_bc.critic_loss(qs, torch.tensor([0.0, 0.0]))
    assert float(loss) == pytest.approx(2.5)


def test_it_goes_beyond_the_data_where_that_is_better(robot):
    clone = train(make(robot, alpha=0.0, normalize=False))
    better = train(make(robot, normalize=False))
    assert np.abs(clone).mean() < 0.1
    assert (better > 0.15).all()


def test_the_policy_and_all_targets_wait_for_their_period(robot):
    learner, rng = make(robot, policy_period=3), np.random.default_rng(0)
    watched = (learner.policy, learner.target, learner.target_policy)
    changed = []
    for _ in range(5):
        before = [[p.detach().clone() for p in net.parameters()] for net in watched]
        learner.update(bandit(rng))
        changed.append(
            [
                any(
                    not torch.equal(x, y)
                    for x, y in zip(old, net.parameters(), strict=True)
                )
                for old, net in zip(before, watched, strict=True)
            ]
        )
    assert changed == [[True] * 3, [False] * 3, [False] * 3, [True] * 3, [False] * 3]


def test_settings_that_no_run_could_mean_are_refused(robot):
    with pytest.raises(LearnerError, match="alpha"):
        make(robot, alpha=-1.0)
