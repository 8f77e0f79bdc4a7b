"""TD3+BC: its losses by hand, and its claim at toy size."""

import numpy as np
import pytest
from policy_examples import bandit, make, train

torch = pytest.importorskip("torch")

from robostack.learner import LearnerError  # noqa: E402
from robostack.policies import td3_bc  # noqa: E402


def test_the_policy_loss_weighs_the_critic_by_its_mean_size():
    q = torch.tensor([-4.0, 2.0])
    action = torch.tensor([[0.5, 0.0], [0.0, 0.0]])
    logged = torch.tensor([[0.0, 0.0], [0.0, 1.0]])
    cloning = (0.25 / 2 + 1.0 / 2) / 2
    loss = td3_bc.policy_loss(q, action, logged, 1.5)
    assert float(loss) == pytest.approx(cloning - 1.5 / 3.0 * (-1.0))


@pytest.mark.slow
def test_it_goes_beyond_the_data_where_that_is_better(robot):
    clone = train(make(robot, td3_bc, alpha=0.0, normalize=False))
    better = train(make(robot, td3_bc, normalize=False))
    assert np.abs(clone).mean() < 0.1
    assert (better > 0.15).all()


def test_the_policy_and_all_targets_wait_for_their_period(robot):
    learner, rng = make(robot, td3_bc, policy_period=3), np.random.default_rng(0)
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
        make(robot, td3_bc, alpha=-1.0)


def test_weights_begin_as_the_authors_do_and_the_targets_with_them(robot):
    learner = make(robot, td3_bc, critics=2)
    for net in (learner.policy.mlp, learner.critic):
        for layer in net.layers:
            bound = layer.weight.shape[-2] ** -0.5
            for parameter in layer.parameters():
                assert float(parameter.detach().abs().max()) <= bound
                assert float(parameter.detach().std()) > bound / 4
    pairs = [(learner.critic, learner.target), (learner.policy, learner.target_policy)]
    for net, target in pairs:
        for ours, theirs in zip(net.parameters(), target.parameters(), strict=True):
            assert torch.equal(ours, theirs)
