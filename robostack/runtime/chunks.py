"""Which action of which chunk answers a reading: by what was really consumed.

    reading        10   11   12   13   14   15   16   17
    chunk of 10    a0   a1   a2   a3   a4
    chunk of 13         (computing)     .    b2   b3   b4     came before reading 15

A chunk knows the number of the reading it answers, so the action for a later reading is
the one as many control periods on. How long the inference took is never estimated.
"""

from __future__ import annotations

from typing import NamedTuple

from robostack.spec import Array


class Chunk(NamedTuple):
    """Actions for a reading and those after it."""

    seq: int  # of the reading it answers
    actions: Array  # (H, A)
    inference_s: float  # of the policy alone


class Plan:
    """The newest chunk, of which at most `execute` actions are used."""

    def __init__(self, execute: int) -> None:
        self._execute = execute
        self._chunk: Chunk | None = None

    def drop(self) -> None:
        """Forget the chunk."""
        self._chunk = None

    def merge(self, chunk: Chunk, seq: int) -> bool:
        """Put `chunk` in place of the present one, from reading `seq` on.

        Returns:
            Whether it has an action for `seq`, and is newer than the present one.
        """
        newer = self._chunk is None or chunk.seq > self._chunk.seq
        if not (newer and 0 <= seq - chunk.seq < self._length(chunk)):
            return False
        self._chunk = chunk
        return True

    def at(self, seq: int) -> Array | None:
        """Return the action (A,) that answers reading `seq`, or None."""
        if self._chunk is None or self.left(seq) == 0:
            return None
        action: Array = self._chunk.actions[seq - self._chunk.seq]
        return action

    def left(self, seq: int) -> int:
        """Return how many actions there are for reading `seq` and those after it."""
        if self._chunk is None or seq < self._chunk.seq:
            return 0
        return max(0, self._length(self._chunk) - (seq - self._chunk.seq))

    def _length(self, chunk: Chunk) -> int:
        return min(self._execute, len(chunk.actions))
