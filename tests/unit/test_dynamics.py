"""The learned model and AM-Q, on a toy whose motion is known."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from robostack.policies import _dynamics, _judge  # noqa: E402
from robostack.policies._dynamics import Prediction, Truth  # noqa: E402

SPREAD = 0.1  # of the toy's motion


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def make(members=3, seed=0, mean=0.0, std=1.0, hidden=(32, 32)):
    return _dynamics.Dynamics(
        hidden,
        1,
        rng(seed),
        members=members,
        mean=torch.full((2,), mean),
        std=torch.full((2,), std),
    )


def draw(generator, size=256):
    """Return steps of a point: the second element is pushed, and moves the first."""
    state = torch.rand(size, 2, generator=generator) * 2 - 1
    action = torch.rand(size, 1, generator=generator) * 2 - 1
    noise = SPREAD * torch.randn(size, 2, generator=generator)
    push = torch.cat((0.5 * state[:, 1:], 0.5 * action), dim=1)
    return state, action, state + push + noise, (state[:, 0] > 0.5).float()


@pytest.fixture(scope="module")
def trained():
    model, generator = make(), rng(1)
    adam = _dynamics.dynamics_adam(model, 3e-3, 1e-5)
    for i in range(400):
        state, action, after, ended = draw(generator)
        kept = torch.ones(256)
        kept[:32] = 0.0
        truth = Truth(model.truth(state, after, ended), ended, kept)
        prediction = model(state, action)
        adam.zero_grad()
        model.loss(prediction, truth).backward()
        adam.step()
        model.watch(prediction, truth, state, _dynamics.holdout_rate(i))
    return model


def test_it_learns_the_motion_its_spread_and_the_ends(trained):
    state, action, _, ended = draw(rng(2), 2000)
    state = state * 0.9
    ended = (state[:, 0] > 0.5).float()
    with torch.no_grad():
        prediction = trained(state, action)
    expected = torch.cat((0.5 * state[:, 1:], 0.5 * action), dim=1)
    inside = state[:, 0] < 0.4
    error = (prediction.change - expected)[:, inside].abs().mean()
    std = (0.5 * prediction.log_var)[:, inside].exp().mean()
    assert float(error) < 0.03
    assert float(std) == pytest.approx(SPREAD, rel=0.15)
    right = ((prediction.end > 0).float() == ended).float().mean()
    assert float(right) > 0.97


def test_the_held_out_error_is_that_of_the_noise(trained):
    assert trained.error.tolist() == pytest.approx([SPREAD**2] * 3, rel=0.3)


def test_the_box_is_that_of_the_observations(trained):
    assert trained.low.tolist() == pytest.approx([-1, -1], abs=0.01)
    assert trained.high.tolist() == pytest.approx([1, 1], abs=0.01)


def test_the_likelihood_by_hand():
    prediction = Prediction(
        torch.tensor([[[1.0, 0.0], [5.0, 5.0]]]),
        torch.tensor([[[0.0, math.log(4.0)], [0.0, 0.0]]]),
        torch.tensor([[0.0, 0.0]]),
    )
    truth = Truth(torch.zeros(2, 2), torch.tensor([0.0, 1.0]), torch.ones(2))
    expected = ((1.0 + 0.0) + (0.0 + math.log(4.0))) / 2 / 2  # 2 elements, 2 rows
    assert float(_dynamics.gaussian_loss(prediction, truth)) == pytest.approx(expected)
    assert float(_dynamics.end_loss(prediction, truth)) == pytest.approx(math.log(2))


def test_what_is_held_out_teaches_nothing():
    model = make()
    state, action, after, ended = draw(rng(), 8)
    truth = Truth(model.truth(state, after, ended), ended, torch.zeros(8))
    with torch.no_grad():
        prediction = model(state, action)
    assert float(_dynamics.gaussian_loss(prediction, truth)) == 0.0
    assert float(_dynamics.end_loss(prediction, truth)) == 0.0


def test_members_are_independent():
    model = make(members=2)
    state, action, after, ended = draw(rng(), 8)
    truth = Truth(model.truth(state, after, ended), ended, torch.ones(8))
    prediction = model(state, action)
    first = Prediction(*(x[:1] for x in prediction))
    loss = _dynamics.gaussian_loss(first, truth) + _dynamics.end_loss(first, truth)
    loss.backward()
    weight = model.mlp.layers[0].weight
    assert float(weight.grad[0].abs().sum()) > 0
    assert float(weight.grad[1].abs().sum()) == 0


def test_log_variances_keep_within_their_bounds():
    wild = torch.tensor([-1e3, -3.0, 1e3])
    low, high = torch.tensor(-10.0), torch.tensor(0.5)
    found = _dynamics.bounded(wild, low, high)
    assert found[0] == pytest.approx(-10.0, abs=1e-3)
    assert found[1] == pytest.approx(-3.0, abs=0.05)
    assert found[2] == pytest.approx(0.5, abs=1e-3)


def test_the_bounds_are_drawn_together():
    model = make()
    state, action, after, ended = draw(rng(), 8)
    truth = Truth(model.truth(state, after, ended), ended, torch.zeros(8))
    model.loss(model(state, action), truth).backward()
    assert (model.log_var_high.grad > 0).all()  # descends
    assert (model.log_var_low.grad < 0).all()


def test_standardizing_is_undone_in_a_step():
    plain, scaled = make(), make(mean=3.0, std=2.0)
    state = torch.randn(1, 1, 5, 2, generator=rng(3))
    action = torch.zeros(1, 1, 5, 1)
    for model in (plain, scaled):
        model.low.fill_(-99.0)
        model.high.fill_(99.0)
    elites = torch.tensor([1])
    after, _ = plain.step(state, action, elites, rng(4))
    far, _ = scaled.step(3.0 + 2.0 * state, action, elites, rng(4))
    assert torch.allclose(far, 3.0 + 2.0 * after, atol=1e-4)


def test_a_step_asks_the_stated_elites_and_shares_the_luck_of_policies():
    model = make()
    model.low.fill_(-99.0)
    model.high.fill_(99.0)
    state = torch.randn(1, 2, 5, 2, generator=rng(3)).expand(3, -1, -1, -1)
    action = torch.zeros(3, 2, 5, 1)
    with torch.no_grad():
        after, _ = model.step(state, action, torch.tensor([2, 0]), rng(4))
    assert torch.allclose(after[0], after[2], atol=1e-6)
    luck = torch.randn((2, 1, 5, 2), generator=rng(4))
    for e, member in enumerate((2, 0)):
        alone = model(state[0, e], action[0, e])
        std = (0.5 * alone.log_var[member]).exp()
        expected = state[0, e] + alone.change[member] + std * luck[e, 0]
        assert torch.allclose(after[0, e], expected, atol=1e-5)


def test_imagined_states_stay_in_the_box():
    model = make()
    model.low.fill_(-0.1)
    model.high.fill_(0.1)
    state = torch.randn(1, 1, 50, 2, generator=rng(3))
    after, _ = model.step(state, torch.ones(1, 1, 50, 1), torch.tensor([0]), rng())
    assert after.abs().max() <= 0.1


def test_elites_are_the_members_of_least_held_out_error():
    model = make(members=4)
    model.error.copy_(torch.tensor([3.0, 1.0, 4.0, 2.0]))
    assert model.elites(2).tolist() == [1, 3]


def test_a_batch_without_held_out_rows_does_not_change_the_error():
    model = make()
    model.error.fill_(7.0)
    state, action, after, ended = draw(rng(), 8)
    truth = Truth(model.truth(state, after, ended), ended, torch.ones(8))
    model.watch(model(state, action), truth, state, 0.5)
    assert model.error.tolist() == [7.0] * 3


def test_what_is_held_out_is_the_stated_share_and_always_the_same():
    generator = np.random.default_rng(0)
    observation = generator.normal(size=(5000, 3)).astype(np.float32)
    action = generator.normal(size=(5000, 1)).astype(np.float32)
    out = _dynamics.held_out(observation, action, 0.1)
    assert out.mean() == pytest.approx(0.1, abs=0.02)
    order = generator.permutation(5000)
    again = _dynamics.held_out(observation[order], action[order], 0.1)
    assert np.array_equal(again, out[order])
    other = _dynamics.held_out(observation, action + np.float32(1e-3), 0.1)
    assert not np.array_equal(other, out)


def test_decay_grows_up_to_the_last_layer():
    known = {3: [2.5, 7.5, 10.0], 5: [2.5, 5.0, 7.5, 7.5, 10.0]}  # 1e-5; five: paper
    for layers, expected in known.items():
        dynamics = make(hidden=(8,) * (layers - 1))
        groups = _dynamics.dynamics_adam(dynamics, 1e-3, 1e-4).param_groups
        decays = [group["weight_decay"] for group in groups]
        assert decays == pytest.approx([1e-5 * x for x in expected] + [0.0])


def test_am_q_is_the_mean_of_q_along_the_way_by_hand():
    """Two policies step by 1 and by 2 from 0 and 1; Q is the state plus the action."""
    stride = torch.tensor([1.0, 2.0])[:, None, None]
    starts = torch.tensor([[0.0], [1.0]]).expand(2, 2, 1)

    def step(state, action):
        return state + action, torch.zeros(state.shape[:-1], dtype=torch.bool)

    found = _judge.am_q(stride.expand_as, lambda s, a: (s + a)[..., 0], step, starts, 3)
    first = [0 + 1, 1 + 1, 2 + 1, 1 + 1, 2 + 1, 3 + 1]
    second = [0 + 2, 2 + 2, 4 + 2, 1 + 2, 3 + 2, 5 + 2]
    assert found.tolist() == pytest.approx([sum(first) / 6, sum(second) / 6])


@pytest.mark.parametrize(("zero", "expected"), [(False, 4 / 4), (True, 4 / 6)])
def test_am_q_leaves_out_what_comes_after_an_end_or_counts_it_as_nothing(
    zero, expected
):
    """One start ends after one step, the other never; Q is 1 everywhere."""
    starts = torch.tensor([[[0.0], [5.0]]])

    def step(state, action):
        return state, state[..., 0] == 0.0

    found = _judge.am_q(
        lambda s: s,
        lambda s, a: torch.ones(s.shape[:-1]),
        step,
        starts,
        3,
        count_ended=zero,
    )
    assert found.tolist() == pytest.approx([expected])


def test_am_q_in_the_learned_model_ranks_policies_as_the_real_motion_does(trained):
    """Q is how near the middle one is; pushing back beats pushing away."""
    gains = torch.tensor([-0.8, 0.0, 0.8])[:, None, None, None]
    elites = trained.elites(2)
    start = torch.rand(2, 32, 2, generator=rng(5)) * 0.8 - 0.8
    generator = rng(6)
    score = _judge.am_q(
        lambda s: (gains * s[..., 1:]).clamp(-1, 1),
        lambda s, a: -s.square().sum(-1),
        lambda s, a: trained.step(s, a, elites, generator),
        start.expand(3, -1, -1, -1),
        20,
    )
    assert score[0] > score[1] > score[2]
