"""FamO2O: its update against the sheet, piece by piece, over both of its bases."""

import copy
import math

import numpy as np
import pytest
from policy_examples import bandit, make, train

torch = pytest.importorskip("torch")

from torch.distributions import Normal, TransformedDistribution  # noqa: E402
from torch.distributions.transforms import TanhTransform  # noqa: E402

from robostack.export import graph_inputs  # noqa: E402
from robostack.learner import LearnerError  # noqa: E402
from robostack.policies import _advantage, _family, famo2o, iql  # noqa: E402
from robostack.runtime.session import Batched  # noqa: E402
from robostack.spec import float32  # noqa: E402

BASES = pytest.mark.parametrize("base", ["iql", "awac"])


def inputs_of(learner, size=6, gamma=0.9):
    batch = bandit(np.random.default_rng(0), size)
    after = batch.observation[::-1].copy()  # the bandit's is where it was
    discount = np.full(size, gamma, np.float32)
    return learner._inputs(batch._replace(discount=discount, next_observation=after))


def again(learner):
    """Set the random state to what it was, so that the same numbers are drawn."""
    learner._rng.manual_seed(5)
    return learner


def weights(net):
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def test_the_code_of_a_balance_is_that_of_a_plain_transcription():
    balance = torch.tensor([[1.0], [3.5], [14.0]])
    found = _family.encode(balance, 6)
    for row, (b,) in zip(found.tolist(), balance.tolist(), strict=True):
        angles = [b / 10000 ** (2 * i / 6) for i in range(3)]
        expected = [f(x) for x in angles for f in (math.sin, math.cos)]
        assert row == pytest.approx(expected, abs=1e-6)


@torch.no_grad()
def test_balances_are_drawn_from_a_squashed_gaussian_within_their_range(robot):
    model = make(robot, famo2o, least_balance=8.0, largest_balance=14.0).policy.balance
    observation, noise = torch.ones(5, 4), torch.linspace(-3, 3, 5)[:, None]
    balance, log_prob = model.draw(observation, noise)
    mean = model.mlp(observation)
    unit = (mean + noise).tanh()  # of spread 1, to begin with
    assert torch.allclose(balance, 8.0 + (unit + 1) / 2 * 6.0)
    squashed = TransformedDistribution(Normal(mean, 1.0), TanhTransform())
    assert torch.allclose(log_prob, squashed.log_prob(unit).squeeze(-1), atol=1e-3)
    assert torch.allclose(model(observation), 8.0 + (mean.tanh() + 1) / 2 * 6.0)


def test_offline_balances_are_uniform_and_online_those_of_the_model(robot):
    here = inputs_of(make(robot, famo2o), 4000).observation
    offline = make(robot, famo2o)._balance(here)
    assert offline.shape == (4000, 1)
    assert 1.0 <= float(offline.min()) < 1.01
    assert 4.99 < float(offline.max()) <= 5.0
    assert float(offline.mean()) == pytest.approx(3.0, abs=0.1)
    learner = make(robot, famo2o, phase="online")
    found = again(learner)._balance(here)
    noise = again(learner)._one(here)
    assert torch.equal(found, learner.policy.balance.draw(here, noise)[0].detach())


def test_balances_to_learn_by_are_drawn_before_their_models_step(robot, monkeypatch):
    learner = make(robot, famo2o, phase="online", balance_period=1)
    before, drawn = weights(learner.policy.balance), []
    draw = learner._balance

    def noted(here):
        drawn.append(weights(learner.policy.balance))
        return draw(here)

    monkeypatch.setattr(learner, "_balance", noted)
    learner.update(bandit(np.random.default_rng(0), 6))
    assert torch.equal(drawn[0], before)
    assert not torch.equal(weights(learner.policy.balance), before)


@torch.no_grad()
def test_the_base_judges_as_iql_does(robot):
    learner = make(robot, famo2o, learning_rate=0.0)
    inputs = inputs_of(learner)
    here, after = inputs.observations.chunk(2)
    q = learner.target.q(here, inputs.action)
    with torch.enable_grad():
        advantage, value, td_target = learner._judge(inputs, q)
    v, next_v = learner.value(here)[:, 0], learner.value(after)[:, 0]
    assert torch.allclose(advantage, torch.minimum(q[0], q[1]) - v)
    assert torch.allclose(value, v)
    assert torch.allclose(td_target, inputs.reward + 0.9 * next_v)


