"""Export a trained policy as a bundle, and prove that the file acts as the policy did.

The proof replays random, edge and recorded observations in several batch sizes through
ONNX Runtime and through the trained networks, without noise and with. A file that
differs by more than the tolerance is not written.
"""

from __future__ import annotations

import datetime
import itertools
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from robostack import __version__, bundle
from robostack.bundle import (
    Bundle,
    BundleError,
    Golden,
    Manifest,
    Provenance,
    Semantics,
)
from robostack.data.dataset import open_dataset
from robostack.learner import Learner, noise
from robostack.runtime.session import Batched
from robostack.spec import Array, RobotSpec, concatenate, float32, split
from robostack.training import checkpoint, run

TOLERANCE = 1e-5
BATCH_SIZES = (1, 2, 7, 64, 256)
_RANDOM_ROWS, _RECORDED_ROWS, _GOLDEN_ROWS = 512, 512, 16
_RECORDED_EPISODES = 50
_SEMANTICS: dict[str, Semantics] = {
    "position": "absolute",
    "velocity": "absolute",
    "torque": "torque",
    "normalized": "normalized",
}


class Proof(NamedTuple):
    """How closely the exported graph follows the trained policy [action units]."""

    rows: int
    batch_sizes: tuple[int, ...]
    action_error: float  # largest, over all rows and batch sizes
    sample_error: float  # of samples, under the same noise
    tolerance: float


def export_run(
    folder: Path, path: Path, *, tolerance: float = TOLERANCE
) -> tuple[Bundle, Proof]:
    """Export the newest checkpoint of the run in `folder` to `path`.

    The observations recorded in its dataset are part of the proof, where the dataset is
    still where it was.
    """
    about = run.read(folder)
    learner = run.load_run(folder)
    newest = checkpoint.newest(folder / run.CHECKPOINTS)
    provenance = Provenance(
        algorithm=about.recipe.algorithm,
        config=about.config,
        seed=about.seed,
        steps=newest.step if newest else 0,
        dataset_digest=about.data.digest,
        code_version=" ".join(filter(None, (__version__, about.commit[:12]))),
        created=now(),
        scores=last_evaluation(folder / "metrics.jsonl"),
    )
    recorded = _recorded(about.data.path, about.robot)
    return export(learner, path, provenance, recorded, tolerance=tolerance)


def last_evaluation(metrics: Path) -> dict[str, float]:
    """Return the scores of the last evaluation in a run's metrics; {} without any."""
    if not metrics.exists():
        return {}
    for line in reversed(metrics.read_bytes().splitlines()):
        values = msgspec.json.decode(line, type=dict[str, float])
        found = {k: v for k, v in values.items() if k.startswith("evaluation/")}
        if found:
            return found
    return {}


def _recorded(path: str, robot: RobotSpec) -> Array:
    nothing = np.zeros((0, robot.observation_size), np.float32)
    if not (path and Path(path, "dataset.json").exists()):
        return nothing
    rows = [
        concatenate(robot, episode.observation)
        for episode in itertools.islice(open_dataset(path), _RECORDED_EPISODES)
    ]
    return np.concatenate([nothing, *rows])


def export(
    learner: Learner,
    path: Path,
    provenance: Provenance,
    recorded: Array,
    *,
    tolerance: float = TOLERANCE,
) -> tuple[Bundle, Proof]:
    """Write the policy of `learner` to `path`.

    Args:
        learner: a trained learner.
        path: the bundle to write.
        provenance: where the policy comes from.
        recorded: observations (N, O) of the dataset; may be empty.
        tolerance: largest difference allowed [action units].

    Raises:
        BundleError: the graph does not act as the policy does; nothing is written.
    """
    graph = learner.export()
    observations = probes(learner.spec, recorded)
    proof = prove(learner, graph, observations, tolerance)
    worst = max(proof.action_error, proof.sample_error)
    if not worst <= tolerance:
        raise BundleError(
            f"the exported graph differs from the trained policy by {worst:.3g}, "
            f"expected at most {tolerance:.3g}; nothing was written"
        )
    robot = learner.spec
    manifest = Manifest(
        schema=bundle.SCHEMA,
        robot=robot,
        robot_digest=robot.digest,
        semantics=_SEMANTICS[robot.control],
        history=1,
        chunk=1,
        stochastic=learner.stochastic,
        state={},
        provenance=provenance,
        golden=_golden(learner, observations, tolerance),
        graph_sha256="",
    )
    return bundle.write(path, graph, manifest), proof


