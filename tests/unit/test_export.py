"""An export is proved against the learner, or not written."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import SPREAD, linear_action, linear_graph

from robostack import bundle
from robostack.bundle import BundleError, Provenance
from robostack.export import export, last_evaluation, probes
from robostack.learner import noise
from robostack.spec import float32, split

PROVENANCE = Provenance("linear", {"gain": 1.0}, 3, 10, "d", "0.1.0", "now", {"r": 1.5})


class LinearLearner:
    """Acts as the linear graph does, off by `error`, with samples off by `spread`."""

    stochastic = True

    def __init__(self, robot, error=0.0, spread=SPREAD):
        self.spec = robot
        self._error = error
        self._gain = spread / SPREAD

    def act(self, observation, rng):
        drawn = 0.0
        if rng is not None:
            drawn = self._gain * noise(rng, (len(observation), 2))
        action = linear_action(self.spec, observation, drawn)
        return action + np.float32(self._error)

    def export(self):
        return linear_graph(self.spec)


@pytest.fixture
def recorded():
    return float32(np.random.default_rng(0).normal(size=(300, 4)))


def test_a_faithful_graph_is_written_with_its_provenance(robot, recorded, tmp_path):
    path = tmp_path / "p.onnx"
    policy, proof = export(LinearLearner(robot), path, PROVENANCE, recorded)
    assert max(proof.action_error, proof.sample_error) <= 1e-6
    assert proof.batch_sizes == (1, 2, 7, 64, 256)
    assert bundle.read(path) == policy
    assert policy.manifest.provenance == PROVENANCE
    assert policy.manifest.semantics == "absolute"


@pytest.mark.parametrize(
    "learner", [{"error": 2e-5}, {"spread": 0.1001}], ids=["mean", "sampled head"]
)
def test_a_graph_that_differs_is_not_written(robot, recorded, tmp_path, learner):
    path = tmp_path / "p.onnx"
    with pytest.raises(BundleError, match=r"differs from the trained policy"):
        export(LinearLearner(robot, **learner), path, PROVENANCE, recorded)
    assert not list(tmp_path.iterdir())


def test_a_policy_that_is_not_finite_somewhere_is_not_written(
    robot, recorded, tmp_path
):
    learner = LinearLearner(robot, error=np.nan)
    with pytest.raises(BundleError, match="differs from the trained policy by inf"):
        export(learner, tmp_path / "p.onnx", PROVENANCE, recorded)


def test_the_old_bundle_survives_a_refused_export(robot, recorded, tmp_path):
    path = tmp_path / "p.onnx"
    before, _ = export(LinearLearner(robot), path, PROVENANCE, recorded)
    with pytest.raises(BundleError):
        export(LinearLearner(robot, error=1.0), path, PROVENANCE, recorded)
    assert bundle.read(path) == before


def test_probes_hold_edges_recorded_and_random_observations(robot, recorded):
    rows = probes(robot, recorded)
    assert rows.dtype == np.float32
    assert (rows == 0).all(1).any()
    assert {tuple(r) for r in recorded[:512]} <= {tuple(r) for r in rows}
    assert np.abs(rows).max() > np.abs(recorded).max()


def test_split_undoes_concatenation_in_spec_order(robot):
    arrays = split(robot, float32([[1, 2, 3, 4]]))
    assert arrays["joint_position"].tolist() == [[1, 2]]
    assert arrays["joint_velocity"].tolist() == [[3, 4]]


def test_the_last_evaluation_is_found_among_the_metrics(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(
        '{"step":1,"evaluation/return":1.0}\n'
        '{"step":2,"evaluation/return":2.0,"loss":0.5}\n{"step":3,"loss":0.1}\n'
    )
    assert last_evaluation(path) == {"evaluation/return": 2.0}
    assert last_evaluation(tmp_path / "none") == {}
