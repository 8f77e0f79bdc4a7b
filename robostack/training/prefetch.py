"""Batches of data that is on disk, read by threads while a learner updates.

    generator   draws which transitions, in order, ahead of the learner     (here)
    threads     gather their rows, and wait for the disk; any order         (a pool)
    learner     is given them in the order they were drawn                  (here)

Reading takes no random numbers, so the batches are those that the generator would have
drawn one by one, whatever the threads do.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np

from robostack.data.replay import Replay
from robostack.learner import Batch

AHEAD = 8  # batches; a thread each, so that as many reads are under way at once


@contextmanager
def batches(
    replay: Replay, rng: np.random.Generator, size: int
) -> Iterator[Callable[[], Batch]]:
    """Give a function that returns the next batch that `rng` draws.

    `rng` is always where the batches that were handed out left it, which is what
    belongs into a checkpoint. What goes wrong in a thread is raised by the function.
    Data in memory is drawn at once, without threads.
    """
    if not replay.streams:
        yield lambda: replay.sample(rng, size)
        return
    pool = ThreadPoolExecutor(AHEAD, thread_name_prefix="prefetch")
    try:
        yield _Ahead(pool, replay, rng, size).next
    finally:
        pool.shutdown(cancel_futures=True)


class _Ahead:
    """A queue of batches, each with the state of the generator after it."""

    def __init__(
        self,
        pool: ThreadPoolExecutor,
        replay: Replay,
        rng: np.random.Generator,
        size: int,
    ) -> None:
        self._pool = pool
        self._replay = replay
        self._rng, self._ahead = rng, copy.deepcopy(rng)
        self._size = size
        self._queue: deque[tuple[Future[Batch], dict[str, Any]]] = deque()
        for _ in range(AHEAD):
            self._order()

    def next(self) -> Batch:
        """Return the next batch, and have one more gathered."""
        future, state = self._queue.popleft()
        batch = future.result()
        self._rng.bit_generator.state = state
        self._order()
        return batch

    def _order(self) -> None:
        drawn = self._replay.draw(self._ahead, self._size)
        future = self._pool.submit(self._replay.gather, drawn)
        self._queue.append((future, dict(self._ahead.bit_generator.state)))
