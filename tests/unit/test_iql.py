import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from robostack.learner import Batch, LearnerError, Statistics  # noqa: E402
from robostack.policies import _losses, bc, iql  # noqa: E402
from robostack.policies._learner import cosine  # noqa: E402
from robostack.spec import float32  # noqa: E402

STATISTICS = Statistics(np.zeros(4, np.float32), np.ones(4, np.float32), 0.0, 1.0)


def make(robot, *, module=iql, steps=100, seed=0, **settings):
    config = module.Config(hidden=(16, 16), **settings)
    return module.Learner(robot, config, statistics=STATISTICS, steps=steps, seed=seed)


def draw(rng, size=32):
    return Batch(
        float32(rng.uniform(-1, 1, (size, 4))),
        float32(rng.uniform(-2, 2, (size, 2))),
        float32(rng.uniform(-1, 1, size)),
        float32(rng.choice([0.0, 0.99], size)),
        float32(rng.uniform(-1, 1, (size, 4))),
    )


def test_expectile_weighs_what_is_above_more():
    q, v = torch.tensor([2.0, 0.0]), torch.tensor([1.0, 1.0])
    # 0.7 * 1 above, 0.3 * 1 below, over two
    assert float(_losses.value_loss(q, v, 0.7)) == pytest.approx(0.5)
    assert float(_losses.value_loss(q[:1], v[:1], 0.7)) == pytest.approx(0.7)
    assert float(_losses.value_loss(q[1:], v[1:], 0.7)) == pytest.approx(0.3)


def test_expectile_one_half_is_half_the_squared_error():
    q, v = torch.tensor([2.0, -3.0]), torch.tensor([1.0, 1.0])
    assert float(_losses.value_loss(q, v, 0.5)) == pytest.approx(0.5 * (1 + 16) / 2)


def test_a_high_expectile_finds_the_best_action_of_the_data():
    q, v = torch.tensor([0.0, 0.0, 0.0, 1.0]), torch.zeros(4, requires_grad=True)
    constant = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([constant], lr=0.5)
    for _ in range(2000):
        optimizer.zero_grad()
        _losses.value_loss(q, v.detach() + constant, 0.99).backward()
        optimizer.step()
    assert constant.item() == pytest.approx(0.99 / (0.99 + 3 * 0.01), abs=1e-3)


def descend(loss, optimizer):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def reference_updates(learner, batches, expectile=0.7, beta=3.0, rate=3e-4):
    """Update as the authors' code does, network after network, plainly."""
    nets = learner.value, learner.policy, learner.critic
    value_adam, policy_adam, critic_adam = (
        torch.optim.Adam(net.parameters(), lr=rate) for net in nets
    )
    steps = len(batches)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(policy_adam, steps)
    for batch in batches:
        observation, action, reward, discount, after = map(torch.tensor, batch[:5])
        action = (action / 2).clamp(-(1 - 1e-5), 1 - 1e-5)
        pair = torch.cat([observation, action], 1)
        q = learner.target(pair).squeeze(-1).min(0).values.detach()

        u = q - learner.value(observation).squeeze(-1)
        loss = ((expectile - (u < 0).float()).abs() * u**2).mean()
        descend(loss, value_adam)

        v = learner.value(observation).squeeze(-1).detach()
        weight = torch.exp(beta * (q - v)).clamp(max=100)
        density = torch.distributions.Normal(
            learner.policy(observation), learner.policy.log_std.exp()
        )
        loss = -(weight * density.log_prob(action).sum(-1)).mean()
        descend(loss, policy_adam)
        schedule.step()

        target = reward + discount * learner.value(after).squeeze(-1).detach()
        q1, q2 = learner.critic(pair).squeeze(-1)
        loss = ((q1 - target) ** 2).mean() + ((q2 - target) ** 2).mean()
        descend(loss, critic_adam)

        with torch.no_grad():
            pairs = zip(
                learner.target.parameters(), learner.critic.parameters(), strict=True
            )
            for slow, fast in pairs:
                slow.copy_(0.995 * slow + 0.005 * fast)


