import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from robostack.policies import _nets  # noqa: E402


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_weights_are_orthogonal_with_gain_root_two_and_biases_zero():
    layer = _nets.Linear(8, 4, (3,), generator())
    for weight in layer.weight:
        assert torch.allclose(weight.T @ weight, 2 * torch.eye(4), atol=1e-5)
    assert not layer.bias.any()


def test_members_start_different():
    weight = _nets.Linear(8, 4, (2,), generator()).weight
    assert (weight[0] - weight[1]).abs().max() > 0.1


@pytest.mark.parametrize("lead", [(), (2,), (3, 2)])
def test_every_member_computes_what_a_single_network_would(lead):
    net = _nets.Mlp((5, 7, 6, 2), generator(), lead=lead)
    x = torch.randn(11, 5, generator=generator(1))
    y = net(x)
    assert y.shape == (*lead, 11, 2)
    for index in np.ndindex(*lead):
        hidden = x
        for layer in net.layers[:-1]:
            hidden = (hidden @ layer.weight[index] + layer.bias[index]).relu()
        last = net.layers[-1]
        expected = hidden @ last.weight[index] + last.bias[index]
        assert torch.allclose(y[index], expected, atol=1e-5)


def test_members_can_have_inputs_of_their_own():
    net = _nets.Mlp((5, 7, 2), generator(), lead=(2,))
    x = torch.randn(2, 11, 5, generator=generator(1))
    assert torch.allclose(net(x)[1], net(x[1])[1], atol=1e-6)


def test_a_member_gets_the_gradient_of_its_own_loss_alone():
    net = _nets.Mlp((5, 7, 1), generator(), lead=(2,))
    net(torch.ones(3, 5))[0].mean().backward()
    for parameter in net.parameters():
        assert not parameter.grad[1].any()


def test_dropout_is_asked_for_and_keeps_the_mean():
    net = _nets.Mlp((4, 512, 1), generator(), dropout=0.25)
    x = torch.ones(400, 4)
    with torch.no_grad():
        plain, again, dropped = net(x), net(x), net(x, drop=True)
    assert torch.equal(plain, again)
    error = dropped.mean() - plain.mean()
    assert 0 < abs(error) < 4 * dropped.std() / 20


def test_the_density_is_that_of_an_unsquashed_gaussian_around_a_squashed_mean():
    policy = _nets.GaussianPolicy((3, 8, 2), generator())
    with torch.no_grad():
        policy.raw_log_std.copy_(torch.tensor([[-1.0, 0.5]]))
    x, action = torch.ones(4, 3), torch.full((4, 2), 0.99)
    mean, std = policy(x), torch.tensor([math.exp(-1.0), math.exp(0.5)])
    expected = torch.distributions.Normal(mean, std).log_prob(action).sum(-1)
    assert mean.abs().max() < 1
    assert torch.allclose(policy.log_prob(x, action), expected, atol=1e-5)


def test_the_mean_is_squashed():
    policy = _nets.GaussianPolicy((3, 8, 2), generator())
    mean = policy(100 * torch.ones(1, 3))
    assert 0.99 < mean.abs().max() <= 1.0


def test_the_spread_is_bounded():
    policy = _nets.GaussianPolicy((3, 8, 2), generator())
    with torch.no_grad():
        policy.raw_log_std.copy_(torch.tensor([[-50.0, 50.0]]))
    assert policy.log_std.tolist() == [[-5.0, 2.0]]


def test_the_spread_does_not_depend_on_the_observation():
    policy = _nets.GaussianPolicy((3, 8, 2), generator())
    assert policy.raw_log_std.shape == (1, 2)
    assert not policy.raw_log_std.any()


def test_polyak_moves_by_the_rate():
    slow, fast = (_nets.Mlp((2, 3, 1), generator(s), lead=(2,)) for s in (0, 1))
    before = slow.layers[0].weight.detach().clone()
    goal = fast.layers[0].weight.detach().clone()
    _nets.polyak_update(slow, fast, 0.25)
    expected = 0.75 * before + 0.25 * goal
    assert torch.allclose(slow.layers[0].weight, expected, atol=1e-7)
    assert torch.equal(fast.layers[0].weight, goal)