def prove(
    learner: Learner, graph: bytes, observations: Array, tolerance: float
) -> Proof:
    """Compare `graph` under ONNX Runtime with `learner` on `observations` (N, O)."""
    run = Batched(graph)
    action_error = sample_error = 0.0
    for size in BATCH_SIZES:
        for start in range(0, len(observations), size):
            rows = observations[start : start + size]
            ours = run(graph_inputs(learner, rows, None))["action"]
            action_error = max(action_error, _gap(ours, learner.act(rows, None)))
            ours = run(graph_inputs(learner, rows, _rng(start)))["action"]
            sample_error = max(sample_error, _gap(ours, learner.act(rows, _rng(start))))
    return Proof(len(observations), BATCH_SIZES, action_error, sample_error, tolerance)


def graph_inputs(
    learner: Learner, observations: Array, rng: np.random.Generator | None
) -> dict[str, Array]:
    """Return the inputs by which a graph acts as `learner.act(observations, rng)`."""
    arrays = split(learner.spec, observations)
    if not learner.stochastic:
        return arrays
    shape = (len(observations), learner.spec.action.size)
    drawn = np.zeros(shape, np.float32) if rng is None else noise(rng, shape)
    return arrays | {bundle.NOISE: drawn}


def _golden(learner: Learner, observations: Array, tolerance: float) -> Golden:
    """Return some of `observations` (N, O), and what is done; then drawn samples."""
    rows = observations[:: max(1, len(observations) // _GOLDEN_ROWS)][:_GOLDEN_ROWS]
    seeds = (None, 0) if learner.stochastic else (None,)
    inputs = [graph_inputs(learner, rows, _rng(seed)) for seed in seeds]
    actions = [learner.act(rows, _rng(seed)) for seed in seeds]
    return Golden(
        inputs={k: np.concatenate([i[k] for i in inputs]).tolist() for k in inputs[0]},
        action=np.concatenate(actions).tolist(),
        tolerance=tolerance,
    )


def _rng(seed: int | None) -> np.random.Generator | None:
    return None if seed is None else np.random.default_rng(seed)


def probes(robot: RobotSpec, recorded: Array) -> Array:
    """Return observations (N, O) to try: edges, random ones, and recorded ones."""
    rng = np.random.default_rng(0)
    low, high = (
        np.concatenate([float32(getattr(a, end)) for a in robot.observation.values()])
        for end in ("low", "high")
    )
    if len(recorded):  # bounds are often far wider than anything ever seen
        low = np.maximum(low, recorded.min(0) - 1.0)
        high = np.minimum(high, recorded.max(0) + 1.0)
    corners = np.where(rng.random((32, low.size)) < 0.5, low, high)
    edges = np.stack([low, high, np.zeros_like(low), 2 * low, 2 * high])
    random = rng.uniform(low, high, (_RANDOM_ROWS, low.size))
    chosen = recorded[rng.permutation(len(recorded))[:_RECORDED_ROWS]]
    return float32(np.concatenate([edges, corners, chosen, random]))


def now() -> str:
    """Return the present time in UTC, ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _gap(ours: Array, theirs: Array) -> float:
    gap = np.abs(ours - theirs).max()
    return float(gap) if np.isfinite(gap) else float("inf")
