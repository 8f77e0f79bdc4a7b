"""Training by acting: a robot steps in a world, updates draw from what it lived.

    step      act once, in the world; what comes of it joins the experience
    update    once a step is worth more updates than were taken: draw a batch, update

Which of the two comes next follows from how many there were of each, so a run is
(updates, experience, learner, random generator) and nothing else. All four are in its
checkpoints; an episode that was cut is lived through again (acting.py). A run that is
killed at any moment ends with the same weights, to the bit, as if it never had been.

Algorithms that learn on-policy draw nothing: each of their updates learns from a
rollout, the last `batch_size` steps, all of them by the policy as it is.

Before the first update come `random_steps` by chance and `warmup_steps` of the policy
as it is. A batch is of the dataset and of the experience, by `online_share`; without a
dataset, of the experience alone. WSRL (arXiv:2412.07762) is a recipe of this loop: an
offline run to begin with, a warm-up, no dataset.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np

from robostack.data.experience import Experience, Learned
from robostack.learner import Learner
from robostack.robot import Task
from robostack.training import checkpoint, run
from robostack.training.acting import Actor, Explorer
from robostack.training.checkpoint import Checkpoint
from robostack.training.curves import Curves
from robostack.training.evaluate import Arena, open_arena, require
from robostack.training.feed import Feed, Mixture, Rollouts
from robostack.training.fitting import has
from robostack.training.interrupt import interruptible
from robostack.training.journal import (
    TICK,
    Journal,
    OnProgress,
    Options,
    Outcome,
    Progress,
    Stopwatch,
)
from robostack.training.process import prepare
from robostack.training.recipe import Recipe, RecipeError
from robostack.training.run import CHECKPOINTS, Run
from robostack.training.scores import reference
from robostack.training.setting import Plan, Setting, make_plan

_EPISODES = 10  # finished ones whose mean return is reported


class _State(NamedTuple):
    learner: Learner
    rng: np.random.Generator
    step: int  # updates
    metrics_size: int  # [byte]
    experience: Experience


def train(
    setting: Setting,
    folder: Path,
    recipe: Recipe,
    options: Options | None = None,
    on_progress: OnProgress = lambda _: None,
) -> Outcome:
    """Train as `recipe` says into `folder`; Ctrl-C leaves a checkpoint.

    `recipe.steps` are updates. Evaluations are in a world of their own: that of
    `options`, by default another one of the same address.

    Raises:
        RunError: the folder holds a run already, or, on resuming, another one.
        EvaluationError: the world is of another robot than the data.
        LearnerError: the parent has other networks, or the losses diverged.
        CheckpointError, ExperienceError: the disk is full; the one before is whole.
    """
    options = options or Options()
    prepare(options.threads)
    if options.d4rl_task:
        reference(options.d4rl_task)
    with ExitStack() as stack:
        arena = _open(stack, setting.world, setting.task)
        away = options.world or setting.world
        task = options.task if options.world else setting.task
        judged = _open(stack, away, task)
        require(judged, arena.world.spec, away)
        capacity = _capacity(recipe, arena.task)
        plan = make_plan(setting, recipe, options.seed, arena)
        learner = _begin(plan)
        resumed = options.resume and (folder / "run.json").exists()
        run.match(folder, plan.about) if resumed else run.start(folder, plan.about)
        state = _restore(folder, plan.about, learner, capacity)
        stack.callback(state.experience.close)
        curves = stack.enter_context(Curves(folder, state.step, state.metrics_size))
        journal = Journal(folder, recipe, options, curves, judged)
        if plan.begin and not state.experience.rows:
            journal.evaluate_first(state.learner)
        feed = _feed(plan, state.experience)
        explorer = Explorer(state.learner, recipe, state.rng)
        actor = Actor(
            arena,
            state.experience,
            explorer.choose,
            options.seed,
            asked=has(recipe.algorithm, "ON_POLICY"),
        )
        loop = _Loop(journal, recipe, stack.enter_context(actor), feed)
        return loop.run(state, on_progress)


def _feed(plan: Plan, experience: Experience) -> Feed:
    """Return what updates are made of."""
    recipe = plan.about.recipe
    if has(recipe.algorithm, "ON_POLICY"):
        return Rollouts(recipe, experience)
    whole = has(recipe.algorithm, "NEEDS_RETURN")
    return Mixture(recipe, experience, plan.replay, whole=whole)


class _Loop:
    """Steps and updates in turn."""

    def __init__(
        self, journal: Journal, recipe: Recipe, actor: Actor, feed: Feed
    ) -> None:
        self._journal = journal
        self._recipe = recipe
        self._actor = actor
        self._feed = feed

    def run(self, state: _State, on_progress: OnProgress) -> Outcome:
        """Go on until the recipe's steps are done, or somebody interrupts."""
        learner, rng, step, _, lived = state
        steps, watch = self._recipe.steps, Stopwatch()
        saved = (step, lived.rows)
        with interruptible() as interrupted:
            while step < steps and not interrupted():
                if step >= self._feed.due():
                    self._actor.step()
                    if step == 0 and lived.rows % TICK == 0:
                        on_progress(Progress(0, steps, {}, 0.0, lived.rows))
                    continue
                metrics = learner.update(self._feed.draw(rng))
                step += 1
                due = self._journal.due(step)
                if not any(due):
                    continue
                watch.stop(step - state.step)
                report = self._journal.report(step, metrics | _lived(lived), learner)
                if due.checkpoint:
                    self._save(step, state)
                    saved = (step, lived.rows)
                on_progress(Progress(step, steps, report, watch.rate, lived.rows))
                watch.start()
            if (step, lived.rows) != saved:
                self._save(step, state)
        return Outcome(step, step == steps, self._journal.evaluation)

    def _save(self, step: int, state: _State) -> None:
        self._journal.save(
            Checkpoint(
                step=step,
                learner=state.learner.state(),
                sampler=checkpoint.pack_generator(state.rng),
                experience=state.experience.sync(),
            )
        )


