"""CQL and Cal-QL: the penalty against a plain transcription, and the calibration."""

import math

import numpy as np
import pytest
from policy_examples import bandit, make, train

torch = pytest.importorskip("torch")

from robostack.learner import LearnerError  # noqa: E402
from robostack.policies import _conservative, cal_ql, cql  # noqa: E402


def seeded(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def whole(inputs, proposals, bound=None):
    """Return a batch as one part."""
    nothing = torch.zeros(len(inputs.reward))
    return _conservative.Part(
        inputs.observation, inputs.action, proposals, nothing, bound, None
    )


def transcribed(learner, inputs, proposals, bound=None):
    """Return the penalty per critic, one critic, state and action at a time."""
    samples = learner._config.samples
    gaps = []
    for k in range(2):
        each = []
        for b, observation in enumerate(inputs.observation):
            terms = []
            for i, action in enumerate(proposals.action[:, b]):
                pair = torch.cat((observation, action))[None]
                q = float(learner.critic(pair)[k])
                if bound is not None and i >= samples:
                    q = max(q, float(bound[b]))
                terms.append(math.exp(q - float(proposals.log_density[i, b])))
            pair = torch.cat((observation, inputs.action[b]))[None]
            each.append(math.log(sum(terms)) - float(learner.critic(pair)[k]))
        gaps.append(sum(each) / len(each))
    return gaps


@pytest.mark.parametrize("bound", [None, 0.3])
@torch.no_grad()
def test_the_penalty_is_that_of_a_plain_transcription(robot, bound):
    learner = make(robot, cql, samples=3)
    inputs = learner._inputs(bandit(np.random.default_rng(0), 5))
    moments = learner.policy.moments(inputs.observations)
    proposals = learner._proposals(inputs, *moments)
    bounds = None if bound is None else torch.full((5,), bound)
    soft_max, logged = learner._soft_maximum(whole(inputs, proposals, bounds))
    found = _conservative.penalty(soft_max, logged).tolist()
    expected = transcribed(learner, inputs, proposals, bounds)
    assert found == pytest.approx(expected, abs=1e-4)


def test_the_soft_maximum_estimates_the_integral_over_all_actions():
    """For Q = c * a in one dimension it is log(2 sinh(c) / c)."""
    action = 2 * torch.rand(1, 40000, 1, generator=torch.Generator().manual_seed(0)) - 1
    q, log_density = 3.0 * action, torch.full((40000, 1), -math.log(2.0))
    found = float(_conservative.soft_maximum(q, log_density)) - math.log(40000)
    assert found == pytest.approx(math.log(2 * math.sinh(3) / 3), abs=0.02)


@torch.no_grad()
def test_proposals_are_uniform_then_of_the_policy_here_then_of_that_after(robot):
    learner = make(robot, cql, samples=500)
    batch = bandit(np.random.default_rng(0), 3)
    goes_on = np.float32([0.99, 0.99, 0.0])
    inputs = learner._inputs(batch._replace(discount=goes_on))
    mean = torch.tensor([[-0.5]] * 3 + [[0.5]] * 3).expand(6, 2)
    log_std = torch.full((6, 2), -3.0)
    action, log_density = learner._proposals(inputs, mean, log_std)
    uniform, here, after = action.mean(-1).view(3, 500, 3).mean(1)
    assert uniform.tolist() == pytest.approx([0.0] * 3, abs=0.1)
    assert here.tolist() == pytest.approx([math.tanh(-0.5)] * 3, abs=0.02)
    ends = math.tanh(-0.5)  # the third one terminated: there is nothing after it
    expected = [math.tanh(0.5)] * 2 + [ends]
    assert after.tolist() == pytest.approx(expected, abs=0.02)
    assert log_density[:500].unique().tolist() == pytest.approx([-2 * math.log(2)])


def test_calibration_lifts_what_the_policy_does_and_nothing_else():
    q = seeded(2, 6, 4)
    bound = torch.tensor([-9.0, 0.0, 0.5, 9.0])
    lifted = _conservative.calibrate(q, bound, torch.arange(6)[:, None] >= 2)
    assert torch.equal(lifted[:, :2], q[:, :2])
    assert torch.equal(lifted[:, 2:], torch.maximum(q[:, 2:], bound))
    assert (lifted[:, 2:, 3] == 9.0).all()


def test_where_the_bound_holds_no_gradient_pushes_values_down():
    q = torch.zeros(1, 3, 1, requires_grad=True)
    own = torch.tensor([[False], [True], [True]])
    lifted = _conservative.calibrate(q, torch.tensor([1.0]), own)
    _conservative.soft_maximum(lifted, torch.zeros(3, 1)).sum().backward()
    assert q.grad.flatten()[1:].tolist() == [0.0, 0.0]
    assert q.grad.flatten()[0] > 0


@pytest.mark.parametrize("bound", [None, 0.05])
def test_a_gradient_at_drawn_actions_is_that_at_all_on_average(robot, bound):
    learner = make(robot, cql, samples=2, gradient_samples=2)
    inputs = learner._inputs(bandit(np.random.default_rng(0), 8))
    with torch.no_grad():
        moments = learner.policy.moments(inputs.observations)
        proposals = learner._proposals(inputs, *moments)
    bounds = None if bound is None else torch.full((8,), bound)
    weights = learner.critic.layers[0].weight

    def step(soft_maximum, *start):
        soft_max, _ = soft_maximum(whole(inputs, proposals, bounds), *start)
        (gradient,) = torch.autograd.grad(soft_max.sum(), weights)
        return soft_max.detach(), gradient

    value, expected = step(learner._soft_maximum)
    rng = torch.Generator().manual_seed(0)
    starts = torch.rand(400, 2, 8, generator=rng)
    drawn = [step(learner._sampled_soft_maximum, start) for start in starts]
    assert torch.allclose(drawn[0][0], value, atol=1e-5)
    mean = torch.stack([gradient for _, gradient in drawn]).mean(0)
    assert (drawn[0][1] - expected).norm() > 0.1 * expected.norm()
    assert (mean - expected).norm() < 0.06 * expected.norm()


@pytest.mark.parametrize("settings", [{}, {"gap": 1.0}, {"max_backup": True}])
def test_an_update_in_parts_is_that_of_the_whole_batch(robot, settings, monkeypatch):
    def updated(rows):
        monkeypatch.setattr(_conservative, "_CACHED_ROWS", rows)
        learner = make(robot, cal_ql, samples=3, **settings)
        returns = np.linspace(-1, 1, 32, dtype=np.float32)
        batch = bandit(np.random.default_rng(0), 32)._replace(mc_return=returns)
        metrics = [learner.update(batch) for _ in range(3)][-1]
        weights = torch.cat([p.flatten() for p in learner._nets.parameters()])
        return weights, {name: float(value) for name, value in metrics.items()}

    (parts, ours), (one, theirs) = updated(50), updated(10**6)
    assert torch.allclose(parts, one, atol=1e-5)
    assert ours == pytest.approx(theirs, abs=1e-4)


def test_drawn_indices_are_as_many_as_their_weights_say():
    weight = torch.tensor([0.5, 0.0, 0.25, 0.25]).view(1, 4, 1)
    for start in (0.1, 0.9):
        index = _conservative.draw(weight, 4, torch.full((1, 1), start))
        assert sorted(index.flatten().tolist()) == [0, 0, 2, 3]


def test_cal_ql_below_all_values_is_cql(robot):
    ours, theirs = make(robot, cal_ql, samples=2), make(robot, cql, samples=2)
    rng = np.random.default_rng(0)
    for _ in range(3):
        batch = bandit(rng, 32)
        ours.update(batch._replace(mc_return=np.full(32, -1e6, np.float32)))
        theirs.update(batch)
    assert ours.state() == theirs.state()


def test_cal_ql_without_returns_is_refused_in_words(robot):
    with pytest.raises(LearnerError, match="mc_return"):
        make(robot, cal_ql).update(bandit(np.random.default_rng(0)))


@pytest.mark.slow
def test_values_of_other_actions_sink_below_those_of_the_data(robot):
    """Without the penalty a critic is as sure of what nobody tried."""
    gaps = []
    for alpha in (0.0, 5.0):
        learner = make(robot, cql, alpha=alpha, samples=3)
        train(learner, 150)
        batch = bandit(np.random.default_rng(1), 64)
        here = torch.tensor(batch.observation)
        with torch.no_grad():
            data = learner.critic.q(here, torch.tensor(batch.action) / 2)
            far = learner.critic.q(here, torch.full((64, 2), -0.95))
        gaps.append(float((data - far).mean()))
    assert gaps[1] > gaps[0] + 2.0


@pytest.mark.parametrize(("gap", "grows"), [(-50.0, True), (50.0, False)])
def test_the_multiplier_grows_while_the_penalty_is_above_its_gap(robot, gap, grows):
    learner = make(robot, cql, gap=gap, samples=2)
    train(learner, 10)
    assert (float(learner.multipliers["penalty"]().detach()) > 1) == grows


def test_the_best_of_many_next_actions_is_no_less_than_one(robot):
    one, many = make(robot, cql), make(robot, cql, max_backup=True, samples=200)
    batch = bandit(np.random.default_rng(0))
    batch = batch._replace(discount=np.full(256, 0.99, np.float32))
    found = []
    for learner in (one, many):
        inputs = learner._inputs(batch)
        with torch.no_grad():
            moments = learner.policy.moments(inputs.observations)
            found.append(learner._td_target(inputs, *moments))
    assert (found[1] > found[0]).float().mean() > 0.95


@pytest.mark.slow
def test_the_policy_clones_first_where_asked_to(robot):
    learner = make(
        robot, cql, cloning_steps=10**6, samples=2, policy_learning_rate=3e-3
    )
    assert np.abs(train(learner, 300)).mean() < 0.1  # the mean of the data is 0


def test_settings_that_no_run_could_mean_are_refused(robot):
    with pytest.raises(LearnerError, match="samples"):
        make(robot, cql, samples=0)
