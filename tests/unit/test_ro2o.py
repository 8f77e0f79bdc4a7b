"""RO2O: its update against the sheet, piece by piece, and what the terms are for."""

import math

import numpy as np
import pytest
from policy_examples import bandit, make, train

torch = pytest.importorskip("torch")

from torch.distributions import Normal, kl_divergence  # noqa: E402

from robostack.learner import LearnerError  # noqa: E402
from robostack.policies import ro2o  # noqa: E402
from robostack.policies._nets import squash  # noqa: E402

SMALL = {"critics": 3, "least_of": 3, "samples": 4}
WIDE = {"critic_radius": 0.5, "policy_radius": 0.5, "penalty_radius": 0.5}


def small(robot, **settings):
    return make(robot, ro2o, **(SMALL | WIDE | settings))


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


def test_pessimism_falls_to_its_least_and_is_least_online():
    config = ro2o.Config(pessimism=1.0, least_pessimism=0.1, pessimism_decay=0.25)
    assert [ro2o.pessimism(config, n) for n in (0, 1, 3, 4, 99)] == pytest.approx(
        [1.0, 0.75, 0.25, 0.1, 0.1]
    )
    online = ro2o.Config(phase="online", least_pessimism=0.1)
    assert ro2o.pessimism(online, 0) == 0.1


def test_networks_begin_as_those_of_edac(robot):
    learner = small(robot)
    for net, last in ((learner.critic, 3e-3), (learner.policy.mlp, 1e-3)):
        *hidden, end = net.layers
        for layer in hidden:
            bound = 1 / math.sqrt(layer.weight.shape[-2])
            assert (layer.bias == 0.1).all()
            assert 0.9 * bound < float(layer.weight.detach().abs().max()) <= bound
        assert 0.9 * last < float(weights(end).abs().max()) <= last
    assert torch.equal(weights(learner.target), weights(learner.critic))


@torch.no_grad()
def test_the_roughness_is_that_of_a_plain_transcription(robot):
    learner = small(robot)
    inputs = inputs_of(learner)
    qs = learner.critic.q(inputs.observation, inputs.action)
    found = again(learner)._roughness(inputs, qs)
    states = again(learner)._near(inputs.observation, 0.5)
    maxima = []
    for b in range(6):
        each = []
        for state in states[:, b]:
            pair = torch.cat((state, inputs.action[b]))[None]
            d = learner.critic(pair).flatten() - qs[:, b]
            terms = [(0.8 if x > 0 else 0.2) * x * x for x in d.tolist()]
            each.append(sum(terms) / 3)
        maxima.append(max(each))
    assert float(found) == pytest.approx(sum(maxima) / 6, rel=1e-4)


@torch.no_grad()
def test_the_policys_jump_is_that_of_a_plain_transcription(robot):
    learner = small(robot)
    learner.policy.mlp.layers[-1].weight.mul_(100)
    here = inputs_of(learner).observation
    mean, log_std = learner.policy.moments(here)
    found = again(learner)._jump(here, mean, log_std)
    states = again(learner)._near(here, 0.5)
    maxima = []
    for b in range(6):
        p, each = Normal(mean[b], log_std[b].exp()), []
        for state in states[:, b]:
            other_mean, other_log_std = learner.policy.moments(state[None])
            q = Normal(other_mean[0], other_log_std[0].exp())
            each.append(float((kl_divergence(p, q) + kl_divergence(q, p)).sum()))
        maxima.append(max(each))
    assert float(found) == pytest.approx(sum(maxima) / 6, rel=1e-3)


@torch.no_grad()
def test_the_pull_is_that_of_a_plain_transcription(robot):
    learner = small(robot, pessimism=0.8, pessimism_decay=0.0)
    inputs = inputs_of(learner)
    found, _ = again(learner)._pull(inputs)
    states = again(learner)._near(inputs.observation, 0.5)
    noise = learner._noise(4, 6)
    squares = []
    for n in range(4):
        for b in range(6):
            moments = learner.policy.moments(states[n, b][None])
            action, _ = squash(*moments, noise[n, b][None])
            q = learner.critic.q(states[n, b][None], action).flatten()
            squares += [float(0.8 * q.std()) ** 2] * 3
    assert float(found) == pytest.approx(sum(squares) / len(squares), rel=1e-4)


@pytest.mark.parametrize("kind", ["least", "own"])
def test_the_td_target_is_of_the_least_target_or_of_each_critics_own(robot, kind):
    learner = small(robot, td_target=kind, temperature=0.3)
    train(learner, 5)
    inputs = inputs_of(learner)
    found = again(learner)._td_targets(inputs)
    after = inputs.observations[6:]
    noise = again(learner)._noise(6)
    action, log_prob = squash(*learner.policy.moments(after), noise)
    q = learner.target.q(after, action)
    heat = learner.multipliers["temperature"]()
    future = (q.amin(0) if kind == "least" else q) - heat * log_prob
    assert torch.allclose(found, inputs.reward + 0.9 * future, atol=1e-6)


