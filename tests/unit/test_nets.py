import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from robostack.policies import _nets, _random  # noqa: E402


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


def test_runs_can_have_inputs_of_their_own_that_their_ensembles_share():
    net = _nets.Mlp((5, 7, 6, 2), generator(), lead=(3, 2))
    x = torch.randn(3, 11, 5, generator=generator(1))
    y = net(x)
    assert y.shape == (3, 2, 11, 2)
    for run in range(3):
        every = net(x[run])[run]  # all compute what one run asks
        assert torch.allclose(y[run], every, atol=1e-6)
        assert torch.allclose(net.member(x, 1)[run], every[1], atol=1e-6)
    own = torch.randn(3, 2, 11, 5, generator=generator(2))
    assert torch.allclose(net(own)[2, 1], net(own[2, 1])[2, 1], atol=1e-6)


def test_each_of_several_runs_drops_what_its_own_generator_says():
    single = _nets.Mlp((5, 64, 2), generator(), dropout=0.5)
    x, drawn = torch.randn(2, 11, 5, generator=generator(1)), []
    for run in range(2):
        single._rng = generator(run)
        drawn.append(single(x[run], drop=True))
    both = _nets.Mlp((5, 64, 2), generator(), lead=(2,), dropout=0.5)
    for param, own in zip(both.parameters(), single.parameters(), strict=True):
        param.data = own.data.expand_as(param).clone()
    both._rng = (generator(0), generator(1))
    assert torch.allclose(both(x, drop=True), torch.stack(drawn), atol=1e-6)


@pytest.mark.parametrize(
    "draw",
    [
        _random.normal,
        lambda rng, shape: _random.uniform(rng, shape, -2.0, 1.0),
        lambda rng, shape: _random.bernoulli(rng, shape, 0.3),
    ],
)
def test_several_generators_give_what_each_does_alone_to_the_bit(draw):
    shape = (7, 5)  # no multiple of what a processor computes at once
    alone = torch.stack([draw(generator(run), shape) for run in range(3)])
    rngs = tuple(generator(run) for run in range(3))
    assert torch.equal(draw(rngs, (3, *shape)), alone)
    again = torch.stack([draw(rng, shape) for rng in rngs])
    assert not torch.equal(again, alone)  # they have moved on


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


def test_layer_norm_is_that_of_torch_for_every_member():
    net = _nets.Mlp((3, 6, 1), generator(), lead=(2,), norm=True)
    with torch.no_grad():
        net.norms[0].scale.copy_(torch.rand(2, 1, 6, generator=generator(2)))
        net.norms[0].shift.copy_(torch.rand(2, 1, 6, generator=generator(3)))
    x = 10 * torch.randn(5, 3, generator=generator(1))
    for i in range(2):
        first, last = (layer.weight[i] for layer in net.layers)
        scale, shift = net.norms[0].scale[i, 0], net.norms[0].shift[i, 0]
        hidden = torch.nn.functional.layer_norm(x @ first, (6,), scale, shift).relu()
        assert torch.allclose(net(x)[i], hidden @ last, atol=1e-5)
        assert torch.allclose(net.member(x, i), hidden @ last, atol=1e-5)


@pytest.mark.parametrize("norm", [False, True])
def test_some_members_answer_as_they_do_among_all(norm):
    net = _nets.Mlp((3, 6, 1), generator(), lead=(4,), norm=norm)
    x, some = torch.randn(5, 3, generator=generator(1)), torch.tensor([2, 0])
    assert torch.allclose(net(x, members=some), net(x)[some], atol=1e-6)


def test_a_squashed_density_integrates_to_one():
    raw = torch.linspace(-9, 9, 20001, dtype=torch.float64)[:, None]
    action = raw.tanh()
    for mean, log_std in ((0.0, 0.0), (1.5, -1.0), (-2.0, 0.3)):
        moments = torch.tensor([[mean]]), torch.tensor([[log_std]])
        density = _nets.squashed_density(*moments, action).exp()
        assert float(torch.trapezoid(density, action[:, 0])) == pytest.approx(
            1, abs=1e-3
        )


def test_a_squashed_density_is_that_of_torch():
    mean, log_std = torch.randn(2, 7, 3, generator=generator()).double()
    noise = torch.randn(4, 7, 3, generator=generator(1)).double()
    action, log_prob = _nets.squash(mean, log_std, noise)
    expected = torch.distributions.TransformedDistribution(
        torch.distributions.Normal(mean, log_std.exp()),
        [torch.distributions.TanhTransform(cache_size=1)],
    )
    assert action.shape == (4, 7, 3)
    kept = action.abs().amax(-1) < 0.999999  # beyond it atanh, not ours, is inexact
    found = _nets.squashed_density(mean, log_std, action)
    assert torch.allclose(found[kept], log_prob[kept])
    assert torch.allclose(expected.log_prob(action).sum(-1)[kept], log_prob[kept])


def test_a_squashed_density_and_its_gradient_stay_finite_far_out():
    mean = torch.tensor([[40.0, -40.0]], requires_grad=True)
    _, log_prob = _nets.squash(mean, torch.zeros(1, 2), torch.zeros(1, 2))
    log_prob.sum().backward()
    assert torch.isfinite(log_prob).all()
    assert mean.grad[0].tolist() == pytest.approx([2.0, -2.0])


def test_a_squashed_policy_begins_as_a_tanh_of_about_a_standard_normal():
    policy = _nets.SquashedGaussianPolicy((3, 32, 2), generator())
    mean, log_std = policy.moments(torch.randn(50, 3, generator=generator(1)))
    assert mean.abs().max() < 0.2
    assert log_std.abs().max() < 0.2


def test_noise_zero_is_the_deterministic_action_of_both_policies():
    x = torch.randn(9, 3, generator=generator(1))
    for kind in (_nets.GaussianPolicy, _nets.SquashedGaussianPolicy):
        policy = kind((3, 8, 2), generator())
        assert torch.equal(policy.sample(x, torch.zeros(9, 2)), policy(x))
