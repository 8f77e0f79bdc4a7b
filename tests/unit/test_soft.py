"""SAC and RLPD: the update by hand, and what the settings mean."""

import numpy as np
import pytest
from policy_examples import bandit, make, train

torch = pytest.importorskip("torch")

from robostack.learner import LearnerError  # noqa: E402
from robostack.policies import _soft, rlpd, sac  # noqa: E402
from robostack.policies._nets import squash  # noqa: E402
from robostack.spec import float32  # noqa: E402


def temperature(learner):
    return float(learner.multipliers["temperature"]().detach())


def test_the_policy_loss_by_hand():
    q, log_prob = torch.tensor([1.0, 3.0]), torch.tensor([-2.0, 4.0])
    loss = _soft.policy_loss(q, log_prob, torch.tensor(0.5))
    assert float(loss) == pytest.approx((-1.0 - 1.0 + 2.0 - 3.0) / 2)


@pytest.mark.parametrize(("target", "grows"), [(-9.0, False), (2.0, True)])
def test_the_temperature_grows_while_entropy_is_missing_and_only_then(
    robot, target, grows
):
    learner = make(robot, sac, target_entropy=target, policy_learning_rate=1e-2)
    train(learner, 20)
    assert (temperature(learner) > 1.01) == grows
    assert (temperature(learner) < 0.99) == (not grows)


def test_critics_may_have_other_layers_than_the_policy(robot):
    learner = make(robot, sac, hidden=(8,), critic_hidden=(4, 5))
    for net, expected in ((learner.critic, [4, 5]), (learner.policy.mlp, [8])):
        weights = [layer.get_parameter("weight") for layer in net.layers]
        assert [weight.shape[-1] for weight in weights[:-1]] == expected


def test_a_temperature_that_is_not_tuned_stays(robot):
    learner = make(robot, sac, tune_temperature=False, temperature=0.25)
    train(learner, 5)
    assert temperature(learner) == pytest.approx(0.25)


def test_it_finds_the_best_action_of_a_bandit(robot):
    learner = make(
        robot, sac, temperature=0.01, tune_temperature=False, policy_learning_rate=3e-3
    )
    rng = np.random.default_rng(0)
    for _ in range(400):
        batch = bandit(rng)
        tried = float32(rng.uniform(-2, 2, (256, 2)))
        reward = -np.square(tried - 0.5).sum(1)
        learner.update(batch._replace(action=tried, reward=reward))
    acted = learner.act(batch.observation, None)
    assert acted.mean(0) == pytest.approx([0.5, 0.5], abs=0.2)


@pytest.mark.parametrize("entropy", [True, False])
def test_the_td_target_is_the_least_of_the_targets_less_the_entropys_price(
    robot, entropy
):
    learner = make(robot, sac, entropy_backup=entropy, temperature=0.3)
    after = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    noise = torch.zeros(6, 2)
    action, log_prob = squash(*learner.policy.moments(after), noise)
    q = learner.target(torch.cat((after, action), 1)).squeeze(-1)
    expected = torch.minimum(q[0], q[1]) - 0.3 * log_prob * entropy
    found = learner._future(after, action, log_prob)
    assert torch.allclose(found, expected, atol=1e-6)


def test_the_least_is_of_a_random_subset_of_the_stated_size(robot):
    learner = make(robot, rlpd, critics=6, least_of=2)
    after, action = torch.ones(3, 4), torch.zeros(3, 2)
    every = learner.target.q(after, action)[:, 0].tolist()
    seen = {float(learner._least(after, action)[0]) for _ in range(300)}
    possible = sorted(every)[:-1]  # the largest is never the least of two
    assert sorted(seen) == pytest.approx(possible, abs=1e-6)


def test_the_policy_and_the_temperature_wait_for_their_period(robot):
    learner, rng = make(robot, rlpd, policy_period=3), np.random.default_rng(0)
    changed = []
    for _ in range(5):
        before = learner.policy.mlp.layers[0].weight.detach().clone()
        heat, critic = temperature(learner), learner.critic.layers[0].weight.clone()
        learner.update(bandit(rng))
        after = learner.policy.mlp.layers[0].weight
        changed.append((not torch.equal(before, after), heat != temperature(learner)))
        assert not torch.equal(critic, learner.critic.layers[0].weight)
    assert changed == [(x, x) for x in (True, False, False, True, False)]


def test_rlpd_has_ten_normed_critics_and_its_policy_seeks_their_mean(robot):
    learner = rlpd.Config()
    assert (learner.critics, learner.least_of, learner.layer_norm) == (10, 2, True)
    assert (learner.policy_critic, learner.target_entropy) == ("mean", -0.5)
    assert len(make(robot, rlpd).critic.norms) == 2
    assert len(make(robot, sac).critic.norms) == 0


def test_the_policys_step_leaves_the_critics_alone(robot):
    learner, rng = make(robot, sac), np.random.default_rng(0)
    before = [p.detach().clone() for p in learner.critic.parameters()]
    here = learner._inputs(bandit(rng)).observation
    moments = learner.policy.moments(here)
    learner._improve(here, *squash(*moments, learner._noise(len(here))))
    pairs = zip(before, learner.critic.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(
    "settings", [{"least_of": 3}, {"policy_period": 0}, {"temperature": 0.0}]
)
def test_settings_that_no_run_could_mean_are_refused(robot, settings):
    with pytest.raises(LearnerError, match=next(iter(settings))):
        make(robot, sac, **settings)
