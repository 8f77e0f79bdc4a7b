"""Fitted Q evaluation asks no critic about what no log holds."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from ope_examples import GAMMA, SPEC, always, chain, evidence  # noqa: E402

from robostack.policies._ope import _logs, _support, fqe  # noqa: E402
from robostack.spec import float32  # noqa: E402
from robostack.training.ope import Candidate, Options  # noqa: E402

FITTING = _support.Fitting(
    updates=400, batch_size=128, learning_rate=1e-2, hidden=(32, 32), rare=0.02
)
QUICK = fqe.Config(
    regression_updates=50,
    updates=200,
    density_updates=300,
    batch_size=64,
    hidden=(32, 32),
    target_rate=0.3,
    learning_rate=5e-3,
)


def humps(rng, count=4000):
    """Return logs of actions near 0.6 or -0.6 below place 1, and near 0 above."""
    seen = rng.uniform(0, 2, count)
    centre = np.where(seen < 1, rng.choice([-0.6, 0.6], count), 0.0)
    acted = centre + 0.05 * rng.standard_normal(count)
    rows = zip(seen, acted, strict=True)
    return evidence([([s, s], [a], [0.0], True) for s, a in rows])


@pytest.fixture(scope="module")
def held():
    """Return a function that says which of some actions are held at a place."""
    logs = humps(np.random.default_rng(0))
    scale = _logs.Scale.of(logs)
    support = _support.learn(logs, scale, FITTING, torch.Generator().manual_seed(0))

    def ask(place, actions):
        seen = scale.observation(np.full((len(actions), 1), place, np.float32))
        acted = scale.action(float32(actions)[:, None])
        found = support.holds(torch.from_numpy(seen), torch.from_numpy(acted))
        return found.tolist()

    return ask


def test_both_of_two_ways_are_held_and_what_lies_between_is_not(held):
    asked = [-1.0, -0.6, 0.0, 0.6, 1.0]
    assert held(0.5, asked) == [False, True, False, True, False]
    assert held(1.5, asked) == [False, False, True, False, False]


def test_as_much_is_rare_as_was_asked(held):
    acted = 0.6 + 0.05 * np.random.default_rng(1).standard_normal(3000)
    assert np.mean(held(0.5, acted)) == pytest.approx(1 - FITTING.rare, abs=0.02)


def test_many_policies_are_asked_about_at_once(held):
    logs = humps(np.random.default_rng(2), 50)
    scale = _logs.Scale.of(logs)
    support = _support.learn(logs, scale, FITTING, torch.Generator().manual_seed(0))
    seen = torch.from_numpy(scale.observation(logs.transitions.observation))
    acted = torch.rand(3, 50, 1) * 2 - 1
    found = support.holds(seen, acted)
    assert found.shape == (3, 50)
    assert (found[1] == support.holds(seen, acted[1])).all()


def leaves(place):
    """Return a policy that earns 1 a step on the chain, and does what nobody did."""

    def act(seen, _):
        return float32(np.where(seen < place, 1.0, 0.0))

    return Candidate(f"leaves at {place}", act, None)


@pytest.mark.parametrize("rare", [0.0, 0.001])
def test_where_a_policy_leaves_the_logs_its_future_is_worth_the_least(rare):
    assert SPEC.action.low[0] == -1.0
    logs = evidence(chain(np.random.default_rng(0)))
    judged = [leaves(0), leaves(1), leaves(2), always("good", 1.0)]
    config = fqe.msgspec.structs.replace(QUICK, rare=rare)
    found = fqe.estimate(logs, judged, config, Options(seeds=1), lambda *_: None)
    values = [row.value for row in found]
    whole = 1 + GAMMA + GAMMA**2
    if rare:
        assert values == pytest.approx([0.0, 1.0, 1 + GAMMA, whole], abs=0.1)
    else:
        assert values[0] > 0.5
        assert values[3] == pytest.approx(whole, abs=0.1)


def test_a_share_that_is_none_is_refused():
    with pytest.raises(fqe.LearnerError, match="rare"):
        fqe.Config(rare=1.0)