def _lived(experience: Experience) -> dict[str, float]:
    """Return what is reported of the robot's own steps."""
    recent = experience.returns[-_EPISODES:]
    counts = {
        "online/steps": experience.rows,
        "online/episodes": len(experience.returns),
    }
    return counts | ({"online/return": float(np.mean(recent))} if recent else {})


def _open(stack: ExitStack, address: str, task: str) -> Arena:
    arena = open_arena(address, task)
    stack.callback(arena.world.close)
    return arena


def _capacity(recipe: Recipe, task: Task) -> int:
    if recipe.replay_capacity < task.horizon:
        raise RecipeError(
            f"expected a replay_capacity of at least one episode, {task.horizon} "
            f"steps, got {recipe.replay_capacity}"
        )
    return recipe.replay_capacity


def _begin(plan: Plan) -> Learner:
    """Return the learner before its first update."""
    learner = run.make_learner(plan.about)
    if plan.begin:
        learner.begin(plan.begin)
    return learner


def _restore(folder: Path, about: Run, learner: Learner, capacity: int) -> _State:
    """Return where the run in `folder` is: at its newest checkpoint, or beginning."""
    newest = checkpoint.newest(folder / CHECKPOINTS)
    rng = np.random.default_rng(about.seed)
    if newest:
        learner.load(newest.learner)
        rng = checkpoint.unpack_generator(newest.sampler)
    data = about.data
    learned = Learned(about.recipe.gamma, data.reward_scale, data.reward_shift)
    saved = newest.experience if newest else None
    experience = Experience(folder, about.robot, learned, capacity, saved)
    step, size = (newest.step, newest.metrics_size) if newest else (0, 0)
    return _State(learner, rng, step, size, experience)
