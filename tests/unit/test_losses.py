import math

import pytest

torch = pytest.importorskip("torch")

from robostack.policies import _losses  # noqa: E402


def test_critic_loss_is_the_sum_over_critics_of_their_means():
    qs = torch.tensor([[1.0, 3.0], [0.0, 0.0]])
    target = torch.tensor([0.0, 1.0])
    expected = (1 + 4) / 2 + (0 + 1) / 2
    assert float(_losses.critic_loss(qs, target)) == pytest.approx(expected)


def test_weights_are_exponential_and_limited():
    advantage = torch.tensor([-1.0, 0.0, 0.5, 10.0, 1e6])
    weight = _losses.limited_weight(advantage, 3.0, 100.0)
    expected = [math.exp(-3), 1.0, math.exp(1.5), 100.0, 100.0]
    assert weight.tolist() == pytest.approx(expected)


def test_the_cloning_loss_is_the_weighted_mean_of_negative_log_likelihoods():
    log_prob, weight = torch.tensor([-1.0, -3.0]), torch.tensor([1.0, 0.5])
    assert float(_losses.cloning_loss(log_prob)) == pytest.approx(2.0)
    assert float(_losses.cloning_loss(log_prob, weight)) == pytest.approx(1.25)


def test_copies_on_a_leading_axis_have_each_their_own_loss():
    a, b = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    single = [_losses.cloning_loss(x, y) for x, y in zip(a, b, strict=True)]
    assert torch.allclose(_losses.cloning_loss(a, b), torch.stack(single))
    single = [_losses.value_loss(x, y, 0.7) for x, y in zip(a, b, strict=True)]
    assert torch.allclose(_losses.value_loss(a, b, 0.7), torch.stack(single))
    qs = torch.stack([a, b, a + b], 1)  # of three critics each
    single = [_losses.critic_loss(q, x) for q, x in zip(qs, b, strict=True)]
    assert torch.allclose(_losses.critic_loss(qs, b), torch.stack(single))
