import json
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from ope_examples import GAMMA, always, chain, evidence  # noqa: E402

from robostack import plugins  # noqa: E402
from robostack.cli import main  # noqa: E402
from robostack.data.dataset import create  # noqa: E402
from robostack.data.episode import End, Episode  # noqa: E402
from robostack.learner import LearnerError, Statistics  # noqa: E402
from robostack.policies._ope import _logs, fqe, wis  # noqa: E402
from robostack.spec import float32  # noqa: E402
from robostack.training import ope  # noqa: E402
from robostack.training.ope import OpeError, Options  # noqa: E402

QUICK = fqe.Config(
    regression_updates=50,
    updates=200,
    batch_size=64,
    hidden=(32, 32),
    target_rate=0.3,
    learning_rate=5e-3,
    rare=0.0,
)


def test_fqe_finds_the_known_values_of_a_chain_for_all_policies_at_once():
    logs = evidence(chain(np.random.default_rng(0)))
    judged = [always("good", 1.0), always("bad", -1.0)]
    good, bad = fqe.estimate(logs, judged, QUICK, Options(seeds=2), lambda *_: None)
    assert good.value == pytest.approx(1 + GAMMA + GAMMA**2, abs=0.1)
    assert bad.value == pytest.approx(0.0, abs=0.1)
    assert good.low <= good.value <= good.high
    assert good.ess is None


def test_fqe_goes_on_after_a_truncation_and_not_after_a_termination():
    rng = np.random.default_rng(0)
    ended = evidence(chain(rng, terminated=True), gamma=0.5)
    cut = evidence(chain(rng, terminated=False), gamma=0.5)
    ended_value, cut_value = (
        fqe.estimate(logs, [always("good", 1.0)], QUICK, Options(seeds=1), print)[0]
        for logs in (ended, cut)
    )
    assert ended_value.value == pytest.approx(1.75, abs=0.1)
    assert cut_value.value == pytest.approx(2.0, abs=0.1)  # at place 2 for ever


def test_a_policy_is_judged_the_same_beside_others_of_its_ensemble():
    torch.manual_seed(0)
    qs, target = torch.randn(2, 8), torch.randn(2, 8)
    weight = torch.rand(2, 8)
    both = fqe.weighted_loss(qs, target, weight)
    single = sum(
        fqe.weighted_loss(q, t, w) for q, t, w in zip(qs, target, weight, strict=True)
    )
    assert both == pytest.approx(float(single))


def test_targets_stay_within_what_rewards_can_add_up_to():
    logs = evidence(chain(np.random.default_rng(0)))
    scale = _logs.Scale.of(logs)
    assert scale.high * scale.returns == pytest.approx(1 / (1 - GAMMA))
    assert scale.low == 0.0


def test_an_episode_counts_by_its_weight():
    weight = _logs.weights(3, 500, np.random.default_rng(0))
    assert weight.mean(1) == pytest.approx([1, 1, 1])
    assert weight.std(1) == pytest.approx([1, 1, 1], abs=0.2)  # exponential
    assert (_logs.weights(1, 4, np.random.default_rng(0)) == 1).all()


def test_the_interval_knows_of_the_spread_over_fits_and_over_episodes():
    fits = np.stack([np.full(100, 1.0), np.full(100, 3.0)])[None]  # (P, S, E)
    low, high = _logs.intervals(fits, Options())
    assert (low, high) == ([1.0], [3.0])
    starts = np.random.default_rng(0).normal(0, 1, (1, 1, 400))
    (low,), (high,) = _logs.intervals(starts, Options())
    assert high - low == pytest.approx(2 * 1.96 / math.sqrt(400), rel=0.15)


TWO = [  # two steps each; the ratios are put beside
    ([0, 1, 2], [1.0, 1.0], [1.0, 2.0], True),
    ([0, 1, 2], [1.0, -1.0], [3.0, 4.0], True),
]


def whole(table):
    """Return the estimate from every episode once."""
    return float(wis.values(table, np.ones((1, len(table.reward))), GAMMA)[0])


def test_wis_is_the_hand_computation():
    table = wis.tabulate(evidence(TWO), np.log([2.0, 0.5, 1.0, 3.0]))
    # weights: first step 2 and 1, second 2 * 0.5 = 1 and 1 * 3 = 3
    expected = (2 * 1 + 1 * 3) / 3 + GAMMA * (1 * 2 + 3 * 4) / 4
    assert whole(table) == pytest.approx(expected)
    assert wis.effective(table.last) == pytest.approx((1 + 3) ** 2 / (1 + 9))


