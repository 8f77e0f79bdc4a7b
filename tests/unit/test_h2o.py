"""H2O: the gap that classifiers find, the weights made of it, and H2O+'s target."""

import math

import numpy as np
import pytest
from policy_examples import make

torch = pytest.importorskip("torch")

from torch.distributions import Normal  # noqa: E402

from robostack.learner import Batch, LearnerError  # noqa: E402
from robostack.policies import _gap, h2o  # noqa: E402
from robostack.spec import float32  # noqa: E402

WRONG = 1.0  # what the toy's simulator adds to the change of the first element


def toy(rng, size=64, *, terminated=False):
    """Return half real, half simulated rows; the simulator is wrong where s_0 > 0."""
    lived = float32(np.arange(size) % 2)
    observation = float32(rng.uniform(-1, 1, (size, 4)))
    action = float32(rng.uniform(-0.9, 0.9, (size, 2)))
    after = observation + float32(rng.normal(0.0, 0.3, (size, 4)))
    after[:, 0] += WRONG * lived * (observation[:, 0] > 0)
    discount = np.full(size, 0.0 if terminated else 0.9, np.float32)
    reward = float32(-np.square(action).sum(1))
    return Batch(observation, action, reward, discount, after, lived=lived)


def prepared(robot, **settings):
    learner = make(robot, h2o, **settings)
    batch = toy(np.random.default_rng(0))
    return learner, learner._inputs(batch), learner._rows(batch)


def logits(odds):
    """Return logits (..., 2) of log-odds, off by a constant that must not matter."""
    return torch.stack((odds + 3.0, torch.full_like(odds, 3.0)), -1)


def test_bayes_rule_gives_the_ratio_of_the_dynamics():
    """Whatever pairs there are more of: real ones are around 1, simulated around -1."""
    pair, after = torch.linspace(-2, 2, 9), torch.linspace(-1, 3, 9)
    by_pair = Normal(1.0, 1.0).log_prob(pair) - Normal(-1.0, 1.0).log_prob(pair)
    dynamics = Normal(pair, 0.5).log_prob(after) - Normal(pair + 1, 0.7).log_prob(after)
    found = _gap.log_ratio(logits(by_pair), logits(by_pair + dynamics))
    assert torch.allclose(found, dynamics, atol=1e-5)


def test_logits_are_soft_maximized_once():
    sure = torch.tensor([[2.0, -2.0]])
    assert float(_gap.log_odds(sure)) == pytest.approx(4.0)


def test_trust_is_the_ratio_within_its_bounds():
    found = _gap.trust(torch.tensor([-99.0, math.log(0.25), 0.0, 99.0]))
    assert found.tolist() == pytest.approx([1e-5, 0.25, 1.0, 1.0])


def test_the_gap_is_the_mean_of_what_copies_say_within_its_bounds():
    ratios = torch.tensor([[-1.0, 5.0, -30.0], [-3.0, 5.0, -30.0]])
    assert _gap.gap(ratios).tolist() == pytest.approx([2.0, 1e-6, 10.0])


def test_the_gap_is_large_where_the_simulator_is_wrong_and_trust_small(robot):
    """The sign matters: with the other one, good pairs are pushed down."""
    learner, rng = make(robot, h2o), np.random.default_rng(0)
    for _ in range(200):
        batch = toy(rng)
        learner._tell_apart(learner._inputs(batch), learner._rows(batch))
    batch = toy(rng, 512)
    rows = learner._rows(batch)
    ratio, ratios = learner._ratios(learner._inputs(batch), rows)
    wrong = torch.from_numpy(batch.observation[rows.simulated, 0] > 0)
    gap, trust = _gap.gap(ratios), _gap.trust(ratio)
    assert float(gap[wrong].mean()) > 5 * float(gap[~wrong].mean())
    assert float(trust[wrong].mean()) < 0.6 * float(trust[~wrong].mean())


