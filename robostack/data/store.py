"""Where the columns that learners sample are: in memory, or mapped from disk.

Rows are those of a dataset's episodes, end to end. Both give the same numbers for the
same rows, to the bit; what is mapped costs no memory of its own, since the system may
drop at any time what it has read of a file.
"""

from __future__ import annotations

import itertools
import mmap
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from robostack.data.dataset import Dataset
from robostack.spec import Array

Rows = npt.NDArray[np.int64]

FLOAT = 4  # of a number of a column [byte]


class Read(NamedTuple):
    """What was read of B transitions."""

    observation: Array  # (B, O), in spec order
    action: Array  # (B, A)
    reward: Array  # (B,) as logged; NaN where unknown
    next_observation: Array  # (B, O), of the row after


class Store(Protocol):
    """What is sampled, by row."""

    def read(self, rows: Rows) -> Read:
        """Return the transitions that start in `rows` (B,)."""

    def observation(self, rows: Rows) -> Array:
        """Return the observations (B, O) of `rows`."""


class Memory(NamedTuple):
    """Everything in memory: the fastest."""

    observations: Array  # (R, O)
    actions: Array  # (R, A)
    rewards: Array  # (R,)

    def read(self, rows: Rows) -> Read:
        """Return the transitions that start in `rows` (B,)."""
        return Read(
            self.observations.take(rows, axis=0),
            self.actions.take(rows, axis=0),
            self.rewards.take(rows),
            self.observations.take(rows + 1, axis=0),
        )

    def observation(self, rows: Rows) -> Array:
        """Return the observations (B, O) of `rows`."""
        return self.observations.take(rows, axis=0)


class Part(NamedTuple):
    """Those of B rows that lie in one segment."""

    segment: int
    here: slice | Rows  # where they are among the B
    rows: Rows  # of the segment


class Mapped(NamedTuple):
    """Columns left on disk, read where they are sampled: for data beyond memory."""

    starts: Rows  # (S + 1,) first row of each segment
    observed: tuple[tuple[Array, ...], ...]  # of S segments, arrays in spec order
    acted: tuple[Array, ...]  # of S segments
    earned: tuple[Array | None, ...]  # of S segments

    def read(self, rows: Rows) -> Read:
        """Return the transitions that start in `rows` (B,)."""
        parts = self._parts(rows)
        action = np.empty((len(rows), self.acted[0].shape[1]), np.float32)
        for segment, here, local in parts:
            action[here] = self.acted[segment].take(local, axis=0)
        following = [part._replace(rows=part.rows + 1) for part in parts]
        return Read(
            self._observation(parts, len(rows)),
            action,
            self._reward(parts, len(rows)),
            self._observation(following, len(rows)),
        )

    def observation(self, rows: Rows) -> Array:
        """Return the observations (B, O) of `rows`."""
        return self._observation(self._parts(rows), len(rows))

    def reward(self, rows: Rows) -> Array:
        """Return the rewards (B,) of `rows`."""
        return self._reward(self._parts(rows), len(rows))

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

    def _observation(self, parts: list[Part], count: int) -> Array:
        widths = [column.shape[1] for column in self.observed[0]]
        edges = list(itertools.pairwise(np.cumsum([0, *widths]).tolist()))
        result = np.empty((count, sum(widths)), np.float32)
        for segment, here, rows in parts:
            columns = self.observed[segment]
            for column, (left, right) in zip(columns, edges, strict=True):
                result[here, left:right] = column.take(rows, axis=0)
        return result

    def _reward(self, parts: list[Part], count: int) -> Array:
        result = np.full(count, np.nan, np.float32)
        for segment, here, rows in parts:
            column = self.earned[segment]
            if column is not None:
                result[here] = column.take(rows)
        return result

    def _parts(self, rows: Rows) -> list[Part]:
        if len(self.starts) == 2:
            return [Part(0, slice(None), rows)]
        segment = np.searchsorted(self.starts, rows, side="right") - 1
        order = np.argsort(segment, kind="stable")
        numbers = segment.take(order)
        edges = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(rows)]
        shift = rows - self.starts.take(segment)
        return [
            Part(int(numbers[a]), order[a:b], shift.take(order[a:b]))
            for a, b in itertools.pairwise(edges)
            if b > a
        ]


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