def test_wis_of_the_behaviour_itself_is_the_mean_return():
    table = wis.tabulate(evidence(TWO), np.zeros(4))
    assert whole(table) == pytest.approx(((1 + GAMMA * 2) + (3 + GAMMA * 4)) / 2)
    assert wis.effective(table.last) == pytest.approx(2)


def test_the_dead_go_on_earning_nothing_and_the_unseen_are_left_out():
    long = ([0, 1, 2], [1.0, 1.0], [0.0, 6.0], True)
    for terminated, share in [(True, 0.5), (False, 1.0)]:
        short = ([0, 1], [1.0], [0.0], terminated)
        table = wis.tabulate(evidence([long, short]), np.zeros(3))
        assert whole(table) == pytest.approx(GAMMA * 6.0 * share)


def test_what_comes_after_a_gap_is_left_out():
    logs = evidence(TWO)._replace(step=np.array([0, 2, 0, 1]))
    table = wis.tabulate(logs, np.zeros(4))
    assert table.log_weight.tolist() == [[0.0, -np.inf], [0.0, 0.0]]


def test_weights_beyond_what_floats_hold_are_weighed_all_the_same():
    table = wis.tabulate(evidence(TWO), np.array([-2000.0, 0.0, -2000.0, -1.0]))
    expected = (1 + 3) / 2 + GAMMA * (2 + 4 * math.exp(-1)) / (1 + math.exp(-1))
    assert whole(table) == pytest.approx(expected)
    assert 1 < wis.effective(table.last) < 2


def test_every_resample_is_weighed_as_if_it_were_alone():
    """Also where it lacks the episode beside which all others weigh nothing."""
    rng = np.random.default_rng(0)
    log_weight = rng.normal(0, 1000, (12, 5))
    log_weight[:4, 3:] = log_weight[:, 4] = -np.inf
    table = wis.Table(rng.normal(size=(12, 5)), log_weight, log_weight[:, 0])
    counts = rng.multinomial(12, np.full(12, 1 / 12), size=50).astype(float)
    for row, found in zip(counts, wis.values(table, counts, GAMMA), strict=True):
        held = np.repeat(np.arange(12), row.astype(int))
        expected = 0.0
        for step in range(4):
            largest = log_weight[held, step].max()
            if np.isfinite(largest):
                weight = np.exp(log_weight[held, step] - largest)
                mean = weight @ table.reward[held, step] / weight.sum()
                expected += GAMMA**step * mean
        assert found == pytest.approx(expected)


def test_wis_finds_another_policy_from_exact_densities(monkeypatch):
    rng = np.random.default_rng(3)
    logs = evidence(chain(rng, 3000))

    def log_prob(chance):
        return lambda seen, acted: float32(
            np.where(acted[:, 0] > 0, math.log(chance), math.log(1 - chance))
        )

    monkeypatch.setattr(wis, "clone", lambda *_: log_prob(0.5))
    judged = [always("mostly", 1.0, log_prob(0.8))]
    (found,) = wis.estimate(logs, judged, wis.Config(), Options(), lambda *_: None)
    truth = 0.8 * (1 + GAMMA + GAMMA**2)
    assert found.low < truth < found.high
    assert found.value == pytest.approx(truth, abs=0.05)
    second_moment = (0.8**2 / 0.5 + 0.2**2 / 0.5) ** 3
    assert found.ess == pytest.approx(3000 / second_moment, rel=0.1)


def test_wis_refuses_a_policy_without_a_density():
    logs = evidence(TWO)
    with pytest.raises(OpeError, match=r"expected policies with a known density.*good"):
        ope.estimate("wis", logs, [always("good", 1.0)])


def test_intervals_cover_as_often_as_they_say():
    rng, covered = np.random.default_rng(0), 0
    options = Options(resamples=200)
    for _ in range(200):
        drawn = rng.exponential(1.0, 80)
        low, high = ope.interval(lambda n, x=drawn: n @ x / 80, 80, options)
        covered += low < 1.0 < high
    assert 0.88 <= covered / 200 <= 0.99


def test_an_unknown_estimator_is_named_with_those_there_are():
    with pytest.raises(OpeError, match=r"expected one of am_q, fqe, wis"):
        ope.estimate("fqa", evidence(TWO), [])


