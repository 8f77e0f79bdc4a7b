"""AM-Q as an estimator, on chains whose values are known."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from ope_examples import GAMMA, always, chain, evidence  # noqa: E402

from robostack.learner import LearnerError  # noqa: E402
from robostack.policies._ope import am_q  # noqa: E402
from robostack.training import ope  # noqa: E402
from robostack.training.ope import Options  # noqa: E402

SMALL = {
    "updates": 300,
    "batch_size": 64,
    "expectile": 0.5,
    "target_rate": 0.1,
    "learning_rate": 5e-3,
    "models": 2,
    "elites": 2,
    "starts": 32,
    "hidden": (16, 16),
}
AFTER = (1 - GAMMA**2) / (1 - GAMMA) / 2, 0.5, 0.0  # what chance earns from 1, 2, end
ALONG = [GAMMA * value for value in AFTER]  # Q of a step without reward, at 0, 1, 2


def judge(logs, config, seeds=1, **options):
    judged = [always("good", 1.0), always("bad", -1.0)]
    chosen = Options(seeds=seeds, **options)
    return am_q.estimate(logs, judged, config, chosen, lambda *_: None)


def test_it_is_the_mean_of_the_logs_own_values_along_the_way_of_a_policy():
    """With expectile 0.5 critics tell what the logs earn; a reward of 1 is on top."""
    logs = evidence(chain(np.random.default_rng(0)))
    good, bad = judge(logs, am_q.Config(**SMALL, horizon=3))
    assert bad.value == pytest.approx(np.mean(ALONG), abs=0.05)
    assert good.value == pytest.approx(1 + np.mean(ALONG), abs=0.05)


@pytest.mark.parametrize(("count_ended", "steps"), [(True, 6), (False, 3)])
def test_steps_after_an_end_count_as_nothing_or_are_left_out(count_ended, steps):
    logs = evidence(chain(np.random.default_rng(0)))
    config = am_q.Config(**SMALL, horizon=6, count_ended=count_ended)
    good, _ = judge(logs, config)
    assert good.value == pytest.approx((3 + sum(ALONG)) / steps, abs=0.07)
    assert good.ess is None


def test_rewards_and_observations_may_have_any_unit():
    episodes = chain(np.random.default_rng(0))
    far = [(np.add(seen, 70.0), a, 50.0 * r, end) for seen, a, r, end in episodes]
    good, bad = judge(evidence(far), am_q.Config(**SMALL, horizon=3))
    assert good.value == pytest.approx(50 * (1 + np.mean(ALONG)), rel=0.05)
    assert bad.value == pytest.approx(50 * np.mean(ALONG), rel=0.1)


def test_every_fit_weighs_episodes_otherwise_and_the_interval_tells():
    """Half of the episodes pay at place 0 and half do not: few episodes, much doubt."""
    logs = evidence([([0, 2], [1.0], [float(i % 2)], True) for i in range(6)])
    config = am_q.Config(**SMALL | {"updates": 100}, horizon=1)
    one, _ = judge(logs, config)
    many, _ = judge(logs, config, seeds=4)
    assert one.value == pytest.approx(0.5, abs=0.1)
    assert one.high - one.low < 0.02
    assert many.high - many.low > 0.1
    assert 0.0 < many.low < many.value < many.high < 1.0


def test_rows_are_drawn_as_often_as_their_weight_says(monkeypatch):
    drawn = []
    monkeypatch.setattr(
        am_q, "fit_dynamics", lambda dynamics, inputs, *_: drawn.append(inputs.reward)
    )
    logs = evidence([([0, 2], [1.0], [r], True) for r in (0.0, 1.0, 3.0)])
    config = am_q.Config(**SMALL)
    scale = am_q.Scale.of(logs)
    columns = am_q._columns(logs, config, scale)
    am_q.fit(columns, np.cumsum([0.0, 1.0, 3.0]), config, 0)
    seen = torch.cat(drawn) * scale.returns
    assert float((seen > 0.5).float().mean()) == 1.0
    assert float((seen > 2).float().mean()) == pytest.approx(0.75, abs=0.01)


def test_starts_are_first_observations_each_as_often_as_others():
    logs = evidence([([i, 2], [1.0], [1.0], True) for i in range(5)])
    scale = am_q.Scale.of(logs)
    config = am_q.Config(**SMALL | {"starts": 20})
    starts = am_q._starts(logs, config, scale, np.random.default_rng(0))
    assert starts.shape == (2, 10, 1)
    raw = scale.raw(starts.reshape(-1, 1).numpy())
    assert sorted(raw[:, 0].round().tolist()) == [i for i in range(5) for _ in range(4)]


def test_it_is_found_by_name_and_says_how_far_it_is(monkeypatch):
    config = am_q.Config(**SMALL | {"updates": 150}, horizon=3)
    monkeypatch.setattr(am_q, "Config", lambda: config)
    logs, heard = evidence(chain(np.random.default_rng(0))), []
    (found,) = ope.estimate(
        "am_q",
        logs,
        [always("good", 1.0)],
        Options(seeds=2),
        lambda *words: heard.append(words),
    )
    assert found.estimator == "am_q"
    assert math.isfinite(found.value)
    assert heard == [(0, 300), (100, 300), (150, 300), (250, 300)]


@pytest.mark.parametrize("settings", [{"elites": 6}, {"horizon": 0}, {"updates": 0}])
def test_settings_that_no_estimate_could_mean_are_refused(settings):
    with pytest.raises(LearnerError, match=next(iter(settings))):
        am_q.Config(**settings)
