"""PPO: its formulas against a plain transcription, and that it learns by acting."""

import math

import numpy as np
import pytest
from policy_examples import bandit, make

torch = pytest.importorskip("torch")

from robostack.learner import Batch, LearnerError  # noqa: E402
from robostack.policies import _gaussian, _ppo, ppo  # noqa: E402
from robostack.spec import float32  # noqa: E402


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_clipped_loss_by_hand():
    ratio = torch.tensor([1.5, 1.5, 0.5, 0.5, 1.1])
    advantage = torch.tensor([1.0, -1.0, 1.0, -1.0, 2.0])
    gains = [1.2, -1.5, 0.5, -0.8, 2.2]  # the less hopeful of clipped and not
    loss = _ppo.clipped_loss(ratio, advantage, 0.2)
    assert float(loss) == pytest.approx(-sum(gains) / 5)


def test_no_gradient_where_the_ratio_is_beyond_the_clip_already():
    ratio = torch.tensor([1.5, 0.5, 1.5], requires_grad=True)
    _ppo.clipped_loss(ratio, torch.tensor([1.0, -1.0, -1.0]), 0.2).backward()
    assert ratio.grad.tolist() == pytest.approx([0.0, 0.0, 1 / 3])


def test_the_value_loss_is_the_worse_of_clipped_and_not():
    value, before = torch.tensor([3.0, 0.1]), torch.tensor([0.0, 0.0])
    target = torch.tensor([3.0, 1.0])
    expected = 0.5 * ((3.0 - 0.2) ** 2 + 0.9**2) / 2
    assert float(_ppo.value_loss(value, before, target, 0.2)) == pytest.approx(expected)
    free = 0.5 * (0.0 + 0.9**2) / 2
    assert float(_ppo.value_loss(value, before, target, math.inf)) == pytest.approx(
        free
    )


def test_standardized_has_mean_0_and_spread_1_for_each_member():
    advantage = torch.randn(3, 64, generator=rng()) * 5 + 2
    found = _ppo.standardized(advantage)
    assert found.mean(-1).tolist() == pytest.approx([0, 0, 0], abs=1e-6)
    assert found.std(-1, correction=0).tolist() == pytest.approx([1, 1, 1])
    assert _ppo.standardized(torch.ones(4)).tolist() == [0.0] * 4


@pytest.mark.parametrize("size", [1, 2, 7, 64])
def test_sums_by_doubling_are_those_of_a_loop(size):
    term, factor = torch.randn(size, generator=rng()), torch.rand(size, generator=rng())
    expected, after = [], 0.0
    for t, f in zip(reversed(term.tolist()), reversed(factor.tolist()), strict=True):
        after = t + f * after
        expected.insert(0, after)
    assert _ppo.discounted(term, factor).tolist() == pytest.approx(expected, abs=1e-5)


