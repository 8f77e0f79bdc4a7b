"""Transitions for learners, drawn from a dataset.

The discount is data: 0 where the episode terminated, else gamma, also where it was
truncated. Whoever samples owns the random generator, so that a resumed training draws
what it would have drawn.

What takes more than half of the memory that is available stays on disk: observations,
actions and rewards are read where they are sampled, and four bytes per transition, its
return to go, are in memory. Batches and statistics are the same to the bit.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from robostack.data import memory
from robostack.data.dataset import LOGGED, Dataset
from robostack.data.episode import complete
from robostack.data.store import Mapped, Rows, Store, map_columns
from robostack.data.transitions import Places, Runs, find_runs, returns_to_go
from robostack.learner import Batch, Statistics
from robostack.spec import Array, float32

RETURN_SPAN = 1000.0  # what "return_range" scales the spread of returns to
SHARE = 0.5  # of the memory that is available: what takes more is left on disk
BLOCK = 8192  # rows read at a time for the statistics

Returns = npt.NDArray[np.float64]


class ReplayError(ValueError):
    """A dataset that gives no transitions, or no rewards for them."""


class Rewarding(NamedTuple):
    """How rewards were changed on the way in: scale * logged + shift; for reports."""

    labeller: str | None
    scale: float
    shift: float
    return_low: float  # of the logged rewards, over complete episodes
    return_high: float


class Index(NamedTuple):
    """Which rows of a store are transitions, and what follows from whole episodes."""

    runs: Runs
    places: Places  # the runs, or a table of them
    mc_return: Array  # (N,) discounted return to go, as sampled
    returns: Returns  # (E,) undiscounted, of rewards as sampled
    gamma: float


class Replay:
    """A fixed set of transitions, drawn uniformly with replacement."""

    def __init__(self, store: Store, index: Index, rewarding: Rewarding) -> None:
        self._store = store
        self._index = index
        self.rewarding = rewarding

    @classmethod
    def from_dataset(  # noqa: PLR0913 (all but the first are options)
        cls,
        dataset: Dataset,
        *,
        gamma: float = 0.99,
        labeller: str | None = LOGGED,
        reward_scale: float | Literal["return_range"] = 1.0,
        reward_shift: float = 0.0,
        keep: Sequence[int] | None = None,
        stream: bool | None = None,
    ) -> Replay:
        """Return the transitions of the episodes numbered in `keep` (None: of all).

        Rewards become scale * reward + shift; `return_range` scales the spread of
        returns to 1000, as IQL does for locomotion. Without a labeller they are NaN,
        for learners that need none. `stream` leaves the data on disk (None: if it takes
        more than `SHARE` of the memory that is available).
        """
        kept = list(range(len(dataset))) if keep is None else list(keep)
        if not kept:
            raise ReplayError(f"expected episodes to learn from in {dataset.path}")
        mapped = map_columns(dataset, _rewards(dataset, labeller))
        runs = find_runs(dataset, kept)
        if not runs.total:
            raise ReplayError(
                f"expected at least one transition, {dataset.path} has none"
            )
        rewarding = _rewarding(dataset, kept, mapped, runs, labeller)
        if reward_scale == "return_range":
            reward_scale = return_range_scale(rewarding)
        rewarding = rewarding._replace(scale=float(reward_scale), shift=reward_shift)
        index = _index(dataset, kept, mapped, runs, rewarding, gamma)
        if stream is None:
            stream = mapped.size > SHARE * memory.available()
        if stream:
            return cls(mapped, index, rewarding)
        return cls(mapped.load(), index._replace(places=runs.table()), rewarding)

    def __len__(self) -> int:
        """Return the number of transitions."""
        return self._index.runs.total

    @property
    def streams(self) -> bool:
        """Whether sampling reads from disk."""
        return isinstance(self._store, Mapped)

    def sample(self, rng: np.random.Generator, size: int) -> Batch:
        """Draw `size` transitions."""
        return self.gather(self.draw(rng, size))

    def draw(self, rng: np.random.Generator, size: int) -> Rows:
        """Draw the numbers of `size` transitions, without reading them."""
        return rng.integers(len(self), size=size)

    def transitions(self) -> Batch:
        """Return all transitions, in order, in memory."""
        return self.gather(np.arange(len(self)))

    def gather(self, drawn: Rows) -> Batch:
        """Return the transitions numbered `drawn`; threads may do so side by side."""
        rows, stopped = self._index.places.place(drawn)
        observation, action, reward, following = self._store.read(rows)
        return Batch(
            observation,
            action,
            reward * self.rewarding.scale + self.rewarding.shift,
            np.where(stopped, np.float32(0.0), np.float32(self._index.gamma)),
            following,
            self._index.mc_return.take(drawn),
        )

    @cached_property
    def statistics(self) -> Statistics:
        """What a learner may know: observations, and returns of rewards as sampled."""
        mean, std = _moments(self._store, self._index.runs)
        if isinstance(self._store, Mapped):  # the last time that it is read in order
            self._store.expect_random_reads()
        low, high = _span(self._index.returns)
        return Statistics(mean, std, low, high)


def return_range_scale(rewarding: Rewarding) -> float:
    """Return the factor that scales the spread of logged returns to 1000."""
    spread = rewarding.return_high - rewarding.return_low
    if not spread > 0:
        raise ReplayError(
            f"expected returns that differ to scale rewards by, got "
            f"{rewarding.return_low} to {rewarding.return_high}; use a fixed scale"
        )
    return RETURN_SPAN / spread


def _rewards(dataset: Dataset, labeller: str | None) -> list[Array | None]:
    """Return the rewards (R,) of every segment, as they lie on disk."""
    if labeller is None:
        return [None] * len(dataset.segments)
    return dataset.reward_columns(labeller)


def _rewarding(
    dataset: Dataset,
    kept: list[int],
    mapped: Mapped,
    runs: Runs,
    labeller: str | None,
) -> Rewarding:
    """Return the spread of the logged returns; all that is sampled is finite."""
    totals = np.array([r.sum(dtype=np.float64) for r in _by_episode(mapped, runs)])
    bare = np.flatnonzero(~np.isfinite(totals))
    if labeller is not None and len(bare):
        known = ", ".join(dataset.labellers()) or "nobody"
        raise ReplayError(
            f"expected rewards by {labeller!r} for every step, found none for "
            f"{len(bare)} of {len(kept)} episodes (the first is {kept[bare[0]]}); "
            f"there are rewards by {known}; robostack data label writes them"
        )
    low, high = _span(_seen(dataset, kept, totals))
    return Rewarding(labeller, 1.0, 0.0, low, high)


def _index(
    dataset: Dataset,
    kept: list[int],
    mapped: Mapped,
    runs: Runs,
    rewarding: Rewarding,
    gamma: float,
) -> Index:
    to_go = np.empty(runs.total, np.float32)
    totals = []
    pieces = zip(kept, itertools.pairwise(runs.bounds), strict=True)
    for (i, (start, stop)), logged in zip(
        pieces, _by_episode(mapped, runs), strict=True
    ):
        reward = logged * rewarding.scale + rewarding.shift
        to_go[start:stop] = returns_to_go(reward, gamma, dataset.episodes[i].end)
        totals.append(reward.sum(dtype=np.float64))
    return Index(runs, runs, to_go, _seen(dataset, kept, np.array(totals)), gamma)


def _by_episode(mapped: Mapped, runs: Runs) -> Iterator[Array]:
    """Give the logged rewards (T,) of the transitions of one episode after another."""
    for start, stop in itertools.pairwise(runs.bounds):
        yield mapped.reward(runs.rows(np.arange(start, stop)))


def _seen(dataset: Dataset, kept: list[int], totals: Returns) -> Returns:
    """Return those of complete episodes; where there is none, those of all."""
    seen = np.array([complete(dataset.episodes[i].labels) for i in kept])
    return totals[seen] if seen.any() else totals


def _span(values: Returns) -> tuple[float, float]:
    return (float(values.min()), float(values.max())) if len(values) else (0.0, 0.0)


def _moments(store: Store, runs: Runs) -> tuple[Array, Array]:
    """Return mean and standard deviation (O,) of the observations of transitions.

    In one pass: Chan, Golub and LeVeque, 1983, merge those of two parts.
    """
    count, mean, square = 0, np.float64(0.0), np.float64(0.0)
    for start in range(0, runs.total, BLOCK):
        numbers = np.arange(start, min(start + BLOCK, runs.total))
        block = store.observation(runs.rows(numbers)).astype(np.float64)
        own = block.mean(axis=0)
        apart, total = own - mean, count + len(block)
        mean = mean + apart * len(block) / total
        square = square + np.square(block - own).sum(axis=0)
        square = square + np.square(apart) * count * len(block) / total
        count = total
    return float32(mean), float32(np.sqrt(square / count))
