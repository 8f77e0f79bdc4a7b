"""Training from logs: draw a batch, update, and now and then report, evaluate, save.

A run that is killed at any moment resumes from its newest checkpoint, and ends with the
same weights, to the bit, as if it had never stopped: the checkpoint holds the learner,
the generator that draws batches, and how much of the metrics belongs to it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, SupportsFloat

import msgspec
import numpy as np

from robostack.data.dataset import Dataset
from robostack.data.replay import Replay
from robostack.learner import Learner, LearnerError
from robostack.training import checkpoint
from robostack.training.checkpoint import Checkpoint
from robostack.training.curves import Curves
from robostack.training.evaluate import (
    Arena,
    deterministic,
    evaluate,
    open_arena,
    require,
)
from robostack.training.interrupt import interruptible
from robostack.training.process import load_algorithm, prepare
from robostack.training.recipe import Recipe
from robostack.training.run import CHECKPOINTS, describe, make_learner, match, start
from robostack.training.scores import normalized, reference

_TICK = 50  # updates between two calls of `on_progress`
_EVALUATION_SEED = 10_000  # apart from the seeds that data is collected with


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What does not change what is learned; all but `seed` may differ on resuming."""

    seed: int = 0
    resume: bool = False  # go on with the run in that folder, or begin it
    world: str = ""  # where to evaluate, such as sim:gym/Hopper-v5; "": nowhere
    task: str = ""  # of the world; "": its first
    d4rl_task: str = ""  # if the world is that very task: its scores are logged too
    report_every: int = 500  # updates
    checkpoint_every: int = 5_000  # updates
    keep: int = 2  # checkpoints
    threads: int = 1  # of the math library, where it is not loaded yet


class Progress(NamedTuple):
    """How far a run is."""

    step: int
    steps: int
    metrics: dict[str, float]  # empty between reports
    updates_per_s: float  # since the start, or the resumption, without evaluations


class Outcome(NamedTuple):
    """How a run ended."""

    step: int
    finished: bool  # else it was interrupted, and can be resumed
    evaluation: dict[str, float]  # the last one; empty without a world


class _State(NamedTuple):
    learner: Learner
    rng: np.random.Generator
    step: int
    metrics_size: int  # [byte]


def load_replay(dataset: Dataset, recipe: Recipe) -> Replay:
    """Return the transitions that `recipe` learns from, rewards as it wants them."""
    module = load_algorithm(recipe.algorithm)
    if not getattr(module, "NEEDS_REWARD", True):
        return Replay.from_dataset(dataset, gamma=recipe.gamma, labeller=None)
    return Replay.from_dataset(
        dataset,
        gamma=recipe.gamma,
        labeller=recipe.labeller,
        reward_scale=recipe.reward_scale,
        reward_shift=recipe.reward_shift,
    )


def train(
    dataset: Dataset,
    folder: Path,
    recipe: Recipe,
    options: Options | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Outcome:
    """Train as `recipe` says into `folder`; Ctrl-C leaves a checkpoint.

    Raises:
        RunError: the folder holds a run already, or, on resuming, another one.
        LearnerError: the data is not finite, or the losses diverged.
        CheckpointError: a checkpoint could not be written; the one before is whole.
    """
    options = options or Options()
    prepare(options.threads)
    if options.d4rl_task:
        reference(options.d4rl_task)
    replay = load_replay(dataset, recipe)
    run = describe(recipe, options.seed, dataset, replay)
    arena = open_arena(options.world, options.task) if options.world else None
    try:
        if arena:
            require(arena, dataset.spec, options.world)
        resumed = options.resume and (folder / "run.json").exists()
        match(folder, run) if resumed else start(folder, run)
        state = _restore(folder, make_learner(run), options.seed)
        with Curves(folder, state.step, state.metrics_size) as curves:
            loop = _Loop(folder, recipe, options, curves, arena)
            return loop.run(state, replay, on_progress)
    finally:
        if arena:
            arena.world.close()


def _restore(folder: Path, learner: Learner, seed: int) -> _State:
    """Return where the run in `folder` is: at its newest checkpoint, or at 0."""
    newest = checkpoint.newest(folder / CHECKPOINTS)
    if newest is None:
        return _State(learner, np.random.default_rng(seed), 0, 0)
    learner.load(newest.learner)
    rng = checkpoint.unpack_generator(newest.sampler)
    return _State(learner, rng, newest.step, newest.metrics_size)


class _Loop:
    """The loop, and what it reports to."""

    def __init__(
        self,
        folder: Path,
        recipe: Recipe,
        options: Options,
        curves: Curves,
        arena: Arena | None,
    ) -> None:
        self._folder = folder
        self._recipe = recipe
        self._options = options
        self._curves = curves
        self._arena = arena
        self._evaluation: dict[str, float] = {}

    def run(
        self,
        state: _State,
        replay: Replay,
        on_progress: Callable[[Progress], None],
    ) -> Outcome:
        """Update until the recipe's steps are done, or somebody interrupts."""
        steps, size = self._recipe.steps, self._recipe.batch_size
        learner, rng, step = state.learner, state.rng, state.step
        watch = _Stopwatch()
        with interruptible() as interrupted:
            while step < steps and not interrupted():
                metrics = learner.update(replay.sample(rng, size))
                step += 1
                if not any(self._due(step)):
                    continue
                watch.stop(step - state.step)
                report = self._report(step, metrics, learner)
                self._save_if_due(step, learner, rng)
                on_progress(Progress(step, steps, report, watch.rate))
                watch.start()
            if step % self._options.checkpoint_every and step > state.step:
                self._save(step, learner, rng)
        return Outcome(step, step == steps, self._evaluation)

    def _due(self, step: int) -> Iterator[bool]:
        """Say which of ticking, reporting, evaluating and saving it is time for."""
        last = step == self._recipe.steps
        yield step % _TICK == 0 or last
        yield step % self._options.report_every == 0 or last
        yield bool(self._arena) and (step % self._recipe.evaluate_every == 0 or last)
        yield step % self._options.checkpoint_every == 0

    def _report(
        self, step: int, metrics: dict[str, SupportsFloat], learner: Learner
    ) -> dict[str, float]:
        _, reporting, evaluating, _ = self._due(step)
        report: dict[str, float] = {}
        if reporting:
            report = {name: float(value) for name, value in metrics.items()}
            _require_finite(step, report)
        if evaluating:
            self._evaluation = self._evaluate(learner)
            report |= self._evaluation
        if report:
            self._curves.write(step, report)
        return report

    def _evaluate(self, learner: Learner) -> dict[str, float]:
        assert self._arena is not None
        evaluation = evaluate(
            deterministic(learner),
            self._arena,
            episodes=self._recipe.evaluate_episodes,
            seed=_EVALUATION_SEED,
        )
        metrics = evaluation.metrics()
        if name := self._options.d4rl_task:
            score = normalized(name, metrics["evaluation/return"])
            metrics["evaluation/d4rl_score"] = score
        return metrics

    def _save_if_due(
        self, step: int, learner: Learner, rng: np.random.Generator
    ) -> None:
        if step % self._options.checkpoint_every == 0:
            self._save(step, learner, rng)

    def _save(self, step: int, learner: Learner, rng: np.random.Generator) -> None:
        content = Checkpoint(
            step=step,
            learner=learner.state(),
            sampler=checkpoint.pack_generator(rng),
            metrics_size=self._curves.sync(),
        )
        checkpoint.save(self._folder / CHECKPOINTS, content, self._options.keep)


class _Stopwatch:
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
