"""`robostack evaluate --ope`: what policies would earn, told from logs alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from robostack.spec import Array, RobotSpec, difference, split

from .verb import VerbError

if TYPE_CHECKING:
    from robostack.training.ope import Candidate, Estimate

Show = Callable[[int, int, str], None]


class Question(NamedTuple):
    """Who is judged, by whom, and from what."""

    policies: tuple[Path, ...]  # folders of runs, or .onnx files
    dataset: Path
    estimators: tuple[str, ...]
    labeller: str  # "": the only one
    gamma: float
    seeds: int
    seed: int
    draw: bool


def judge(question: Question, show: Show) -> list[Estimate]:
    """Judge every policy by every estimator."""
    from robostack.data.dataset import open_dataset
    from robostack.training import ope

    known = ope.names()  # before any work
    if bad := [name for name in question.estimators if name not in known]:
        raise VerbError(f"expected --ope of {', '.join(known)}, got {', '.join(bad)}")
    dataset = open_dataset(question.dataset)
    known = dataset.labellers()
    labeller = question.labeller or (known[0] if len(known) == 1 else "logged")
    evidence = ope.gather(dataset, gamma=question.gamma, labeller=labeller)
    candidates = [_candidate(path, dataset.spec) for path in question.policies]
    options = ope.Options(question.seeds, question.seed, question.draw)
    found = []
    for name in question.estimators:

        def report(done: int, total: int, name: str = name) -> None:
            show(done, total, name)

        found += ope.estimate(name, evidence, candidates, options, report)
    return found


def _candidate(path: Path, spec: RobotSpec) -> Candidate:
    """Return the policy at `path`, a run's learner or a bundle's graph."""
    made, candidate = (_of_run if path.is_dir() else _of_bundle)(path)
    if lines := difference(made, spec):
        raise VerbError(
            f"expected policies of the data's robot, {path} differs (here: the policy, "
            f"there: the data):\n  " + "\n  ".join(lines)
        )
    return candidate


def _of_run(path: Path) -> tuple[RobotSpec, Candidate]:
    from robostack.learner import Density
    from robostack.training.ope import Candidate
    from robostack.training.run import load_run

    learner = load_run(path)
    log_prob = None
    if isinstance(learner, Density) and learner.stochastic:
        log_prob = learner.log_prob
    return learner.spec, Candidate(str(path), learner.act, log_prob)


def _of_bundle(path: Path) -> tuple[RobotSpec, Candidate]:
    from robostack import bundle
    from robostack.learner import noise
    from robostack.runtime.session import Batched
    from robostack.training.ope import Candidate

    policy = bundle.read(path)
    manifest = policy.manifest
    if manifest.history > 1 or manifest.chunk > 1 or manifest.state:
        raise VerbError(
            f"expected a policy that answers each reading by one action, {path} has "
            f"history, chunks or state; judge it in a world"
        )
    robot, run = manifest.robot, Batched(policy.model)

    def act(observation: Array, rng: np.random.Generator | None) -> Array:
        arrays = split(robot, observation)
        if manifest.stochastic:
            shape = (len(observation), robot.action.size)
            drawn = np.zeros(shape, np.float32) if rng is None else noise(rng, shape)
            arrays |= {bundle.NOISE: drawn}
        return run(arrays)["action"]

    return robot, Candidate(str(path), act, None)
