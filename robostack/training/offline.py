"""Training from logs: draw a batch, update, and now and then report, evaluate, save.

A run that is killed at any moment resumes from its newest checkpoint, and ends with the
same weights, to the bit, as if it had never stopped: the checkpoint holds the learner,
the generator that draws batches, and how much of the metrics belongs to it.

A run that is open is a `Course`, which can go on by slices: several in turn, each as if
it were alone (turns.py), or together (abreast.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple, SupportsFloat

import numpy as np

from robostack.data.dataset import Dataset
from robostack.data.replay import Replay
from robostack.learner import Batch, Joining, Learner
from robostack.training import checkpoint
from robostack.training.checkpoint import Checkpoint
from robostack.training.curves import Curves
from robostack.training.evaluate import open_arena, require
from robostack.training.fitting import require_logs
from robostack.training.interrupt import interruptible
from robostack.training.journal import (
    Due,
    Journal,
    OnProgress,
    Options,
    Outcome,
    Progress,
    Stopwatch,
)
from robostack.training.prefetch import batches
from robostack.training.process import load_algorithm, prepare
from robostack.training.recipe import Recipe
from robostack.training.run import CHECKPOINTS, describe, make_learner, match, start
from robostack.training.scores import reference

__all__ = ["Options", "Outcome", "Progress", "load_replay", "train"]


class _State(NamedTuple):
    learner: Learner
    rng: np.random.Generator
    step: int
    metrics_size: int  # [byte]


def load_replay(dataset: Dataset, recipe: Recipe, stream: bool | None = None) -> Replay:
    """Return the transitions that `recipe` learns from, rewards as it wants them.

    They are left on disk if `stream`, or (None) if memory does not hold them well.
    """
    module = load_algorithm(recipe.algorithm)
    if not getattr(module, "NEEDS_REWARD", True):
        return Replay.from_dataset(
            dataset, gamma=recipe.gamma, labeller=None, stream=stream
        )
    return Replay.from_dataset(
        dataset,
        gamma=recipe.gamma,
        labeller=recipe.labeller,
        reward_scale=recipe.reward_scale,
        reward_shift=recipe.reward_shift,
        stream=stream,
    )


def train(
    dataset: Dataset,
    folder: Path,
    recipe: Recipe,
    options: Options | None = None,
    on_progress: OnProgress = lambda _: None,
) -> Outcome:
    """Train as `recipe` says into `folder`; Ctrl-C leaves a checkpoint.

    Raises:
        RecipeError: the algorithm learns by acting alone.
        RunError: the folder holds a run already, or, on resuming, another one.
        LearnerError: the data is not finite, or the losses diverged.
        CheckpointError: a checkpoint could not be written; the one before is whole.
    """
    options = options or Options()
    prepare(options.threads)
    replay = load_replay(dataset, recipe, options.stream)
    with opened(dataset, folder, recipe, options, replay) as course:
        with interruptible() as interrupted:
            course.advance(recipe.steps, interrupted, on_progress)
        course.save()
    return course.outcome


@contextmanager
def opened(
    dataset: Dataset, folder: Path, recipe: Recipe, options: Options, replay: Replay
) -> Iterator[Course]:
    """Give the run in `folder`, begun or resumed, on the transitions in `replay`."""
    require_logs(recipe)
    if options.d4rl_task:
        reference(options.d4rl_task)
    run = describe(recipe, options.seed, dataset, replay)
    arena = open_arena(options.world, options.task) if options.world else None
    try:
        if arena:
            require(arena, dataset.spec, options.world)
        resumed = options.resume and (folder / "run.json").exists()
        match(folder, run) if resumed else start(folder, run)
        state = _restore(folder, make_learner(run), options.seed)
        with Curves(folder, state.step, state.metrics_size) as curves:
            yield Course(Journal(folder, recipe, options, curves, arena), state, replay)
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


class Course:
    """A run that is open, at some update; `opened` gives it."""

    def __init__(self, journal: Journal, state: _State, replay: Replay) -> None:
        self.step = state.step
        self._journal = journal
        self._recipe = journal.recipe
        self._state = state
        self._replay = replay
        self._saved = state.step
        self._watch = Stopwatch()

    @property
    def steps(self) -> int:
        """How many updates there will be."""
        return self._recipe.steps

    @property
    def outcome(self) -> Outcome:
        """How it stands."""
        return Outcome(self.step, self.step == self.steps, self._journal.evaluation)

    @property
    def learner(self) -> Learner:
        """Who learns."""
        return self._state.learner

    @property
    def joins(self) -> bool:
        """Whether it can learn together with others of the same recipe, and gains."""
        return isinstance(self.learner, Joining) and self.learner.gains()

    @property
    def due(self) -> Due:
        """What it is time for, now."""
        return self._journal.due(self.step)

    def advance(
        self, until: int, interrupted: Callable[[], bool], on_progress: OnProgress
    ) -> None:
        """Update up to step `until`, or to the recipe's last, unless interrupted."""
        self.start()
        with self.drawing() as draw:
            while self.step < min(until, self.steps) and not interrupted():
                metrics = self.learner.update(draw())
                self.step += 1
                if any(self.due):
                    self.pause()
                    self.report(metrics, on_progress)
                    self.start()
        self.pause()

    def drawing(self) -> AbstractContextManager[Callable[[], Batch]]:
        """Give a function that draws the next batch."""
        return batches(self._replay, self._state.rng, self._recipe.batch_size)

    def start(self) -> None:
        """Count the time from here on as that of updates."""
        self._watch.start()

    def pause(self) -> None:
        """Count it no longer."""
        self._watch.stop(self.step - self._state.step)

    def report(
        self, metrics: Mapping[str, SupportsFloat], on_progress: OnProgress
    ) -> None:
        """Write and tell what is due after an update that gave `metrics`."""
        report = self._journal.report(self.step, metrics, self.learner)
        if self.due.checkpoint:
            self.save()
        on_progress(Progress(self.step, self.steps, report, self._watch.rate))

    def save(self) -> None:
        """Write a checkpoint, unless there is one of this very step."""
        if self.step == self._saved:
            return
        learner, rng = self._state.learner, self._state.rng
        sampler = checkpoint.pack_generator(rng)
        self._journal.save(
            Checkpoint(step=self.step, learner=learner.state(), sampler=sampler)
        )
        self._saved = self.step
