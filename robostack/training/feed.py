"""What updates draw from while a robot acts: what it lived through, and a dataset."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from robostack.data.experience import Experience
from robostack.data.replay import Replay
from robostack.learner import Batch
from robostack.spec import Array
from robostack.training.recipe import Recipe


class Feed(Protocol):
    """What updates are made of.

    It may only depend on the experience, the dataset and the generator, since nothing
    else is in a checkpoint.
    """

    def due(self) -> int:
        """Return how many updates there should have been by now."""

    def draw(self, rng: np.random.Generator) -> Batch:
        """Return the batch of the next update."""


class Mixture:
    """Batches by chance, of the experience and of a dataset."""

    def __init__(
        self,
        recipe: Recipe,
        experience: Experience,
        replay: Replay | None,
        *,
        whole: bool = False,
    ) -> None:
        """`whole`: only episodes that are finished, so that their returns are known."""
        self._recipe = recipe
        self._experience = experience
        self._replay = replay
        self._whole = whole

    def due(self) -> int:
        """Return how many updates the steps that can be drawn are worth."""
        recipe = self._recipe
        first = recipe.random_steps + recipe.warmup_steps
        return int(max(0, self._known - first) * recipe.updates_per_step)

    def draw(self, rng: np.random.Generator) -> Batch:
        """Return a batch, the dataset's part first."""
        size, known = self._recipe.batch_size, self._known
        ours, parts = size, []
        if self._replay is not None:
            lived = known - self._experience.oldest
            ours = self._count(rng, lived, len(self._replay))
            if ours < size:
                drawn = self._replay.sample(rng, size - ours)
                parts.append(_marked(drawn, lived=0.0))
        if ours:
            parts.append(_marked(self._experience.sample(rng, ours, known), lived=1.0))
        return Batch(*map(_concatenate, *parts)) if len(parts) > 1 else parts[0]

    @property
    def _known(self) -> int:
        return self._experience.finished if self._whole else self._experience.rows

    def _count(self, rng: np.random.Generator, lived: int, given: int) -> int:
        """Return how many of a batch are of the experience."""
        size, share = self._recipe.batch_size, self._recipe.online_share
        if share == "uniform":
            return int(rng.binomial(size, lived / (lived + given)))
        return round(size * share)


class Rollouts:
    """Each batch is what the policy did since the update before, whole and in order."""

    def __init__(self, recipe: Recipe, experience: Experience) -> None:
        """A rollout has the recipe's `batch_size` of steps."""
        self._recipe = recipe
        self._experience = experience

    def due(self) -> int:
        """Return how many rollouts there were."""
        recipe = self._recipe
        first = recipe.random_steps + recipe.warmup_steps
        return max(0, self._experience.rows - first) // recipe.batch_size

    def draw(self, rng: np.random.Generator) -> Batch:
        """Return the rollout that is now over; nothing is drawn by chance."""
        batch = self._experience.newest(self._recipe.batch_size)
        return _marked(batch, lived=1.0)


def _marked(batch: Batch, *, lived: float) -> Batch:
    """Return `batch`, marked with where its rows are from."""
    return batch._replace(lived=np.full(len(batch.reward), lived, np.float32))


def _concatenate(*columns: Array | None) -> Array:
    return np.concatenate([column for column in columns if column is not None])
