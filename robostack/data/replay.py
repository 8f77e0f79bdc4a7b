"""Transitions for learners, drawn from a dataset.

    rows of episodes, end to end      o_0 o_1 o_2 o_3 | o_0 o_1 o_2 | ...
    a transition is a row             (o_t, a_t, r_t, discount_t, o_t+1)

The last row of an episode starts no transition, nor does a row without an action, so no
next observation is ever of another episode. The discount is data: 0 where the episode
terminated, else gamma, also where it was truncated. Whoever samples owns the random
generator, so that a resumed training draws what it would have drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from robostack.data.dataset import LOGGED, Dataset, Item
from robostack.data.episode import End, complete
from robostack.learner import Batch, Statistics
from robostack.spec import Array, float32

Rows = npt.NDArray[np.int64]

RETURN_SPAN = 1000.0  # what "return_range" scales the spread of returns to
BLOCK = 65536  # rows read at a time for the statistics


class ReplayError(ValueError):
    """A dataset that gives no transitions, or no rewards for them."""


class Rewarding(NamedTuple):
    """How rewards were changed on the way in: scale * logged + shift; for reports."""

    labeller: str | None
    scale: float
    shift: float
    return_low: float  # of the logged rewards, over complete episodes
    return_high: float


class Store(Protocol):
    """Where observations and actions are: in memory, or mapped from disk."""

    def observation(self, rows: Rows) -> Array:
        """Return the observations (B, O) of `rows`, in spec order."""

    def action(self, rows: Rows) -> Array:
        """Return the actions (B, A) of `rows`."""


class Memory(NamedTuple):
    """Everything in memory: the fastest."""

    observations: Array  # (R, O)
    actions: Array  # (R, A)

    def observation(self, rows: Rows) -> Array:
        """Return the observations (B, O) of `rows`."""
        return self.observations.take(rows, axis=0)

    def action(self, rows: Rows) -> Array:
        """Return the actions (B, A) of `rows`."""
        return self.actions.take(rows, axis=0)


class Mapped(NamedTuple):
    """Columns left on disk, read where they are sampled: for data beyond memory."""

    starts: Rows  # (S + 1,) first row of each segment
    observed: tuple[tuple[Array, ...], ...]  # of S segments, arrays in spec order
    acted: tuple[Array, ...]  # of S segments

    def observation(self, rows: Rows) -> Array:
        """Return the observations (B, O) of `rows`."""
        return np.concatenate(
            [self._gather(rows, column) for column in zip(*self.observed, strict=True)],
            axis=1,
        )

    def action(self, rows: Rows) -> Array:
        """Return the actions (B, A) of `rows`."""
        return self._gather(rows, self.acted)

    def _gather(self, rows: Rows, columns: Sequence[Array]) -> Array:
        result = np.empty((len(rows), columns[0].shape[1]), np.float32)
        segment = np.searchsorted(self.starts, rows, side="right") - 1
        for i in np.unique(segment):
            mask = segment == i
            result[mask] = columns[i][rows[mask] - self.starts[i]]
        return result


class Index(NamedTuple):
    """Which rows of a store are transitions, and what they earned."""

    rows: Rows  # (N,) where each starts
    reward: Array  # (N,) as sampled
    discount: Array  # (N,)
    mc_return: Array  # (N,) discounted return to go, as sampled
    returns: npt.NDArray[np.float64]  # (E,) undiscounted, of rewards as sampled


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
        lazy: bool = False,
    ) -> Replay:
        """Return the transitions of the episodes numbered in `keep` (None: of all).

        Rewards become scale * reward + shift; `return_range` scales the spread of
        returns to 1000, as IQL does for locomotion. Without a labeller they are NaN,
        for learners that need none. `lazy` leaves observations and actions on disk.
        """
        kept = list(range(len(dataset))) if keep is None else list(keep)
        if not kept:
            raise ReplayError(f"expected episodes to learn from in {dataset.path}")
        logged = _logged(dataset, kept, labeller)
        rewarding = _rewarding(dataset, kept, logged, labeller)
        if reward_scale == "return_range":
            reward_scale = return_range_scale(rewarding)
        rewarding = rewarding._replace(scale=float(reward_scale), shift=reward_shift)
        store = _columns(dataset) if lazy else _memory(dataset)
        return cls(store, _index(dataset, kept, logged, rewarding, gamma), rewarding)

    def __len__(self) -> int:
        """Return the number of transitions."""
        return len(self._index.rows)

    def sample(self, rng: np.random.Generator, size: int) -> Batch:
        """Draw `size` transitions."""
        return self._batch(rng.integers(len(self._index.rows), size=size))

    def transitions(self) -> Batch:
        """Return all transitions, in order."""
        return self._batch(np.arange(len(self._index.rows)))

    @cached_property
    def statistics(self) -> Statistics:
        """What a learner may know: observations, and returns of rewards as sampled."""
        mean, std = _moments(self._store, self._index.rows)
        low, high = _span(self._index.returns)
        return Statistics(mean, std, low, high)

    def _batch(self, drawn: Rows) -> Batch:
        rows = self._index.rows.take(drawn)
        return Batch(
            self._store.observation(rows),
            self._store.action(rows),
            self._index.reward.take(drawn),
            self._index.discount.take(drawn),
            self._store.observation(rows + 1),
            self._index.mc_return.take(drawn),
        )


def return_range_scale(rewarding: Rewarding) -> float:
    """Return the factor that scales the spread of logged returns to 1000."""
    spread = rewarding.return_high - rewarding.return_low
    if not spread > 0:
        raise ReplayError(
            f"expected returns that differ to scale rewards by, got "
            f"{rewarding.return_low} to {rewarding.return_high}; use a fixed scale"
        )
    return RETURN_SPAN / spread


def _logged(dataset: Dataset, kept: list[int], labeller: str | None) -> list[Array]:
    """Return the rewards (T,) of the kept episodes; all that is sampled is finite."""
    items = [dataset.episodes[i] for i in kept]
    if labeller is None:
        return [np.full(item.length, np.nan, np.float32) for item in items]
    given = dataset.rewards(labeller)
    bare = [i for i in kept if not _rewarded(dataset.episodes[i], given[i])]
    if bare:
        known = ", ".join(dataset.labellers()) or "nobody"
        raise ReplayError(
            f"expected rewards by {labeller!r} for every step, found none for "
            f"{len(bare)} of {len(kept)} episodes (the first is {bare[0]}); there are "
            f"rewards by {known}; robostack data label writes them"
        )
    return [reward for i in kept if (reward := given[i]) is not None]


def _rewarded(item: Item, reward: Array | None) -> bool:
    return reward is not None and bool(np.isfinite(reward[item.transitions]).all())


def _rewarding(
    dataset: Dataset, kept: list[int], logged: list[Array], labeller: str | None
) -> Rewarding:
    items = [dataset.episodes[i] for i in kept]
    low, high = _span(_returns(items, logged))
    return Rewarding(labeller, 1.0, 0.0, low, high)


def _returns(items: list[Item], rewards: list[Array]) -> npt.NDArray[np.float64]:
    """Return those of complete episodes; where there is none, those of all."""
    pairs = list(zip(items, rewards, strict=True))
    seen = [pair for pair in pairs if complete(pair[0].labels)] or pairs
    return np.array([r[i.transitions].sum(dtype=np.float64) for i, r in seen])


def _span(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    return (float(values.min()), float(values.max())) if len(values) else (0.0, 0.0)


def _index(
    dataset: Dataset,
    kept: list[int],
    logged: list[Array],
    rewarding: Rewarding,
    gamma: float,
) -> Index:
    items = [dataset.episodes[i] for i in kept]
    firsts = _first_rows(dataset)
    rows, reward, discount, to_go = [], [], [], []
    for i, item, earned in zip(kept, items, logged, strict=True):
        mask = item.transitions
        factor = np.full(item.length, gamma, np.float32)
        factor[-1] = 0.0 if item.end is End.TERMINATED else gamma
        rows.append(firsts[i] + np.flatnonzero(mask))
        reward.append(earned[mask] * rewarding.scale + rewarding.shift)
        discount.append(factor[mask])
        to_go.append(returns_to_go(reward[-1], gamma, item.end))
    if not sum(map(len, rows)):
        raise ReplayError(f"expected at least one transition, {dataset.path} has none")
    changed = [r * rewarding.scale + rewarding.shift for r in logged]
    return Index(
        np.concatenate(rows),
        float32(np.concatenate(reward)),
        np.concatenate(discount),
        float32(np.concatenate(to_go)),
        _returns(items, changed),
    )


def returns_to_go(reward: Array, gamma: float, end: End) -> npt.NDArray[np.float64]:
    """Return the discounted sum of `reward` (T,) from each step on.

    An episode that was truncated is taken to go on for ever at its mean reward: a plain
    sum would promise that costs end where looking ended. Where every step costs the
    same, as in sparse tasks that were not solved, this is exact.
    """
    total = reward.astype(np.float64)
    if end is not End.TERMINATED and len(total) and gamma < 1:
        total[-1] += gamma * total.mean() / (1.0 - gamma)
    span, factor = 1, gamma
    while span < len(total):  # sums over 1, 2, 4, ... steps
        total[:-span] += factor * total[span:]
        span, factor = 2 * span, factor * factor
    return total


def _first_rows(dataset: Dataset) -> Rows:
    lengths = [0, *(item.length + 1 for item in dataset.episodes)]
    return np.cumsum(lengths, dtype=np.int64)


def _memory(dataset: Dataset) -> Memory:
    columns = _columns(dataset)
    return Memory(
        np.concatenate([np.concatenate(arrays, axis=1) for arrays in columns.observed]),
        np.concatenate(columns.acted),
    )


def _columns(dataset: Dataset) -> Mapped:
    """Return the columns of all segments as they lie on disk."""
    names = [f"observation.{name}" for name in dataset.spec.observation]
    counts = [0, *(segment.index.row_count for segment in dataset.segments)]
    return Mapped(
        np.cumsum(counts, dtype=np.int64),
        tuple(tuple(s.column(name) for name in names) for s in dataset.segments),
        tuple(s.column("action") for s in dataset.segments),
    )


def _moments(store: Store, rows: Rows) -> tuple[Array, Array]:
    """Return mean and standard deviation (O,) of the observations at `rows`."""
    blocks = np.array_split(rows, max(1, len(rows) // BLOCK))
    total = sum(store.observation(b).sum(axis=0, dtype=np.float64) for b in blocks)
    mean = total / len(rows)
    square = sum(
        np.square(store.observation(b) - mean).sum(axis=0, dtype=np.float64)
        for b in blocks
    )
    return float32(mean), float32(np.sqrt(square / len(rows)))
