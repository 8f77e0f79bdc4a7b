"""A session acts as the exported policy did, or refuses to start."""

from __future__ import annotations

import msgspec
import numpy as np
import onnxruntime
import pytest
from conftest import linear_action, linear_graph, linear_manifest

from robostack import bundle
from robostack.bundle import BundleError
from robostack.runtime.providers import ProviderError, make_session
from robostack.runtime.session import Session
from robostack.spec import float32

READING = {
    "joint_position": float32([0.5, -0.25]),
    "joint_velocity": float32([0.1, 0.2]),
}


def test_the_action_is_the_graphs(policy, robot):
    expected = linear_action(robot, [[0.5, -0.25, 0.1, 0.2]])[0]
    assert Session(policy).act(READING) == pytest.approx(expected, abs=1e-6)


def test_actions_stay_within_the_bounds_mean_and_sampled(policy):
    session, rng = Session(policy), np.random.default_rng(0)
    reading = {name: array * 1000 for name, array in READING.items()}
    for _ in range(100):
        assert (np.abs(session.act(reading, rng)) <= 2.0).all()


def test_samples_have_the_spread_of_the_policy(policy):
    session, rng = Session(policy), np.random.default_rng(0)
    samples = [session.act(READING, rng) for _ in range(2000)]
    assert np.std(samples, axis=0) == pytest.approx([0.1, 0.1], rel=0.1)


def test_a_sample_is_what_the_graph_makes_of_the_noise(policy, robot):
    noise = np.random.default_rng(5).standard_normal(2, np.float32)
    expected = linear_action(robot, [[0.5, -0.25, 0.1, 0.2]], noise)[0]
    sample = Session(policy).act(READING, np.random.default_rng(5))
    assert sample == pytest.approx(expected, abs=1e-6)


def test_after_a_sample_comes_the_deterministic_action_again(policy):
    session = Session(policy)
    before = session.act(READING)
    assert (session.act(READING, np.random.default_rng(0)) != before).any()
    assert (session.act(READING) == before).all()


def test_an_action_once_given_does_not_change_under_the_callers_hands(policy):
    session = Session(policy)
    first = session.act(READING)
    kept = first.copy()
    session.act({name: -array for name, array in READING.items()})
    assert (first == kept).all()


def test_the_self_test_replays_every_golden_vector(policy):
    result = Session(policy).self_test
    assert result.golden == 8
    assert result.error <= 1e-6


def test_golden_vectors_of_another_policy_stop_the_session(robot, tmp_path):
    manifest = linear_manifest(robot)
    wrong = [[a + 1e-3 for a in row] for row in manifest.golden.action]
    golden = msgspec.structs.replace(manifest.golden, action=wrong)
    other = msgspec.structs.replace(manifest, golden=golden)
    policy = bundle.write(tmp_path / "p.onnx", linear_graph(robot), other)
    with pytest.raises(BundleError, match=r"off by 0\.001"):
        Session(policy)


def test_a_missing_array_is_named(policy):
    with pytest.raises(BundleError, match="joint_velocity"):
        Session(policy).act({"joint_position": READING["joint_position"]})


def test_a_misshapen_array_is_an_error_and_not_broadcast_silently(policy):
    with pytest.raises(BundleError, match="expected the arrays"):
        Session(policy).act({**READING, "joint_velocity": np.zeros(3, np.float32)})
    with pytest.raises(BundleError, match="expected the arrays"):
        Session(policy).act({**READING, "joint_velocity": np.zeros(1, np.float32)})


def test_a_nan_reading_gives_an_error_and_no_action(policy):
    with pytest.raises(BundleError, match="not finite"):
        Session(policy).act({**READING, "joint_velocity": float32([np.nan, 0.0])})


@pytest.mark.skipif(
    bool(getattr(onnxruntime, "get_ep_devices", list)())
    and any("CUDA" in d.ep_name for d in onnxruntime.get_ep_devices()),
    reason="this machine has a GPU",
)
def test_cuda_asked_for_and_absent_is_an_error(policy):
    with pytest.raises(ProviderError, match="--provider auto"):
        make_session(policy.model, "cuda")
