"""Training from logs: draw a batch, update, and now and then report, evaluate, save.

A run that is killed at any moment resumes from its newest checkpoint, and ends with the
same weights, to the bit, as if it had never stopped: the checkpoint holds the learner,
the generator that draws batches, and how much of the metrics belongs to it.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from robostack.data.dataset import Dataset
from robostack.data.replay import Replay
from robostack.learner import Learner
from robostack.training import checkpoint
from robostack.training.checkpoint import Checkpoint
from robostack.training.curves import Curves
from robostack.training.evaluate import open_arena, require
from robostack.training.interrupt import interruptible
from robostack.training.journal import (
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
        RunError: the folder holds a run already, or, on resuming, another one.
        LearnerError: the data is not finite, or the losses diverged.
        CheckpointError: a checkpoint could not be written; the one before is whole.
    """
    options = options or Options()
    prepare(options.threads)
    if options.d4rl_task:
        reference(options.d4rl_task)
    replay = load_replay(dataset, recipe, options.stream)
    run = describe(recipe, options.seed, dataset, replay)
    arena = open_arena(options.world, options.task) if options.world else None
    try:
        if arena:
            require(arena, dataset.spec, options.world)
        resumed = options.resume and (folder / "run.json").exists()
        match(folder, run) if resumed else start(folder, run)
        state = _restore(folder, make_learner(run), options.seed)
        with Curves(folder, state.step, state.metrics_size) as curves:
            journal = Journal(folder, recipe, options, curves, arena)
            return _loop(journal, recipe, state, replay, on_progress)
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


def _loop(
    journal: Journal,
    recipe: Recipe,
    state: _State,
    replay: Replay,
    on_progress: OnProgress,
) -> Outcome:
    """Update until the recipe's steps are done, or somebody interrupts."""
    learner, rng, step, _ = state
    watch, saved = Stopwatch(), step
    with (
        interruptible() as interrupted,
        batches(replay, rng, recipe.batch_size) as draw,
    ):
        while step < recipe.steps and not interrupted():
            metrics = learner.update(draw())
            step += 1
            due = journal.due(step)
            if not any(due):
                continue
            watch.stop(step - state.step)
            report = journal.report(step, metrics, learner)
            if due.checkpoint:
                journal.save(_content(step, learner, rng))
                saved = step
            on_progress(Progress(step, recipe.steps, report, watch.rate))
            watch.start()
        if step > saved:
            journal.save(_content(step, learner, rng))
    return Outcome(step, step == recipe.steps, journal.evaluation)


def _content(step: int, learner: Learner, rng: np.random.Generator) -> Checkpoint:
    sampler = checkpoint.pack_generator(rng)
    return Checkpoint(step=step, learner=learner.state(), sampler=sampler)