def test_estimators_are_no_algorithms():
    assert ope.names() == ["am_q", "fqe", "wis"]
    assert not {"_ope", "am_q", "fqe", "wis"} & set(plugins.names("policies"))


@pytest.mark.parametrize("algorithm", ["bc", "sac"])
def test_a_learner_tells_the_density_of_what_it_draws(robot, algorithm):
    module = plugins.load("policies", algorithm)
    zeros, ones = np.zeros(4, np.float32), np.ones(4, np.float32)
    learner = module.Learner(
        robot,
        module.Config(hidden=(8, 8)),
        statistics=Statistics(zeros, ones, 0.0, 1.0),
        steps=1,
        seed=0,
    )
    observation = np.zeros((1, 4), np.float32)
    grid = np.linspace(-1.999, 1.999, 401, dtype=np.float32)
    actions = np.stack(np.meshgrid(grid, grid), -1).reshape(-1, 2)
    seen = observation.repeat(len(actions), 0)
    inside = np.exp(learner.log_prob(seen, actions)).mean() * 3.998**2
    drawn = learner.act(observation.repeat(20_000, 0), np.random.default_rng(0))
    share = (np.abs(drawn) < 1.999).all(1).mean()  # the rest was clipped to the rim
    assert inside == pytest.approx(share, abs=0.02)


def test_a_deterministic_policy_has_no_density(robot):
    module = plugins.load("policies", "td3_bc")
    zeros, ones = np.zeros(4, np.float32), np.ones(4, np.float32)
    statistics = Statistics(zeros, ones, 0.0, 1.0)
    learner = module.Learner(
        robot, module.Config(), statistics=statistics, steps=1, seed=0
    )
    with pytest.raises(LearnerError, match="this one is deterministic"):
        learner.log_prob(np.zeros((1, 4), np.float32), np.zeros((1, 2), np.float32))


@pytest.fixture
def logs(robot, tmp_path):
    """Return a dataset of `robot`, with rewards and a gap."""
    rng = np.random.default_rng(0)
    episodes = []
    for steps in (5, 7):
        seen = {
            name: float32(rng.uniform(-1, 1, (steps + 1, 2)))
            for name in robot.observation
        }
        action = float32(rng.uniform(-1, 1, (steps, 2)))
        action[3] = np.nan
        reward = np.where(np.isnan(action[:, 0]), np.nan, 1.0)
        episodes.append(
            Episode(
                observation=seen,
                action=action,
                requested=action,
                time_s=np.arange(steps + 1) * robot.control_period_s,
                end=End.TRUNCATED,
                reward=float32(reward),
                truth={},
                frames={},
                labels={},
            )
        )
    dataset = create(tmp_path / "logs", robot)
    dataset.append(episodes, {"source": "test"})
    return dataset


def test_evidence_tells_episodes_and_steps_and_where_they_began(logs):
    found = ope.gather(logs)
    assert found.episode.tolist() == [0] * 4 + [1] * 6
    assert found.step.tolist() == [0, 1, 2, 4, 0, 1, 2, 4, 5, 6]
    first = logs.episode(1).observation["joint_position"][0]
    assert (found.starts[1, :2] == first).all()


def test_the_command_judges_bundles_by_their_graphs(logs, policy, monkeypatch, capsys):
    monkeypatch.setattr(fqe, "Config", lambda: QUICK)
    words = ["evaluate", str(policy.path), str(policy.path), "--ope", "fqe"]
    words += ["--dataset", str(logs.path), "--seeds", "1", "--gamma", "0.5", "--json"]
    assert main(words) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert first == pytest.approx(second, abs=1e-4)
    assert 1.0 < first["value"] < 2.01  # 1 a step, for ever, at actions unseen


def test_the_command_refuses_a_bundle_for_wis_and_an_unknown_estimator(
    logs, policy, capsys
):
    words = ["evaluate", str(policy.path), "--dataset", str(logs.path), "--ope"]
    for name, sentence in [("wis", "known density"), ("fqe,fqa", "got fqa")]:
        assert main([*words, name]) == 1
        assert sentence in " ".join(capsys.readouterr().err.split())
    assert main(["evaluate", str(policy.path)]) == 1
    assert "--world, or --ope" in " ".join(capsys.readouterr().err.split())
