import numpy as np
import pytest

torch = pytest.importorskip("torch")

from robostack import bundle  # noqa: E402
from robostack.bundle import Provenance  # noqa: E402
from robostack.export import export  # noqa: E402
from robostack.learner import Batch, LearnerError, Statistics  # noqa: E402
from robostack.policies import bc  # noqa: E402
from robostack.runtime.session import Session  # noqa: E402
from robostack.spec import float32, split  # noqa: E402

STATISTICS = Statistics(np.zeros(4, np.float32), np.ones(4, np.float32), 0.0, 1.0)


def make(robot, **settings):
    config = bc.Config(hidden=(32, 32), learning_rate=1e-2, **settings)
    return bc.Learner(robot, config, statistics=STATISTICS, steps=600, seed=0)


def noisy(rng, size=128):
    """Return actions of mean o[0], with spreads of 0.8 and 0.5."""
    observation = float32(rng.uniform(-1, 1, (size, 4)))
    action = observation[:, :1] + rng.normal(0, 1, (size, 2)) * (0.8, 0.5)
    unknown = np.full(size, np.nan, np.float32)
    return Batch(
        observation, float32(action), unknown, np.ones(size, np.float32), observation
    )


def test_it_learns_mean_and_spread_without_rewards(robot):
    learner, rng = make(robot), np.random.default_rng(0)
    for _ in range(600):
        learner.update(noisy(rng))
    observation = noisy(rng).observation
    error = learner.act(observation, None) - observation[:, :1]
    assert np.abs(error).mean() < 0.12
    std = 2.0 * learner.policy.log_std.exp()[0].detach()  # actions reach to 2
    assert std.tolist() == pytest.approx([0.8, 0.5], rel=0.15)


def test_a_deterministic_head_has_no_spread(robot):
    learner, rng = make(robot, head="deterministic"), np.random.default_rng(0)
    for _ in range(100):
        learner.update(noisy(rng))
    observation = noisy(rng).observation
    sample = learner.act(observation, np.random.default_rng(1))
    assert np.array_equal(sample, learner.act(observation, None))


def test_a_deterministic_head_makes_a_bundle_that_does_not_sample(robot, tmp_path):
    learner, rng = make(robot, head="deterministic"), np.random.default_rng(0)
    provenance = Provenance("bc", {}, 0, 0, "", "0.1.0", "", {})
    path, recorded = tmp_path / "p.onnx", noisy(rng).observation
    policy, _ = export(learner, path, provenance, recorded)
    assert not policy.manifest.stochastic
    session = Session(bundle.read(path))
    reading = {name: array[0] for name, array in split(robot, recorded).items()}
    assert (session.act(reading, rng) == session.act(reading)).all()


def test_losses_by_hand():
    mean, action = torch.zeros(2, 2), torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    assert float(bc.square_loss(mean, action)) == pytest.approx((1 + 4) / 4)


def test_settings_that_mean_nothing_are_refused():
    with pytest.raises(LearnerError, match="dropout"):
        bc.Config(dropout=1.0)
