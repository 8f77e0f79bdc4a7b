"""Where the columns that learners sample are: in memory, or mapped from disk.

Rows are those of a dataset's episodes, end to end. Both give the same numbers for the
same rows, to the bit; what is mapped costs no memory of its own, since the system may
drop at any time what it has read of a file.
"""

from __future__ import annotations

import itertools
import mmap
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from robostack.data.dataset import Dataset
from robostack.spec import Array

Rows = npt.NDArray[np.int64]

FLOAT = 4  # of a number of a column [byte]


class Store(Protocol):
    """What is sampled, by row."""

    def observation(self, rows: Rows) -> Array:
        """Return the observations (B, O) of `rows`, in spec order."""

    def action(self, rows: Rows) -> Array:
        """Return the actions (B, A) of `rows`."""

    def reward(self, rows: Rows) -> Array:
        """Return the rewards (B,) of `rows` as they were logged; NaN where unknown."""


class Memory(NamedTuple):
    """Everything in memory: the fastest."""

    observations: Array  # (R, O)
    actions: Array  # (R, A)
    rewards: Array  # (R,)

    def observation(self, rows: Rows) -> Array:
        """Return the observations (B, O) of `rows`."""
        return self.observations.take(rows, axis=0)

    def action(self, rows: Rows) -> Array:
        """Return the actions (B, A) of `rows`."""
        return self.actions.take(rows, axis=0)

    def reward(self, rows: Rows) -> Array:
        """Return the rewards (B,) of `rows`."""
        return self.rewards.take(rows)


class Mapped(NamedTuple):
    """Columns left on disk, read where they are sampled: for data beyond memory."""

    starts: Rows  # (S + 1,) first row of each segment
    observed: tuple[tuple[Array, ...], ...]  # of S segments, arrays in spec order
    acted: tuple[Array, ...]  # of S segments
    earned: tuple[Array | None, ...]  # of S segments

    def observation(self, rows: Rows) -> Array:
        """Return the observations (B, O) of `rows`."""
        widths = [column.shape[1] for column in self.observed[0]]
        edges = list(itertools.pairwise(np.cumsum([0, *widths]).tolist()))
        result = np.empty((len(rows), sum(widths)), np.float32)
        for number, here, local in self._parts(rows):
            columns = self.observed[number]
            for column, (left, right) in zip(columns, edges, strict=True):
                result[here, left:right] = column.take(local, axis=0)
        return result

    def action(self, rows: Rows) -> Array:
        """Return the actions (B, A) of `rows`."""
        result = np.empty((len(rows), self.acted[0].shape[1]), np.float32)
        for number, here, local in self._parts(rows):
            result[here] = self.acted[number].take(local, axis=0)
        return result

    def reward(self, rows: Rows) -> Array:
        """Return the rewards (B,) of `rows`."""
        result = np.full(len(rows), np.nan, np.float32)
        for number, here, local in self._parts(rows):
            column = self.earned[number]
            if column is not None:
                result[here] = column.take(local)
        return result

    def expect_random_reads(self) -> None:
        """Have the system read the pages that are asked for, and no others.

        It reads ahead in a file otherwise, megabytes around every row of a batch.
        """
        for mapping in self.mappings():
            if hasattr(mmap, "MADV_RANDOM"):
                mapping.madvise(mmap.MADV_RANDOM)

    def mappings(self) -> list[mmap.mmap]:
        """Return what maps the files."""
        every = (*itertools.chain(*self.observed), *self.acted, *self.earned)
        return [found for column in every if (found := _mapping(column)) is not None]

    @property
    def size(self) -> int:
        """What all of it takes in memory [byte]."""
        columns = (*self.observed[0], self.acted[0])
        width: int = sum(column.shape[1] for column in columns) + 1
        return int(self.starts[-1]) * width * FLOAT

    def load(self) -> Memory:
        """Return all of it, copied into memory a segment at a time."""
        count, width = int(self.starts[-1]), self.acted[0].shape[1]
        observed = sum(column.shape[1] for column in self.observed[0])
        memory = Memory(
            np.empty((count, observed), np.float32),
            np.empty((count, width), np.float32),
            np.full(count, np.nan, np.float32),
        )
        for number, (start, stop) in enumerate(itertools.pairwise(self.starts)):
            rows = slice(start, stop)
            np.concatenate(self.observed[number], axis=1, out=memory.observations[rows])
            memory.actions[rows] = self.acted[number]
            earned = self.earned[number]
            if earned is not None:
                memory.rewards[rows] = earned
        return memory

    def _parts(self, rows: Rows) -> Iterator[tuple[int, slice | Rows, Rows]]:
        """Give segments, where their part of the result goes, and their own rows."""
        if len(self.starts) == 2:
            yield 0, slice(None), rows
            return
        segment = np.searchsorted(self.starts, rows, side="right") - 1
        for number in np.flatnonzero(np.bincount(segment)).tolist():
            here = np.flatnonzero(segment == number)
            yield number, here, rows[here] - self.starts[number]


def _mapping(column: object) -> mmap.mmap | None:
    """Return what maps the file that `column` is a view of; None if nothing does."""
    while isinstance(column, np.ndarray):
        column = column.base
    return column if isinstance(column, mmap.mmap) else None


def map_columns(dataset: Dataset, earned: Sequence[Array | None]) -> Mapped:
    """Return the columns of all segments as they lie on disk, and rewards beside."""
    names = [f"observation.{name}" for name in dataset.spec.observation]
    counts = [0, *(segment.index.row_count for segment in dataset.segments)]
    return Mapped(
        np.cumsum(counts, dtype=np.int64),
        tuple(tuple(s.column(name) for name in names) for s in dataset.segments),
        tuple(s.column("action") for s in dataset.segments),
        tuple(earned),
    )
