"""States near a state, and change between them, against plain transcriptions."""

import pytest

torch = pytest.importorskip("torch")

from torch.distributions import Normal, kl_divergence  # noqa: E402

from robostack.policies import _robust  # noqa: E402


def seeded(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_roughness_is_the_weighted_mean_square_over_critics():
    shift = seeded(3, 4, 5)
    found = _robust.roughness(shift, 0.2)
    for n in range(4):
        for b in range(5):
            each = [float(shift[k, n, b]) for k in range(3)]
            terms = [(0.8 if d > 0 else 0.2) * d * d for d in each]
            assert float(found[n, b]) == pytest.approx(sum(terms) / 3)


def test_divergence_is_that_of_both_directions_summed_over_actions():
    mean, log_std, other_mean, other_log_std = seeded(4, 6, 3)
    p, q = Normal(mean, log_std.exp()), Normal(other_mean, other_log_std.exp())
    expected = (kl_divergence(p, q) + kl_divergence(q, p)).sum(-1)
    found = _robust.divergence(mean, log_std, other_mean, other_log_std)
    assert torch.allclose(found, expected, rtol=1e-4)


def test_each_critic_is_pulled_down_by_deviations_of_the_ensemble():
    """The gradient of (Q - sg(Q - u std))^2 is 2 u std, and none through std."""
    qs = seeded(4, 2, 3).requires_grad_()
    loss = _robust.pull_down(qs, 0.7)
    spread = qs.detach().std(0)
    expected = float((0.7 * spread).square().mean())
    assert loss.item() == pytest.approx(expected)
    (gradient,) = torch.autograd.grad(loss, qs)
    expected = (2 * 0.7 * spread / qs.numel()).expand(4, 2, 3)
    assert torch.allclose(gradient, expected, atol=1e-7)


@pytest.mark.parametrize("shared", [True, False])
def test_states_near_fill_the_box_around_each_state(shared):
    here = seeded(50, 3)
    states = _robust.near(
        here, 0.1, 400, torch.Generator().manual_seed(1), shared=shared
    )
    step = states - here
    assert states.shape == (400, 50, 3)
    assert 0.099 < float(step.max()) <= 0.1 + 1e-6
    assert -0.1 - 1e-6 <= float(step.min()) < -0.099
    assert abs(float(step.mean())) < 0.01
    assert torch.allclose(step[:, 0], step[:, 1], atol=1e-6) == shared


def test_the_worst_state_is_that_of_the_largest_change_of_its_own():
    states = seeded(5, 7, 2)
    found = _robust.worst(states, lambda s: s.square().sum(-1))
    for b in range(7):
        sizes = [float(states[n, b].square().sum()) for n in range(5)]
        assert torch.equal(found[0, b], states[sizes.index(max(sizes)), b])


def test_the_gradient_at_the_worst_state_is_that_of_the_maximum():
    weight = seeded(3, 1).requires_grad_()
    states = seeded(6, 8, 3, seed=1)

    def change(x):
        return (x @ weight).squeeze(-1).square()

    (expected,) = torch.autograd.grad(change(states).amax(0).mean(), weight)
    found = torch.autograd.grad(change(_robust.worst(states, change)).mean(), weight)
    assert torch.allclose(found[0], expected)
