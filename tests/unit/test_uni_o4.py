"""Uni-O4: its formulas, its phases, and what is chosen, resumed and exported."""

import math

import numpy as np
import pytest
from policy_examples import STATISTICS, bandit

torch = pytest.importorskip("torch")

from robostack.learner import Batch, LearnerError  # noqa: E402
from robostack.policies import _ensemble, _gate, uni_o4  # noqa: E402
from robostack.policies._gaussian import (  # noqa: E402
    BoundedGaussianPolicy,
    density,
    pairwise_kl,
)
from robostack.runtime.session import Batched  # noqa: E402
from robostack.spec import float32  # noqa: E402

SMALL = {
    "hidden": (32, 32),
    "members": 3,
    "models": 3,
    "elites": 2,
    "starts": 20,
    "horizon": 4,
    "gate_period": 5,
    "learning_rate": 3e-3,
    "improvement_rate": 1e-3,
    "cloning_share": 0.5,
    "improvement_share": 0.5,
}


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def make(robot, *, steps=40, seed=0, **settings):
    config = uni_o4.Config(**(SMALL | settings))
    return uni_o4.Learner(robot, config, statistics=STATISTICS, steps=steps, seed=seed)


def train(learner, steps, seed=0):
    generator = np.random.default_rng(seed)
    for _ in range(steps):
        metrics = learner.update(bandit(generator, 64))
    return {name: float(value) for name, value in metrics.items()}


def weights(net):
    return [p.detach().clone() for p in net.parameters()]


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def moments(members=3, size=4, actions=2):
    """Return moments and noise, in double precision."""
    mean, log_std, noise = torch.randn(
        3, members, size, actions, generator=rng(), dtype=torch.float64
    ).unbind(0)
    return mean, 0.3 * log_std, noise


def plain_disagreement(mean, log_std, noise, i):
    """Transcribe KL(pi_i || max_j pi_j / Z), summed over the batch."""
    total = 0.0
    normals = [
        torch.distributions.Normal(m, s.exp())
        for m, s in zip(mean, log_std, strict=True)
    ]
    draws = [m + s.exp() * e for m, s, e in zip(mean, log_std, noise, strict=True)]
    for b in range(mean.shape[1]):
        p = [
            [torch.exp(n.log_prob(a)[b].sum()) for n in normals]
            for a in (d for d in draws)
        ]
        z = sum(len(normals) * max(row) / sum(row) for row in p) / len(normals)
        total = total + torch.log(p[i][i] / (max(p[i]) / z))
    return total


def test_the_disagreement_is_the_divergence_from_the_envelope():
    mean, log_std, noise = moments()
    found = _ensemble.disagreement(mean, log_std, noise).sum(1)
    for i in range(3):
        expected = plain_disagreement(mean, log_std, noise, i)
        assert float(found[i]) == pytest.approx(float(expected))


def test_each_members_gradient_is_that_of_its_own_disagreement_others_held():
    mean, log_std, noise = moments()
    leaves = mean.clone().requires_grad_(), log_std.clone().requires_grad_()
    _ensemble.disagreement(*leaves, noise).sum().backward()
    assert leaves[0].grad.abs().sum() > 0.1
    for i in range(3):
        ours = mean.clone().requires_grad_(), log_std.clone().requires_grad_()
        plain_disagreement(*ours, noise, i).backward()
        for leaf, alone in zip(leaves, ours, strict=True):
            assert torch.allclose(leaf.grad[i], alone.grad[i], atol=1e-9)


def test_the_disagreement_is_0_for_equal_policies_and_at_most_log_n():
    zero = torch.zeros(3, 500, 1)
    noise = torch.randn(3, 500, 1, generator=rng())
    assert _ensemble.disagreement(zero, zero, noise).abs().max() < 1e-5
    apart = torch.tensor([-50.0, 0.0, 50.0])[:, None, None].expand(3, 500, 1)
    found = _ensemble.disagreement(apart, zero, noise)
    assert found.mean() == pytest.approx(math.log(3), abs=1e-4)


def test_one_policy_has_nothing_to_disagree_with():
    mean = torch.zeros(1, 5, 2, requires_grad=True)
    found = _ensemble.disagreement(mean, mean, torch.ones(1, 5, 2))
    found.sum().backward()
    assert found.abs().max() < 1e-6
    assert mean.grad.abs().max() < 1e-6