def test_a_range_of_no_width_is_iql_with_that_inverse_temperature(robot):
    """To the bit in all that judges; in the policy, but for what it makes of b."""
    fixed = {"least_balance": 3.0, "largest_balance": 3.0}
    ours = make(robot, famo2o, **fixed)
    base = make(robot, iql, inverse_temperature=3.0, actor_schedule="constant")
    for name in ("value", "critic", "target"):
        getattr(ours, name).load_state_dict(getattr(base, name).state_dict())
    observed = robot.observation_size
    state = base.policy.state_dict()
    first = ours.policy.universal.mlp.layers[0].weight.detach().clone()
    first[:observed], first[observed:] = state["mlp.layers.0.weight"], 0.0
    ours.policy.universal.load_state_dict(state | {"mlp.layers.0.weight": first})
    rng = np.random.default_rng(0)
    batch = bandit(rng, 64)
    ours.update(batch), base.update(batch)
    for name, weight in base.policy.state_dict().items():
        found = ours.policy.universal.state_dict()[name]
        assert torch.allclose(found[: len(weight)], weight, atol=1e-6)
    for _ in range(3):
        batch = bandit(rng, 64)
        ours.update(batch), base.update(batch)
    for name in ("value", "critic", "target"):
        assert torch.equal(weights(getattr(ours, name)), weights(getattr(base, name)))


@torch.no_grad()
def test_the_base_judges_as_awac_does_by_actions_of_the_pair(robot):
    learner = make(robot, famo2o, base="awac")
    inputs = inputs_of(learner)
    here, after = inputs.observations.chunk(2)
    qs = learner.critic.q(here, inputs.action)
    advantage, _, td_target = again(learner)._judge(inputs, qs)
    again(learner)
    next_action, action = learner._pair(after), learner._pair(here)
    value = learner.critic.q(here, action).amin(0)
    future = learner.target.q(after, next_action).amin(0)
    assert torch.allclose(advantage, qs.amin(0) - value, atol=1e-6)
    assert torch.allclose(td_target, inputs.reward + 0.9 * future, atol=1e-6)


@BASES
def test_the_universal_policys_loss_is_that_of_a_plain_transcription(robot, base):
    learner = make(robot, famo2o, base=base, largest_balance=9.0, balance_period=10**6)
    learner._updates = 1  # the balance model waits
    twin = copy.deepcopy(learner)
    batch = bandit(np.random.default_rng(0), 6)
    found = float(again(learner).update(batch)["loss/policy"])
    inputs = again(twin)._inputs(batch)
    qs = twin.critic.q(inputs.observation, inputs.action)
    advantage, _, _ = twin._judge(inputs, qs)
    balance = twin._balance(inputs.observation)
    total = 0.0
    for b in range(6):
        weight = min(math.exp(float(balance[b]) * float(advantage[b])), 100.0)
        code = _family.encode(balance[b][None], 6)
        seen = torch.cat((inputs.observation[b][None], code), 1)
        mean = twin.policy.universal(seen).detach()
        density = Normal(mean, 1.0).log_prob(inputs.action[b])  # of spread 1, at first
        total -= weight * float(density.sum()) / 6
    assert found == pytest.approx(total, rel=1e-4)


@torch.no_grad()
def test_the_balance_models_loss_is_that_of_a_plain_transcription(robot):
    learner = make(robot, famo2o, temperature=0.4, learning_rate=0.0)
    here = inputs_of(learner).observation
    with torch.enable_grad():
        again(learner)._improve_balance(here)
    noise, drawn = again(learner)._one(here), learner._noise(6)
    balance, log_prob = learner.policy.balance.draw(here, noise)
    seen = torch.cat((here, _family.encode(balance, 6)), 1)
    action = (learner.policy.universal(seen) + drawn).clamp(-1, 1)  # of spread 1
    q = learner.target.q(here, action)
    expected = float((0.4 * log_prob - torch.minimum(q[0], q[1])).mean())
    assert float(learner._seldom["loss/balance"]) == pytest.approx(expected, rel=1e-4)


def test_the_balance_models_step_moves_it_and_its_temperature_alone(robot):
    learner = make(robot, famo2o)
    before = {k: v.clone() for k, v in learner._nets.state_dict().items()}
    learner._improve_balance(inputs_of(learner).observation)
    after = learner._nets.state_dict()
    moved = {k for k in before if not torch.equal(before[k], after[k])}
    assert moved
    assert all(k.startswith(("policy.balance", "temperature")) for k in moved)


@pytest.mark.parametrize(("log_std", "grows"), [(-3.0, True), (0.0, False)])
def test_the_temperature_grows_while_entropy_is_missing_and_only_then(
    robot, log_std, grows
):
    """Around 0 a spread of 1 has an entropy of some 0.6, one of exp(-3) of -1.6."""
    learner = make(robot, famo2o, target_entropy=0.0)
    with torch.no_grad():
        learner.policy.balance.mlp.layers[-1].weight.zero_()
        learner.policy.balance.raw_log_std.fill_(log_std)
    learner._improve_balance(inputs_of(learner, 64).observation)
    temperature = float(learner.temperature().detach())
    assert (temperature > 1.0) == grows
    assert (temperature < 1.0) == (not grows)


