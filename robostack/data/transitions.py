"""Which rows of a dataset are transitions, as runs of rows that follow one another.

    rows of episodes, end to end      o_0 o_1 o_2 o_3 | o_0 o_1 o_2 | ...
    a transition is a row             (o_t, a_t, r_t, discount_t, o_t+1)

The last row of an episode starts no transition, nor does a row without an action, so no
next observation is ever of another episode. An episode without gaps is one run, so
that billions of transitions are few numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from robostack.data.dataset import Dataset
from robostack.data.episode import End, Mask
from robostack.data.store import Rows
from robostack.spec import Array

_BLOCK = 65536  # transitions written down at a time


class Places(Protocol):
    """Where transitions are, by number."""

    def place(self, numbers: Rows) -> tuple[Rows, Mask]:
        """Return the rows (B,) of transitions, and which of them terminated."""


class Table(NamedTuple):
    """Every single one written down: quick to look up, nine bytes each."""

    row: Rows  # (N,)
    stopped: Mask  # (N,)

    def place(self, numbers: Rows) -> tuple[Rows, Mask]:
        """Return the rows (B,) of transitions, and which of them terminated."""
        return self.row.take(numbers), self.stopped.take(numbers)


class Runs(NamedTuple):
    """K runs of transitions, in order, of E episodes."""

    ends: Rows  # (K,) how many transitions there are up to the end of each
    shift: Rows  # (K,) row of a transition less its number
    stops: Mask  # (K,) whether its last transition terminated the episode
    bounds: Rows  # (E + 1,) number of the first transition of each episode

    @property
    def total(self) -> int:
        """Number of transitions."""
        return int(self.bounds[-1])

    def rows(self, numbers: Rows) -> Rows:
        """Return the rows (B,) in which transitions `numbers` start."""
        return numbers + self.shift.take(self._run(numbers))

    def place(self, numbers: Rows) -> tuple[Rows, Mask]:
        """Return the rows (B,) of transitions, and which of them terminated."""
        run = self._run(numbers)
        last: Mask = numbers + 1 == self.ends.take(run)
        return numbers + self.shift.take(run), self.stops.take(run) & last

    def table(self) -> Table:
        """Return the same, written down."""
        made = Table(np.empty(self.total, np.int64), np.empty(self.total, np.bool_))
        for start in range(0, self.total, _BLOCK):
            part = slice(start, start + _BLOCK)
            numbers = np.arange(start, min(start + _BLOCK, self.total))
            made.row[part], made.stopped[part] = self.place(numbers)
        return made

    def _run(self, numbers: Rows) -> npt.NDArray[np.intp]:
        return np.searchsorted(self.ends, numbers, side="right")


def find_runs(dataset: Dataset, kept: Sequence[int]) -> Runs:
    """Return the transitions of the episodes numbered in `kept`."""
    lengths = [0, *(item.length + 1 for item in dataset.episodes)]
    firsts = np.cumsum(lengths, dtype=np.int64).tolist()
    ends, shift, stops, bounds = [], [], [], [0]
    count = 0
    for i in kept:
        item = dataset.episodes[i]
        for start, stop in _stretches(item.transitions):
            shift.append(firsts[i] + start - count)
            count += stop - start
            ends.append(count)
            stops.append(item.end is End.TERMINATED and stop == item.length)
        bounds.append(count)
    return Runs(
        np.array(ends, np.int64),
        np.array(shift, np.int64),
        np.array(stops, np.bool_),
        np.array(bounds, np.int64),
    )


def _stretches(mask: Mask) -> list[tuple[int, int]]:
    """Return where each stretch of True in `mask` (T,) starts and stops."""
    if mask.all():
        return [(0, len(mask))]
    edges = np.flatnonzero(np.diff(mask, prepend=False, append=False)).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))


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