@pytest.mark.parametrize(("updates", "atol"), [(1, 2e-6), (100, 2e-5)])
def test_updates_are_those_of_the_authors_code_in_their_order(robot, updates, atol):
    ours, theirs = make(robot, steps=updates), make(robot, steps=updates)
    rng = np.random.default_rng(0)
    batches = [draw(rng) for _ in range(updates)]
    for batch in batches:
        ours.update(batch)
    reference_updates(theirs, batches)
    for name in ("value", "policy", "critic", "target"):
        nets = getattr(ours, name), getattr(theirs, name)
        for a, b in zip(*(net.parameters() for net in nets), strict=True):
            assert torch.allclose(a, b, atol=atol), name


def test_the_actors_learning_rate_follows_a_cosine_to_zero_and_others_stay(robot):
    learner = make(robot, steps=4)
    rng, rates = np.random.default_rng(0), []
    for _ in range(6):
        learner.update(draw(rng))
        rates.append([group["lr"] for group in learner._adam.param_groups])
    actor, critic = zip(*rates, strict=True)
    halves = [1.0, 0.5 + math.sqrt(0.125), 0.5, 0.5 - math.sqrt(0.125), 0.0, 0.0]
    assert actor == pytest.approx([3e-4 * h for h in halves], abs=1e-12)
    assert set(critic) == {3e-4}
    assert learner._value_adam.param_groups[0]["lr"] == 3e-4


def test_online_the_actors_learning_rate_is_constant_on_the_same_networks(robot):
    offline = make(robot, steps=2)
    rng = np.random.default_rng(0)
    for _ in range(3):
        offline.update(draw(rng))
    online = make(robot, steps=2, actor_schedule="constant")
    online.load(offline.state())
    before = online.policy.raw_log_std.detach().clone()
    online.update(draw(rng))
    assert online._adam.param_groups[0]["lr"] == 3e-4
    assert not torch.equal(before, online.policy.raw_log_std)


def test_a_schedule_begins_anew_in_a_run_that_begins_with_another(robot):
    first, rng = make(robot, steps=2), np.random.default_rng(0)
    for _ in range(2):
        first.update(draw(rng))
    second, rates = make(robot, steps=2), []
    second.begin(first.state())
    for _ in range(2):
        second.update(draw(rng))
        rates.append(second._adam.param_groups[0]["lr"])
        resumed = make(robot, steps=2)
        resumed.load(second.state())
        second = resumed
    assert rates == pytest.approx([3e-4, 1.5e-4])


def test_cosine_without_steps_is_zero_not_an_error():
    assert cosine(1.0, 1, 0) == pytest.approx(0.0)


def test_no_gradient_of_the_policy_reaches_values_or_critics(robot):
    """Rewards aside, the critics of two runs agree whatever the temperature."""
    runs = [make(robot, inverse_temperature=t) for t in (0.0, 10.0)]
    for run in runs:
        rng = np.random.default_rng(0)
        for _ in range(5):
            run.update(draw(rng))
    for name in ("value", "critic", "target"):
        nets = (getattr(run, name).parameters() for run in runs)
        assert all(torch.equal(a, b) for a, b in zip(*nets, strict=True))


def test_temperature_zero_is_behaviour_cloning(robot):
    ours = make(robot, inverse_temperature=0.0)
    clone = make(robot, module=bc)
    rng = np.random.default_rng(0)
    for _ in range(5):
        batch = draw(rng)
        ours.update(batch)
        clone.update(batch)
    for a, b in zip(ours.policy.parameters(), clone.policy.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_settings_that_mean_nothing_are_refused():
    with pytest.raises(LearnerError, match="expectile"):
        iql.Config(expectile=1.0)


def test_an_absent_device_is_refused_in_words(robot):
    with pytest.raises(LearnerError, match="cannot use the device 'gpu'"):
        make(robot, device="gpu")


def test_metrics_are_computed_only_when_read(robot):
    metrics = make(robot).update(draw(np.random.default_rng(0)))
    assert not any(isinstance(value, float) for value in metrics.values())
    assert all(math.isfinite(float(value)) for value in metrics.values())