@pytest.mark.parametrize("phase", ["offline", "online"])
def test_the_balance_model_learns_in_both_phases_every_period(robot, phase):
    learner = make(robot, famo2o, phase=phase, balance_period=2)
    rng = np.random.default_rng(0)
    moved = []
    for _ in range(4):
        before = weights(learner.policy.balance)
        learner.update(bandit(rng))
        moved.append(not torch.equal(before, weights(learner.policy.balance)))
    assert moved == [True, False, True, False]


def test_networks_take_their_steps_in_the_stated_order(robot, monkeypatch):
    learner, order = make(robot, famo2o), []
    names = {id(v): k for k, v in learner._optimizers.items()}
    for module in (famo2o, _advantage):
        monkeypatch.setattr(
            module, "minimize", lambda _, optimizer: order.append(names[id(optimizer)])
        )
    train(learner, 1)
    assert order == ["value", "balance", "temperature", "rest"]


@pytest.mark.slow
def test_larger_balances_mean_better_actions(robot):
    """The data is around 0, the best action 0.25 in units of 2: the family between."""
    learner = make(
        robot, famo2o, least_balance=0.5, largest_balance=10.0, expectile=0.5
    )
    train(learner, 1200)
    here = inputs_of(learner, 64).observation
    with torch.no_grad():
        data, middle, best = (
            float(learner.policy.universal(learner.policy.seen(here, b)).mean())
            for b in torch.tensor([1.0, 4.0, 10.0])[:, None, None].expand(3, 64, 1)
        )
    assert 0.0 < data < middle - 0.02
    assert middle < best - 0.01 < 0.2


def test_a_balance_that_does_not_adapt_is_the_same_for_all_states(robot):
    here = inputs_of(make(robot, famo2o), 9).observation
    fixed = make(robot, famo2o, state_adaptive=False).policy.balance(here)
    assert float(fixed.std().detach()) == pytest.approx(0.0, abs=1e-6)
    assert float(make(robot, famo2o).policy.balance(here).std().detach()) > 0.01


def test_where_balance_is_worth_something_the_model_chooses_it(robot):
    """Critics praise large actions, and the policy's actions grow with the balance."""
    learner = make(robot, famo2o, base="awac", target_entropy=-3.0)
    here = inputs_of(learner, 64).observation
    learner.target.q = lambda _, action: 9.0 * action.sum(-1)[None]
    learner.policy.member = lambda _, balance, noise: (balance / 5).expand(-1, 2)
    before = float(learner.policy.balance(here).mean().detach())
    for _ in range(100):
        learner._improve_balance(here)
    assert float(learner.policy.balance(here).mean().detach()) > max(before + 0.5, 4.0)


@pytest.mark.slow
@BASES
def test_the_exported_graph_holds_the_pair(robot, base):
    learner = make(robot, famo2o, base=base)
    train(learner, 20)
    run = Batched(learner.export())
    observation = float32(np.random.default_rng(0).uniform(-1, 1, (7, 4)))
    for seed in (None, 3):
        rngs = [None if seed is None else np.random.default_rng(3) for _ in "ab"]
        found = run(graph_inputs(learner, observation, rngs[0]))["action"]
        assert np.abs(found - learner.act(observation, rngs[1])).max() <= 1e-5
    before = learner.act(observation, None)
    with torch.no_grad():
        learner.policy.balance.mlp.layers[-1].bias.add_(5.0)
    assert np.abs(learner.act(observation, None) - before).max() > 1e-4


@BASES
def test_a_loaded_learner_goes_on_bit_for_bit_in_either_phase(robot, base):
    straight = make(robot, famo2o, base=base)
    train(straight, 5)
    resumed = make(robot, famo2o, base=base, phase="online")
    resumed.load(straight.state())
    assert resumed.state() == straight.state()
    train(resumed, 5)
    online = make(robot, famo2o, base=base, phase="online")
    online.load(straight.state())
    train(online, 5)
    assert online.state() == resumed.state()


def test_the_state_of_the_other_base_is_refused(robot):
    with pytest.raises(LearnerError, match="another algorithm"):
        make(robot, famo2o).load(make(robot, famo2o, base="awac").state())


@pytest.mark.parametrize(
    "settings",
    [
        {"least_balance": 6.0},
        {"balance_code": 5},
        {"balance_period": 0},
        {"expectile": 1.0},
        {"samples": 0},
    ],
)
def test_settings_that_no_run_could_mean_are_refused(robot, settings):
    with pytest.raises(LearnerError, match=next(iter(settings))):
        make(robot, famo2o, **settings)