def test_classifiers_weigh_real_and_simulated_rows_as_much():
    """Nobody knows better than chance: log 2 each, however many there are of each."""
    simulated = torch.tensor([1.0, 0.0, 0.0, 0.0])
    loss = _gap.classifier_loss(torch.zeros(4, 2), simulated)
    assert float(loss) == pytest.approx(2 * math.log(2))
    told = torch.tensor([[0.0, 9.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    assert float(_gap.classifier_loss(told, simulated)) == pytest.approx(
        math.log(2) + math.log(1 + math.exp(-9)), abs=1e-5
    )


def test_the_loss_of_the_triple_reaches_the_classifier_of_pairs(robot):
    learner, inputs, _ = prepared(robot)
    seen = learner.classifiers.seen(h2o._transitions(inputs))
    by_pair, by_triple = learner.classifiers(*seen)
    weight = learner.classifiers.pair.layers[0].weight
    (gradient,) = torch.autograd.grad(by_triple.sum(), weight)
    assert gradient.abs().max() > 0
    own = by_triple - by_pair
    assert own.abs().max() <= 2.0


@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e3])
def test_classifiers_see_changes_in_their_own_spread_in_whatever_unit(robot, unit):
    learner, inputs, rows = prepared(robot)
    here, action, after = h2o._transitions(inputs)
    small = _gap.Transitions(unit * here, action, unit * after)
    net = learner.classifiers
    net.std.fill_(unit)
    net.watch(_gap.Transitions(*(x[rows.real] for x in small)))
    _, change = net.seen(small)
    assert change[rows.real].std(0, correction=0) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("same", [0.0, 1.0])
def test_rows_from_one_side_alone_are_refused_in_words(robot, same):
    learner = make(robot, h2o)
    batch, before = toy(np.random.default_rng(0)), learner.state()
    for lived in (np.full(64, same, np.float32), None):
        with pytest.raises(LearnerError, match="both --dataset and --online"):
            learner.update(batch._replace(lived=lived))
    assert learner.state() == before


def test_errors_are_those_of_real_rows_and_weighted_ones_of_simulated_rows(robot):
    _, _, rows = prepared(robot)
    qs, target = torch.randn(2, 64), torch.randn(64)
    weight = torch.rand(32)
    expected = 0.0
    for k in range(2):
        squares = [(float(qs[k, b]) - float(target[b])) ** 2 for b in range(64)]
        real = [squares[b] for b in range(0, 64, 2)]
        other = [float(weight[i]) * squares[2 * i + 1] for i in range(32)]
        expected += sum(real) / 32 + sum(other) / 32
    assert float(h2o.td_loss(qs, target, rows, weight)) == pytest.approx(expected)


def test_the_push_is_that_of_a_plain_transcription(robot):
    _, _, rows = prepared(robot)
    rng = torch.Generator().manual_seed(0)
    qs, gaps = torch.randn(2, 64, generator=rng), torch.rand(32, generator=rng)
    share = gaps / gaps.sum()
    expected = 0.0
    for k in range(2):
        terms = [float(share[i]) * math.exp(qs[k, 2 * i + 1]) for i in range(32)]
        expected += math.log(sum(terms)) - float(qs[k, ::2].mean())
    assert float(h2o.push_loss(qs, rows, share)) == pytest.approx(expected, rel=1e-5)


def test_the_push_is_downwards_where_the_gap_is_and_upwards_on_real_rows(robot):
    _, _, rows = prepared(robot)
    qs = torch.zeros(1, 64, requires_grad=True)
    share = torch.full((32,), 1e-6)
    share[5] = 1.0 - 31e-6
    h2o.push_loss(qs, rows, share).backward()
    gradient = qs.grad[0]
    assert float(gradient[rows.simulated[5]]) == pytest.approx(1.0, abs=1e-3)
    assert gradient[rows.real].tolist() == pytest.approx([-1 / 32] * 32)
    assert float(gradient[rows.simulated].sum()) == pytest.approx(1.0)


def test_without_weights_all_simulated_pairs_are_pushed_alike(robot):
    learner, _, rows = prepared(robot, adaptive=False)
    qs, gaps = torch.randn(2, 64), torch.rand(32)
    alike = torch.full((32,), 1 / 32)
    found = learner._push(qs, rows, gaps)
    assert torch.allclose(found, h2o.push_loss(qs, rows, alike))


@torch.no_grad()
def test_h2o_leaves_the_entropy_out_of_its_target(robot):
    learner, inputs, _ = prepared(robot)
    learner._rng.manual_seed(5)
    found = learner._td_target(inputs)
    learner._rng.manual_seed(5)
    after = inputs.observations[64:]
    action, _ = h2o.squash(*learner.policy.moments(after), learner._noise(64))
    least = learner.target.q(after, action).amin(0)
    assert torch.allclose(found, inputs.reward + 0.9 * least, atol=1e-5)


@pytest.mark.parametrize("anchor", [0.0, 0.25, 1.0])
@torch.no_grad()
def test_h2o_plus_mixes_the_value_of_real_data_into_its_target(robot, anchor):
    learner, inputs, _ = prepared(robot, variant="h2o_plus", anchor=anchor)
    learner._rng.manual_seed(5)
    found = learner._td_target(inputs)
    learner._rng.manual_seed(5)
    after = inputs.observations[64:]
    action, log_prob = h2o.squash(*learner.policy.moments(after), learner._noise(64))
    temperature = learner.multipliers["temperature"]()
    soft = learner.target.q(after, action).amin(0) - temperature * log_prob
    value = learner.value(after).squeeze(-1)
    expected = inputs.reward + 0.9 * (anchor * value + (1 - anchor) * soft)
    assert torch.allclose(found, expected, atol=1e-5)


def test_the_anchor_is_of_real_rows_alone(robot):
    states = []
    for shift in (0.0, 1.0):
        learner = make(robot, h2o, variant="h2o_plus")
        batch = toy(np.random.default_rng(0))
        batch.observation[1::2] += np.float32(shift)
        inputs, rows = learner._inputs(batch), learner._rows(batch)
        learner._improve_value(learner.value, inputs, rows)
        states.append(learner.value.state_dict())
    assert all(torch.equal(a, states[1][name]) for name, a in states[0].items())


def test_h2o_plus_does_not_push(robot):
    learner = make(robot, h2o, variant="h2o_plus")
    names = learner.update(toy(np.random.default_rng(0))).keys()
    assert "push" not in names
    assert "loss/value" in names


@pytest.mark.parametrize("variant", ["h2o", "h2o_plus"])
def test_losses_decrease(robot, variant):
    learner, rng = make(robot, h2o, variant=variant), np.random.default_rng(0)
    losses = [learner.update(toy(rng, 128, terminated=True)) for _ in range(100)]
    for name in ("loss/critic", "loss/classifiers")[: 2 if variant == "h2o" else 1]:
        first, last = (
            np.mean([float(x[name]) for x in part])
            for part in (losses[:10], losses[-10:])
        )
        assert last < first


@pytest.mark.parametrize("variant", ["h2o", "h2o_plus"])
def test_targets_and_judges_get_no_gradient(robot, variant):
    learner = make(robot, h2o, variant=variant)
    batch = toy(np.random.default_rng(0))
    inputs, rows = learner._inputs(batch), learner._rows(batch)
    ratio, ratios = learner._ratios(inputs, rows)
    assert not any(x.requires_grad for x in (learner._td_target(inputs), ratio, ratios))
    learner.update(batch)
    assert all(p.grad is None for p in learner.target.parameters())


def test_h2o_plus_goes_on_bit_for_bit(robot):
    straight = make(robot, h2o, variant="h2o_plus")
    resumed = make(robot, h2o, variant="h2o_plus", push=0.5)
    rng = np.random.default_rng(0)
    batches = [toy(rng) for _ in range(6)]
    for batch in batches[:3]:
        straight.update(batch)
    resumed.load(straight.state())
    for batch in batches[3:]:
        straight.update(batch)
        resumed.update(batch)
    assert straight.state() == resumed.state()


@pytest.mark.parametrize(
    "settings", [{"copies": 0}, {"input_noise": -0.1}, {"anchor": 1.5}, {"push": -1.0}]
)
def test_settings_that_no_run_could_mean_are_refused(robot, settings):
    with pytest.raises(LearnerError, match=next(iter(settings)).split("_")[-1]):
        make(robot, h2o, **settings)
