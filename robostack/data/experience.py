"""What a robot lives through while it learns: a ring in memory over a file that grows.

    experience.f32   rows of little-endian float32, one per step of the robot, in order:
                     observation (O), action (A), next observation (O), reward, end

The action is the one that was applied; where a run learns on-policy, the one that was
asked for. `end` is 0 where the episode goes on, 1 where it terminated and 2 where it
was truncated, which is not the same: the discount of the former is 0, that of the
latter is not. The reward is the task's own; learners are given scale * reward + shift.

A checkpoint holds how many rows belong to it, and their checksum. What comes after them
is cut off on resuming, as in metrics.jsonl. Nothing that was lived through is deleted:
the ring forgets, the file does not.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from robostack.data.episode import End
from robostack.data.transitions import returns_to_go
from robostack.learner import Batch
from robostack.spec import Array, RobotSpec, float32

Rows = npt.NDArray[np.int64]

FILE = "experience.f32"
_CODES = {None: 0.0, End.TERMINATED: 1.0, End.TRUNCATED: 2.0}
_ENDS = {code: end for end, code in _CODES.items()}
_EXTRA = 3  # columns in memory alone: reward as learned, discount, return to go


class ExperienceError(OSError):
    """A file of experience that cannot be read or written."""

    def __str__(self) -> str:
        """Return the sentence."""
        return str(self.args[0])


class Saved(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a checkpoint holds of the file."""

    rows: int = 0
    crc: int = 0  # CRC-32 of them


class Learned(NamedTuple):
    """How rewards and ends are turned into what is learned from."""

    gamma: float
    scale: float = 1.0
    shift: float = 0.0


class Transition(NamedTuple):
    """One step of the robot."""

    observation: Array  # (O,)
    action: Array  # (A,), as applied, or as asked for
    next_observation: Array  # (O,)
    reward: float  # the task's own
    end: End | None  # None: the episode goes on


class Experience:
    """Transitions in the order they happened; the newest `capacity` can be drawn."""

    def __init__(
        self,
        folder: Path,
        spec: RobotSpec,
        learned: Learned,
        capacity: int,
        saved: Saved | None = None,
    ) -> None:
        """Go on after `saved` (None: begin) with the file in `folder`."""
        o, a = spec.observation_size, spec.action.size
        self._splits = np.cumsum([o, a, o, 1, 1, 1, 1])
        self._width = 2 * o + a + 2  # columns of the file
        self._learned, self._capacity = learned, capacity
        self._ring = np.zeros((capacity, self._width + _EXTRA), np.float32)
        self.rows = self.finished = 0  # steps lived through; those of finished episodes
        self.returns: list[float] = []  # of finished episodes, of the task's reward
        self._path, self._crc = folder / FILE, 0
        try:
            self._file = self._path.open("ab")
        except OSError as error:
            raise ExperienceError(
                f"cannot write {self._path}: {error.strerror}"
            ) from error
        try:
            self._restore(saved or Saved())
        except OSError:
            self._file.close()
            raise

    def add(self, transition: Transition) -> None:
        """Append one step."""
        end, place = transition.end, self.rows % self._capacity
        row = self._ring[place]
        row[: self._width] = np.concatenate(
            [*transition[:3], [transition.reward, _CODES[end]]]
        )
        self._interpret(self._ring[place : place + 1])
        content = row[: self._width].tobytes()
        self._file.write(content)
        self._crc = zlib.crc32(content, self._crc)
        self.rows += 1
        if end is not None:
            places = self._places(self.finished, self.rows)
            self._ring[places, -1] = self._conclude(self._ring[places])
            self.finished = self.rows

    def sample(self, rng: np.random.Generator, size: int, known: int) -> Batch:
        """Draw `size` of the first `known` transitions that are still in the ring.

        The return to go is NaN where the episode is not finished.
        """
        return self._batch(rng.integers(self.oldest, known, size=size))

    def newest(self, size: int) -> Batch:
        """Return the newest `size` transitions, in the order in which they happened."""
        return self._batch(np.arange(self.rows - size, self.rows))

    def _batch(self, numbers: Rows) -> Batch:
        picked = self._ring.take(numbers % self._capacity, axis=0)
        observation, action, after, _, _, reward, discount, mc_return = np.split(
            picked, self._splits, axis=1
        )
        return Batch(
            observation,
            action,
            reward[:, 0],
            discount[:, 0],
            after,
            mc_return[:, 0],
        )

    @property
    def oldest(self) -> int:
        """Number of the oldest transition that is still in the ring."""
        return max(0, self.rows - self._capacity)

    def unfinished(self) -> list[Transition]:
        """Return the steps of the episode that goes on."""
        rows = self._ring[self._places(self.finished, self.rows)]
        pieces = zip(*np.split(rows, self._splits, axis=1)[:5], strict=True)
        return [
            Transition(o, a, after, float(r[0]), _ENDS[float(e[0])])
            for o, a, after, r, e in pieces
        ]

    def sync(self) -> Saved:
        """Bring all rows to disk; return what a checkpoint holds of them."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise ExperienceError(
                f"cannot write {self._path}: {error.strerror}; make room and resume"
            ) from error
        return Saved(self.rows, self._crc)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _restore(self, saved: Saved) -> None:
        size = saved.rows * self._width * 4
        found = self._path.stat().st_size
        if found < size:
            raise ExperienceError(
                f"expected {saved.rows} steps in {self._path}, as its checkpoint has "
                f"it, found {found // (self._width * 4)}"
            )
        os.truncate(self._path, size)
        if not saved.rows:
            return
        rows = np.memmap(self._path, "<f4", "r", shape=(saved.rows, self._width))
        self._crc = zlib.crc32(rows.data)
        if self._crc != saved.crc:
            raise ExperienceError(f"{self._path} is damaged: its checksum differs")
        self.rows = saved.rows
        recent = np.zeros((self.rows - self.oldest, self._ring.shape[1]), np.float32)
        recent[:, : self._width] = rows[self.oldest :]
        self._interpret(recent)
        self._ring[self._places(self.oldest, self.rows)] = recent
        for last in np.flatnonzero(rows[:, -1]):
            episode = rows[self.finished : last + 1]
            to_go = self._conclude(episode)
            kept = range(max(self.finished, self.oldest), last + 1)
            if kept:
                self._ring[self._places(kept.start, kept.stop), -1] = to_go[
                    -len(kept) :
                ]
            self.finished = int(last) + 1

    def _interpret(self, rows: Array) -> None:
        """Fill in what is learned from `rows` (N, W + 3), of which we know the first W.

        The return to go is not known before the episode ends.
        """
        reward, code = rows[:, self._width - 2], rows[:, self._width - 1]
        gamma, scale, shift = self._learned
        rows[:, -3] = reward * scale + shift
        rows[:, -2] = np.where(code == _CODES[End.TERMINATED], 0.0, gamma)
        rows[:, -1] = np.nan

    def _conclude(self, episode: Array) -> Array:
        """Return the returns to go (T,) of a whole episode (T, W or more)."""
        reward = float32(episode[:, self._width - 2])
        end = _ENDS[float(episode[-1, self._width - 1])]
        assert end is not None
        self.returns.append(float(reward.sum(dtype=np.float64)))
        gamma, scale, shift = self._learned
        return float32(returns_to_go(float32(reward * scale + shift), gamma, end))

    def _places(self, start: int, stop: int) -> Rows:
        return np.arange(start, stop) % self._capacity
