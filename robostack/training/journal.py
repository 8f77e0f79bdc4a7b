"""What a loop does beside updating: report, evaluate and save, on schedule."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, SupportsFloat

import msgspec

from robostack.learner import Learner, LearnerError
from robostack.training import checkpoint
from robostack.training.checkpoint import Checkpoint
from robostack.training.curves import Curves
from robostack.training.evaluate import Arena, deterministic, evaluate
from robostack.training.recipe import Recipe
from robostack.training.run import CHECKPOINTS
from robostack.training.scores import normalized

TICK = 50  # updates between two calls of `on_progress`
_CHECKPOINT_EVERY = 5_000  # updates, at least
_EVALUATION_SEED = 10_000  # apart from the seeds that data is collected with


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What does not change what is learned; all but `seed` may differ on resuming."""

    seed: int = 0
    resume: bool = False  # go on with the run in that folder, or begin it
    world: str = ""  # where to evaluate, such as sim:gym/Hopper-v5; "": nowhere
    task: str = ""  # of the world; "": its first
    d4rl_task: str = ""  # if the world is that very task: its scores are logged too
    report_every: int = 500  # updates; and at evaluations
    checkpoint_every: int = 0  # updates; 0: 5,000, or as often as evaluations
    keep: int = 2  # checkpoints
    threads: int = 1  # of the math library, where it is not loaded yet
    stream: bool | None = None  # leave the data on disk; None: where memory is short
    in_turn: bool = False  # of several seeds: each as it is alone, to the bit


class Progress(NamedTuple):
    """How far a run is."""

    step: int
    steps: int
    metrics: dict[str, float]  # empty between reports
    updates_per_s: float  # since the start, or the resumption, without evaluations
    robot_steps: int = 0  # of an online run, from its beginning on


OnProgress = Callable[[Progress], None]


class Outcome(NamedTuple):
    """How a run ended."""

    step: int
    finished: bool  # else it was interrupted, and can be resumed
    evaluation: dict[str, float]  # the last one; empty without a world


class Due(NamedTuple):
    """What it is time for."""

    tick: bool
    report: bool
    evaluation: bool
    checkpoint: bool


class Journal:
    """The folder of a run, its curves, and the world it is evaluated in."""

    def __init__(
        self,
        folder: Path,
        recipe: Recipe,
        options: Options,
        curves: Curves,
        arena: Arena | None,
    ) -> None:
        self.evaluation: dict[str, float] = {}  # the last one
        self.recipe = recipe
        self._folder = folder
        self._options = options
        self._curves = curves
        self._arena = arena
        often = min(_CHECKPOINT_EVERY, recipe.evaluate_every)
        self._checkpoint_every = options.checkpoint_every or often

    def due(self, step: int) -> Due:
        """Say what it is time for after update `step`.

        The recipe knows how much an update is: one on a rollout takes as long as
        thousands of others. So there is a report at least as often as it wants
        evaluations, and a checkpoint, unless somebody said how often.
        """
        last = step == self.recipe.steps
        milestone = step % self.recipe.evaluate_every == 0
        return Due(
            step % TICK == 0 or last,
            step % self._options.report_every == 0 or milestone or last,
            bool(self._arena) and (milestone or last),
            step % self._checkpoint_every == 0,
        )

    def report(
        self, step: int, metrics: Mapping[str, SupportsFloat], learner: Learner
    ) -> dict[str, float]:
        """Write what is due at `step`: of `metrics`, of an evaluation; return it."""
        due = self.due(step)
        report: dict[str, float] = {}
        if due.report:
            report = {name: float(value) for name, value in metrics.items()}
            _require_finite(step, report)
        if due.evaluation:
            report |= self.evaluate(learner)
        if report:
            self._curves.write(step, report)
        return report

    def evaluate_first(self, learner: Learner) -> None:
        """Write down how good the policy is before its first update."""
        self._curves.write(0, self.evaluate(learner))

    def evaluate(self, learner: Learner) -> dict[str, float]:
        """Return how good the policy is."""
        assert self._arena is not None
        evaluation = evaluate(
            deterministic(learner),
            self._arena,
            episodes=self.recipe.evaluate_episodes,
            seed=_EVALUATION_SEED,
        )
        metrics = evaluation.metrics()
        if name := self._options.d4rl_task:
            score = normalized(name, metrics["evaluation/return"])
            metrics["evaluation/d4rl_score"] = score
        self.evaluation = metrics
        return metrics

    def save(self, content: Checkpoint) -> None:
        """Write a checkpoint; how much of the curves belongs to it is filled in."""
        content = msgspec.structs.replace(content, metrics_size=self._curves.sync())
        checkpoint.save(self._folder / CHECKPOINTS, content, self._options.keep)


class Stopwatch:
    """Counts the time [s] of updates alone."""

    def __init__(self) -> None:
        self._spent_s = 0.0
        self.rate = 0.0  # updates per second
        self.start()

    def start(self) -> None:
        """Go on."""
        self._since_s = time.perf_counter()

    def stop(self, updates: int) -> None:
        """Pause after `updates` in all."""
        self._spent_s += time.perf_counter() - self._since_s
        self.rate = updates / max(self._spent_s, 1e-9)


def _require_finite(step: int, report: dict[str, float]) -> None:
    bad = [name for name, value in report.items() if not math.isfinite(value)]
    if bad:
        raise LearnerError(
            f"training diverged by step {step}: {', '.join(bad)} not finite; lower the "
            f"learning rate, or look at the data (robostack data inspect)"
        )