def test_each_critic_learns_from_its_own_target(robot, monkeypatch):
    learner, told, size = small(robot, td_target="own"), [], 6
    train(learner, 5)
    with torch.no_grad():  # targets that are far apart
        learner.target.layers[-1].bias.add_(
            torch.tensor([-1.0, 0.0, 2.0]).view(3, 1, 1)
        )
    td_targets = learner._td_targets

    def noted(inputs):
        told.append(td_targets(inputs))
        return told[-1]

    monkeypatch.setattr(learner, "_td_targets", noted)
    goes_on = np.full(size, 0.9, np.float32)  # or all targets were the reward
    batch = bandit(np.random.default_rng(0), size)._replace(discount=goes_on)
    inputs = learner._inputs(batch)
    qs = learner.critic.q(inputs.observation, inputs.action).detach()
    loss = float(learner.update(batch)["loss/critic"])
    pairs = zip(qs, told[0], strict=True)
    own = sum(float((q - target).square().mean()) for q, target in pairs)
    assert loss == pytest.approx(own, rel=1e-4)


def test_the_policy_may_seek_the_mean_less_deviations(robot):
    qs = torch.tensor([[1.0], [2.0], [6.0]])
    least = small(robot)._sought(qs)
    bound = small(robot, policy_critic="mean", deviations=4.0)._sought(qs)
    assert float(least) == 1.0
    assert float(bound) == pytest.approx(3.0 - 4.0 * math.sqrt(7.0))


@pytest.mark.parametrize("phase", ["offline", "online"])
@pytest.mark.parametrize(
    ("setting", "net"),
    [
        ("critic_smoothing", "critic"),
        ("penalty", "critic"),
        ("policy_smoothing", "policy"),
        ("cloning", "policy"),
    ],
)
def test_every_term_reaches_its_network_in_both_phases(robot, phase, setting, net):
    moved = []
    for weight in (1.0, 30.0):  # the same numbers are drawn
        learner = small(robot, phase=phase, **{setting: weight})
        train(learner, 3)
        moved.append(weights(getattr(learner, net)))
    assert not torch.allclose(*moved, atol=1e-5)


@pytest.mark.parametrize("setting", ["critic_smoothing", "penalty"])
def test_the_critics_terms_do_not_push_the_policy(robot, setting):
    moved = []
    for weight in (1.0, 30.0):
        learner = small(robot, **{setting: weight})
        train(learner, 1)  # the policy steps before the critic does
        moved.append(weights(learner.policy))
    assert torch.equal(*moved)


def test_temperature_then_policy_then_critic_take_their_steps(robot, monkeypatch):
    learner, order = small(robot), []
    names = {id(v): k for k, v in learner._optimizers.items()}
    monkeypatch.setattr(
        ro2o, "minimize", lambda loss, optimizer: order.append(names[id(optimizer)])
    )
    train(learner, 1)
    assert order == ["temperature", "policy", "critic"]


def test_smoothing_makes_a_policy_that_changes_less(robot):
    jumps = []
    for weight in (1e-9, 10.0):
        learner = small(robot, policy_smoothing=weight, policy_learning_rate=3e-3)
        train(learner, 40)
        here = inputs_of(learner, 64).observation
        with torch.no_grad():
            jump = again(learner)._jump(here, *learner.policy.moments(here))
        jumps.append(float(jump))
    assert jumps[1] < 0.3 * jumps[0]


@pytest.mark.slow
def test_the_penalty_lowers_what_critics_say_of_the_policys_actions(robot):
    values = []
    for weight in (1e-9, 10.0):
        learner = small(robot, penalty=weight, pessimism_decay=0.0, cloning=10.0)
        train(learner, 60)
        here = inputs_of(learner, 64).observation
        with torch.no_grad():
            values.append(float(learner.critic.q(here, learner.policy(here)).mean()))
    assert values[1] < values[0]


def test_a_state_goes_on_in_the_other_phase(robot):
    learner, online = small(robot), small(robot, phase="online")
    train(learner, 3)
    online.load(learner.state())
    train(online, 3)
    assert float(online.update(bandit(np.random.default_rng(0)))["loss/critic"]) > 0


@pytest.mark.parametrize(
    "settings", [{"critics": 1, "least_of": 1}, {"samples": 0}, {"downward": 2.0}]
)
def test_settings_that_no_run_could_mean_are_refused(robot, settings):
    with pytest.raises(LearnerError, match=next(iter(settings))):
        small(robot, **settings)