def two_modes(generator, size=256):
    """Return data that does one of two things, at -0.5 or 0.5 [rad] each."""
    batch = bandit(generator, size)
    mode = generator.choice([-1.0, 1.0], (size, 1))
    action = mode + generator.normal(0, 0.1, (size, 2))
    return batch._replace(action=float32(action))


def spread_of_members(robot, kind, alpha):
    """Return how far clones of two modes are apart, and what each one's loss is."""
    learner = make(robot, alpha=alpha, disagreement=kind)
    generator = np.random.default_rng(0)
    for _ in range(150):
        metrics = learner._clone(learner._inputs(two_modes(generator)))
    return float(metrics["pairwise_kl"]), float(metrics["loss/policy"]) / 3


def test_disagreeing_members_differ_more_and_clone_nearly_as_well(robot):
    agreeing, plain = spread_of_members(robot, "assignment", 0.0)
    assigned, loss = spread_of_members(robot, "assignment", 0.1)
    assert assigned > 3 * agreeing
    assert loss < plain + 0.05
    enveloped, loss = spread_of_members(robot, "envelope", 2.0)
    assert enveloped > 3 * agreeing
    assert loss < plain + 0.3


def test_actions_weigh_more_for_who_foresees_them_best():
    log_prob = torch.tensor([[0.0, -3.0], [-1.0, -2.0]])
    weight = _ensemble.assignment(log_prob, 0.1).flatten().tolist()
    assert weight == pytest.approx([1.1, 0.9, 0.9, 1.1])
    assert _ensemble.assignment(log_prob[:1], 0.1).tolist() == [[1.0, 1.0]]


def test_the_cloning_loss_is_log_likelihood_and_disagreement(robot):
    ours, plain = (make(robot, disagreement="envelope") for _ in "ab")
    inputs = plain._inputs(bandit(np.random.default_rng(0), 64))
    mean, log_std = plain.policy.moments(inputs.observation)
    noise = torch.randn(3, 64, 2, generator=plain._rng)
    loss = -density(mean, log_std, inputs.action).mean(-1).sum()
    loss = loss - 0.1 * _ensemble.disagreement(mean, log_std, noise).mean(-1).sum()
    optimizer = torch.optim.Adam(plain.policy.parameters(), lr=3e-3)
    loss.backward()
    optimizer.step()
    ours._clone(inputs)
    pairs = zip(weights(ours.policy), weights(plain.policy), strict=True)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in pairs)


def test_shares_divide_the_steps():
    config = uni_o4.Config(improvement_share=0.005, cloning_share=0.2)
    assert uni_o4.phases(config, 2_000_000) == (400_000, 1_990_000)
    assert uni_o4.phases(config, 1) == (0, 1)
    greedy = uni_o4.Config(improvement_share=0.5, cloning_share=1.0)
    assert uni_o4.phases(greedy, 10) == (5, 5)


def test_every_phase_moves_its_own_networks_and_no_others(robot):
    learner = make(robot, steps=40, cloning_share=0.25)
    nets = ("policy", "candidate", "value", "critic", "target", "dynamics")
    moved = []
    for until in (10, 20, 24, 40):  # clones, fits, improves to before the first gate
        before = {name: weights(getattr(learner, name)) for name in nets}
        train(learner, until - learner._updates, seed=until)
        after = {name: weights(getattr(learner, name)) for name in nets}
        moved.append({n for n in nets if not same(before[n], after[n])})
    critics = {"value", "critic", "target", "dynamics"}
    assert moved[0] == critics | {"policy"}
    assert moved[1] == critics
    assert moved[2] == {"candidate"}
    assert moved[3] >= {"candidate"}
    assert not moved[3] & critics


