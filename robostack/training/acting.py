"""A robot that acts while its policy learns: one step a call, episode after episode.

Episode k begins with a seed that follows from k and the run's, and a world forgets the
episode before. So what is needed to go on in the middle of one is the list of actions
that were applied in it: they are applied again, and what is read has to be the same.
Those that were asked for do as well, since limits follow from what was applied before.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator, Iterator
from itertools import count, islice
from typing import NamedTuple

import numpy as np

from robostack.data.episode import End
from robostack.data.experience import Experience, Transition
from robostack.learner import Learner, Statistics
from robostack.spec import Array, RobotSpec, concatenate, float32
from robostack.training.evaluate import Arena, EvaluationError, steps
from robostack.training.recipe import Recipe

_SURVEY_STEPS = 1000


class Explorer(NamedTuple):
    """Chooses actions: by chance first, then as the learner's policy draws them."""

    learner: Learner
    recipe: Recipe
    rng: np.random.Generator

    def choose(self, reading: dict[str, Array], lived: int) -> Array:
        """Return the action (A,) after `lived` steps of the robot."""
        spec, rng = self.learner.spec, self.rng
        if lived < self.recipe.random_steps:
            return at_random(spec, rng)
        action: Array = self.learner.act(concatenate(spec, reading)[None], rng)[0]
        if self.learner.stochastic or not self.recipe.exploration:
            return action
        half = np.subtract(spec.action.high, spec.action.low) / 2
        spread = self.recipe.exploration * half
        noisy: Array = action + spread * rng.standard_normal(len(half))
        return spec.action.clip(float32(noisy))


class Actor:
    """Drives a world and writes down what it lives through."""

    def __init__(
        self,
        arena: Arena,
        experience: Experience,
        choose: Callable[[dict[str, Array], int], Array],
        seed: int,
        *,
        asked: bool = False,
    ) -> None:
        """Go on where `experience` ends.

        `asked`: actions are written down as they were chosen, whatever was applied.
        """
        self._arena = arena
        self._experience = experience
        self._choose = choose
        self._seed = seed
        self._asked = asked
        self._chosen = float32([])
        self._known = deque(experience.unfinished())  # steps to be repeated
        self._episode = self._live()
        while self._known:
            next(self._episode)

    def __enter__(self) -> Actor:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the world."""
        self._episode.close()

    def step(self) -> None:
        """Take one step; begin an episode where the last one ended."""
        transition = next(self._episode, None)
        if transition is None:
            self._episode = self._live()
            transition = next(self._episode)
        self._experience.add(transition)

    def _live(self) -> Generator[Transition]:
        """Give the steps of one episode, those first that are known already."""
        world, task = self._arena
        try:
            world.seed(episode_seed(self._seed, len(self._experience.returns)))
            world.reset()
            episode = steps(self._act, world, task.horizon, shaped=False)
            for number, columns in enumerate(episode):
                last = number + 1 == task.horizon
                transition = judge(self._arena, columns, last=last)
                if self._asked:
                    transition = transition._replace(action=self._chosen)
                if self._known:
                    _require_same(self._known.popleft(), transition, number)
                yield transition
                if transition.end:
                    return
        finally:
            world.stop()

    def _act(self, reading: dict[str, Array]) -> Array:
        if self._known:
            self._chosen = self._known[0].action
        else:
            self._chosen = self._choose(reading, self._experience.rows)
        return self._chosen


def judge(arena: Arena, columns: dict[str, Array], *, last: bool) -> Transition:
    """Return one step as its task sees it; at the `last` of its horizon it ends."""
    world, task = arena
    reward = float(task.reward(columns)[0])
    if not math.isfinite(reward):
        raise EvaluationError(
            f"expected a finite reward of the task {task.instruction!r}, got {reward}"
        )
    end = End.TRUNCATED if last else None
    if task.terminated(columns)[0]:
        end = End.TERMINATED
    pair = concatenate(world.spec, columns)  # (2, O)
    return Transition(pair[0], columns["action"][0], pair[1], reward, end)


def survey(arena: Arena, seed: int) -> Statistics:
    """Return what random actions let a robot see, for want of a dataset."""
    seen = np.stack(list(islice(_wander(arena, seed), _SURVEY_STEPS)))
    mean, std = seen.mean(0, dtype=np.float64), seen.std(0, dtype=np.float64)
    return Statistics(float32(mean), float32(std), 0.0, 0.0)


def _wander(arena: Arena, seed: int) -> Iterator[Array]:
    """Give the observations (O,) of random actions, episode after episode."""
    world, task = arena
    rng = np.random.default_rng(seed)
    for number in count():
        world.seed(episode_seed(seed, number))
        world.reset()
        for columns in steps(
            lambda _: at_random(world.spec, rng), world, task.horizon, shaped=False
        ):
            transition = judge(arena, columns, last=False)
            yield transition.observation
            if transition.end:
                break


def at_random(spec: RobotSpec, rng: np.random.Generator) -> Array:
    """Return an action (A,) anywhere within bounds."""
    return float32(rng.uniform(spec.action.low, spec.action.high))


def episode_seed(seed: int, number: int) -> int:
    """Return the seed of an episode; episodes of other runs have others."""
    return int(np.random.SeedSequence((seed, number)).generate_state(1)[0])


def _require_same(then: Transition, now: Transition, number: int) -> None:
    if (then.end, then.reward) == (now.end, float(float32(now.reward)[0])) and all(
        np.array_equal(a, b) for a, b in zip(then[:3], now[:3], strict=True)
    ):
        return
    raise EvaluationError(
        f"expected the world to repeat step {number} of the episode that was "
        f"interrupted, its readings differ; go on with the versions that the run was "
        f"made with, or begin another from it (--from)"
    )