def walk(lengths, *, gamma=0.9, terminated=(), seed=0):
    """Return episodes end to end as a batch; those of number `terminated` end."""
    generator = np.random.default_rng(seed)
    parts = []
    for i, length in enumerate(lengths):
        observation = float32(generator.normal(size=(length + 1, 4)))
        discount = np.full(length, gamma, np.float32)
        if i in terminated:
            discount[-1] = 0.0
        action = float32(generator.uniform(-1, 1, (length, 2)))
        reward = float32(generator.normal(size=length))
        parts.append((observation[:-1], action, reward, discount, observation[1:]))
    return Batch(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def plain_gae(batch, values, lengths, trace):
    """Do it as every textbook does, episode after episode."""
    here, after = values.chunk(2)
    found, start = [], 0
    for length in lengths:
        advantage, backwards = 0.0, []
        for t in reversed(range(start, start + length)):
            delta = batch.reward[t] + batch.discount[t] * after[t] - here[t]
            advantage = delta + batch.discount[t] * trace * advantage
            backwards.append(float(advantage))
        found += reversed(backwards)
        start += length
    return found


def test_advantages_are_those_of_a_loop_over_episodes(robot):
    lengths = (5, 1, 9, 3)
    batch = walk(lengths, terminated=(0, 2))
    inputs = make_ppo(robot)._inputs(batch)
    values = torch.randn(36, generator=rng(2))
    found = _ppo.advantages(inputs, values, 0.95)
    expected = plain_gae(batch, values, lengths, 0.95)
    assert found.tolist() == pytest.approx(expected, abs=1e-5)


def test_an_episode_ends_where_the_next_row_does_not_go_on():
    observation = torch.tensor([[0.0], [1.0], [5.0], [6.0]])
    after = torch.tensor([[1.0], [2.0], [6.0], [7.0]])
    assert _ppo.follows(observation, after).tolist() == [True, False, True, False]


def test_norms_are_limited_for_each_member_alone():
    a, b = torch.tensor([[3.0, 0.0], [0.1, 0.0]]), torch.tensor([[[4.0]], [[0.0]]])
    _ppo.limit([a, b], 1.0, lead=1)
    assert a.tolist() == [pytest.approx([0.6, 0.0]), pytest.approx([0.1, 0.0])]
    assert b.flatten().tolist() == pytest.approx([0.8, 0.0])


def test_norms_are_limited_together_without_members():
    a, b = torch.tensor([3.0, 0.0]), torch.tensor([[4.0]])
    _ppo.limit([a, b], 0.5)
    assert (a.tolist(), b.tolist()) == (
        pytest.approx([0.3, 0.0]),
        [[pytest.approx(0.4)]],
    )


def test_density_entropy_and_divergence_are_torchs():
    mean, log_std, action = torch.randn(3, 2, 5, 2, generator=rng()).unbind(0)
    log_std = log_std.clamp(-2, 0)
    normal = torch.distributions.Normal(mean, log_std.exp())
    expected = normal.log_prob(action).sum(-1)
    assert torch.allclose(_gaussian.density(mean, log_std, action), expected, atol=1e-5)
    assert torch.allclose(_gaussian.entropy(log_std), normal.entropy().sum(-1))
    kl = _gaussian.pairwise_kl(mean, log_std)
    for i in range(2):
        for j in range(2):
            p, q = (
                torch.distributions.Normal(mean[k], log_std[k].exp()) for k in (i, j)
            )
            expected = torch.distributions.kl_divergence(p, q).sum(-1)
            assert torch.allclose(kl[i, j], expected, rtol=1e-4, atol=1e-5)


def test_a_policy_begins_wide():
    policy = _gaussian.BoundedGaussianPolicy((4, 8, 2), rng(), lead=(3,))
    _, log_std = policy.moments(torch.randn(20, 4, generator=rng(1)))
    assert torch.allclose(log_std, torch.tensor(-0.5), atol=0.1)


def test_the_spread_keeps_within_its_bounds():
    policy = _gaussian.BoundedGaussianPolicy((4, 8, 2), rng())
    mean, log_std = policy.moments(1e4 * torch.randn(200, 4, generator=rng(1)))
    assert mean.abs().max() <= 1
    assert log_std.min() >= _gaussian.LOG_STD_LOW
    assert log_std.max() <= _gaussian.LOG_STD_HIGH


def make_ppo(robot, **settings):
    small = {"hidden": (32, 32), "policy_learning_rate": 3e-3}
    return make(robot, ppo, **(small | settings))


def test_one_epoch_of_one_minibatch_is_the_plain_update(robot):
    """The first step has ratio 1: the policy gradient, by Adam, and V to the return."""
    batch = walk((20, 12), terminated=(1,))
    ours, plain = (
        make_ppo(robot, epochs=1, minibatch=32, max_gradient=1e9) for _ in "ab"
    )
    inputs = plain._inputs(batch)
    values = plain.value(inputs.observations).squeeze(-1).detach()
    advantage = torch.tensor(plain_gae(batch, values, (20, 12), 0.95))
    target = advantage + values[:32]
    unit = (advantage - advantage.mean()) / (advantage.std(correction=0) + 1e-8)
    mean, log_std = plain.policy.moments(inputs.observation)
    normal = torch.distributions.Normal(mean, log_std.exp())
    losses = {
        plain.policy: -(normal.log_prob(inputs.action).sum(-1) * unit).mean(),
        plain.value: 0.5
        * (plain.value(inputs.observation).squeeze(-1) - target).square().mean(),
    }
    for (net, loss), rate in zip(losses.items(), (3e-3, 3e-4), strict=True):
        optimizer = torch.optim.Adam(net.parameters(), lr=rate, eps=1e-5)
        loss.backward()
        optimizer.step()
    ours.update(batch)
    for name in ("policy", "value"):
        nets = getattr(ours, name), getattr(plain, name)
        for a, b in zip(*(net.parameters() for net in nets), strict=True):
            assert torch.allclose(a, b, atol=1e-5), name


@pytest.mark.slow
def test_it_finds_the_best_action_of_a_bandit_by_acting(robot):
    learner = make_ppo(robot, minibatch=64, epochs=4, schedule="constant")
    generator = np.random.default_rng(0)
    for _ in range(40):
        batch = bandit(generator)
        action = learner.act(batch.observation, generator)
        reward = -np.square(action - 0.5).sum(1)
        learner.update(batch._replace(action=action, reward=float32(reward)))
    acted = learner.act(batch.observation, None)
    assert acted.mean(0) == pytest.approx([0.5, 0.5], abs=0.15)


def test_rates_and_clip_fall_to_zero_or_stay(robot):
    for schedule, expected in (
        ("linear", [3e-3, 2e-3, 1e-3]),
        ("constant", [3e-3] * 3),
    ):
        learner = make_ppo(robot, schedule=schedule, epochs=1)
        learner._steps = 3
        rates = []
        for _ in range(3):
            learner.update(walk((8,)))
            rates.append(learner._ppo.policy_adam.param_groups[0]["lr"])
        assert rates == pytest.approx(expected)


@pytest.mark.parametrize(
    "settings", [{"clip": 0.0}, {"trace": 1.5}, {"epochs": 0}, {"minibatch": 0}]
)
def test_settings_that_no_run_could_mean_are_refused(robot, settings):
    with pytest.raises(LearnerError, match=next(iter(settings))):
        make_ppo(robot, **settings)