def test_an_improvement_is_a_plain_step_of_clipped_ppo(robot):
    """Loop over members; each one's gradient is limited by its own norm."""
    wide = {"cloning_share": 0.0}  # some draws are beyond the rim
    settings = wide | {"max_gradient": 0.05, "gate_period": 100}
    learner, plain = make(robot, **settings), make(robot, **settings)
    train(learner, 23)  # three steps in, so that ratios are not 1
    plain.load(learner.state())
    here = plain._inputs(batch := bandit(np.random.default_rng(9), 64)).observation
    noise = torch.randn(3, 64, 2, generator=plain._rng)
    mean, log_std = (x.detach() for x in plain.policy.moments(here))
    now_mean, now_log_std = plain.candidate.moments(here)
    params, gradients = list(plain.candidate.parameters()), []
    for i in range(3):
        old = torch.distributions.Normal(mean[i], log_std[i].exp())
        action = mean[i] + log_std[i].exp() * noise[i]
        pair = torch.cat((here, action.clamp(-1, 1)), 1)
        q = plain.target(pair).squeeze(-1).min(0).values
        a = (q - plain.value(here).squeeze(-1)).detach()
        a = (a - a.mean()) / (a.std(correction=0) + 1e-8)
        new = torch.distributions.Normal(now_mean[i], now_log_std[i].exp())
        ratio = (new.log_prob(action).sum(-1) - old.log_prob(action).sum(-1)).exp()
        loss = -torch.min(ratio * a, ratio.clamp(0.75, 1.25) * a).mean()
        own = torch.autograd.grad(loss, params, retain_graph=True)
        norm = float(torch.sqrt(sum(g.square().sum() for g in own)))
        gradients.append([g * min(1.0, 0.05 / norm) for g in own])
    optimizer = plain._adams["candidate"]
    optimizer.param_groups[0]["lr"] = 1e-3 * (1 - 3 / 20)
    for param, *grads in zip(params, *gradients, strict=True):
        param.grad = sum(grads)
    optimizer.step()
    learner.update(batch)
    pairs = zip(weights(learner.candidate), weights(plain.candidate), strict=True)
    assert all(torch.allclose(a, b, atol=2e-6) for a, b in pairs)


def gate(members=3, starts=6):
    return _gate.Gate(members, starts, 1, torch.device("cpu"))


def test_only_what_is_judged_better_than_the_best_so_far_passes():
    door = gate()
    door.begin(torch.tensor([1.0, 2.0, 3.0]))
    assert int(door.chosen) == 2
    first = door.admit(torch.tensor([1.5, 2.0, torch.nan]))
    assert first.tolist() == [True, False, False]
    second = door.admit(torch.tensor([1.2, 9.0, torch.inf]))
    assert second.tolist() == [False, True, False]
    assert door.best.tolist() == [1.5, 9.0, 3.0]
    assert int(door.chosen) == 1
    assert (door.accepted.tolist(), int(door.judged)) == ([1, 1, 0], 2)


def test_without_a_gate_everything_passes():
    door = gate()
    door.begin(torch.tensor([1.0, 2.0, 3.0]))
    score = torch.tensor([0.0, 5.0, 1.0])
    assert door.admit(score, always=True).all()
    assert door.best.tolist() == score.tolist()


def test_starts_are_the_newest_observations():
    door = gate()
    for i in range(3):
        door.remember(4.0 * i + torch.arange(4.0)[:, None], i)
    assert sorted(door.starts.flatten().tolist()) == [6, 7, 8, 9, 10, 11]
    few = gate()
    few.remember(torch.tensor([[1.0], [2.0]]), 0)
    assert few.starts.flatten().tolist() == [1, 2, 1, 2, 1, 2]


def test_replacing_takes_the_named_members_alone():
    old, new = (BoundedGaussianPolicy((2, 4, 1), rng(s), lead=(3,)) for s in (0, 1))
    before = weights(old)
    _ensemble.replace(old, new, torch.tensor([True, False, True]))
    for was, now, other in zip(before, weights(old), weights(new), strict=True):
        assert torch.equal(now[[0, 2]], other[[0, 2]])
        assert torch.equal(now[1], was[1])


def test_a_candidate_passes_only_if_am_q_says_so(robot):
    for verdict in (-1.0, 1.0):
        learner = make(robot)
        train(learner, 21)
        before = weights(learner.policy)
        learner._score = lambda _, x=learner.gate.best + verdict: x
        train(learner, 4)
        expected = weights(learner.candidate) if verdict > 0 else before
        assert same(weights(learner.policy), expected)


def test_the_score_is_a_function_of_the_policy_alone(robot):
    learner = make(robot)
    train(learner, 30)
    first = learner._score(learner.policy)
    train(learner, 3)
    assert torch.equal(learner._score(learner.policy), first) or learner.gate.judged > 2
    assert not torch.equal(learner._score(learner.candidate), first)


@pytest.mark.slow
def test_the_best_member_acts_and_is_exported(robot):
    learner = make(robot)
    train(learner, 40)
    observation = bandit(np.random.default_rng(0), 8).observation
    actions = []
    for member in range(3):
        learner.gate.chosen.fill_(member)
        action = learner.act(observation, None)
        mean = learner.policy.moments(torch.tensor(observation))[0][member]
        assert np.allclose(action, 2 * mean.detach(), atol=1e-5)
        actions.append(action)
    assert np.abs(actions[0] - actions[1]).max() > 1e-3
    graph = learner.export()
    arrays = {
        "joint_position": observation[:, :2],
        "joint_velocity": observation[:, 2:],
        "noise": np.zeros((8, 2), np.float32),
    }
    assert np.allclose(Batched(graph)(arrays)["action"], actions[2], atol=1e-5)
    onnx = pytest.importorskip("onnx")
    tensors = onnx.load_from_string(graph).graph.initializer
    single = 4 * 32 + 32 * 32 + 32 * 4  # weights of one member, and no others
    assert sum(math.prod(t.dims) for t in tensors) < 2 * single


@pytest.mark.parametrize("stop", [3, 15, 20, 23, 25, 33])
def test_it_resumes_bit_for_bit_in_every_phase(robot, stop):
    straight, resumed = make(robot, cloning_share=0.25), None
    generator = np.random.default_rng(0)
    batches = [bandit(generator, 32) for _ in range(40)]
    for batch in batches[:stop]:
        straight.update(batch)
    resumed = make(robot, cloning_share=0.25, seed=9)
    resumed.load(straight.state())
    for batch in batches[stop:]:
        straight.update(batch)
        resumed.update(batch)
    assert straight.state() == resumed.state()


@pytest.mark.slow
def test_it_improves_on_what_it_cloned(robot):
    """The data is around 0, its rewards are best at 0.5."""
    learner = make(robot, steps=400, cloning_share=0.6, improvement_share=0.4)
    generator = np.random.default_rng(0)
    for _ in range(240):
        learner.update(bandit(generator, 128))
    observation = bandit(generator).observation
    clone = learner.act(observation, None).mean()
    for _ in range(160):
        metrics = learner.update(bandit(generator, 128))
    improved = learner.act(observation, None).mean()
    assert abs(clone) < 0.1
    assert improved > 0.3
    assert float(metrics["gate/accepted"]) > 3


def test_online_it_goes_on_with_the_chosen_policy_and_the_value(robot):
    offline = make(robot)
    train(offline, 40)
    offline.gate.chosen.fill_(1)
    online = make(robot, phase="online", epochs=2, minibatch=32)
    online.begin(offline.state())
    observation = bandit(np.random.default_rng(1), 8).observation
    assert np.array_equal(*(x.act(observation, None) for x in (offline, online)))
    train(online, 2)
    changed = [
        not torch.equal(a, b)
        for a, b in zip(weights(offline.policy), weights(online.policy), strict=True)
    ]
    assert all(changed)
    for a, b in zip(weights(offline.policy), weights(online.policy), strict=True):
        assert torch.equal(a[[0, 2]], b[[0, 2]])
    assert not same(weights(offline.value), weights(online.value))
    for name in ("candidate", "critic", "target", "dynamics"):
        nets = getattr(offline, name), getattr(online, name)
        assert same(weights(nets[0]), weights(nets[1])), name


def test_what_follows_an_end_is_never_learned(robot):
    batch = bandit(np.random.default_rng(0), 32)
    states = []
    for shift in (0.0, 5.0):
        learner = make(robot)
        after = Batch(*batch[:4], batch.observation + np.float32(shift))
        learner.update(after)
        states.append(learner.state())
    assert states[0] == states[1]


@pytest.mark.parametrize(
    "settings",
    [
        {"expectile": 1.0},
        {"improvement_share": 1.5},
        {"elites": 4},
        {"members": 0},
        {"clip": 0.0},
    ],
)
def test_settings_that_no_run_could_mean_are_refused(robot, settings):
    with pytest.raises(LearnerError, match=next(iter(settings))):
        make(robot, **settings)


def test_members_do_differ_by_how_they_began(robot):
    learner = make(robot)
    mean, log_std = learner.policy.moments(torch.randn(5, 4, generator=rng()))
    assert pairwise_kl(mean, log_std).sum() > 0
