"""Where inference runs: at once, or on a thread beside the one that does the I/O.

Both have a mailbox of one slot for what is to be inferred, in which the newest reading
wins. A policy that remembers is shown those it lost, in order, so that its history and
recurrent state are as they would be had it answered every one.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from types import TracebackType
from typing import NamedTuple, Protocol

from robostack.runtime.chunks import Chunk
from robostack.spec import Array

_BACKLOG = 512  # readings; a node holds long before
_END_S = 5.0
Readings = dict[str, Array]


class Brain(Protocol):
    """What is run: a session, or something like it."""

    remembers: bool

    def reset(self) -> None:
        """Forget everything: a new episode begins."""

    def infer(self, arrays: Readings) -> Array:
        """Return the actions (H, A) from a reading on."""

    def observe(self, arrays: Readings) -> None:
        """Remember a reading that is not answered."""


class Solver(Protocol):
    """Runs a brain."""

    busy: bool  # something that is wanted was not yet answered

    def begin(self) -> None:
        """Reset the brain, and drop whatever was under way."""

    def post(self, seq: int, arrays: Readings, *, wanted: bool) -> None:
        """Show the brain a reading; where it is wanted, infer from it."""

    def poll(self, timeout_s: float) -> Chunk | None:
        """Return the newest result that nobody took, waiting for it if need be.

        Raises what the brain raised.
        """


class Inline:
    """Infers as soon as it is asked, in the thread that asks: for lockstep."""

    busy = False

    def __init__(self, brain: Brain) -> None:
        self._brain = brain
        self._result: Chunk | None = None

    def begin(self) -> None:
        """Reset the brain."""
        self._brain.reset()
        self._result = None

    def post(self, seq: int, arrays: Readings, *, wanted: bool) -> None:
        """Infer now."""
        if wanted:
            self._result = _infer(self._brain, seq, arrays)
        else:
            self._brain.observe(arrays)

    def poll(self, timeout_s: float) -> Chunk | None:
        """Return the result, if there is one; `timeout_s` does not matter."""
        del timeout_s
        result, self._result = self._result, None
        return result


class _Shown(NamedTuple):
    seq: int
    arrays: Readings


class Worker:
    """Infers on a thread of its own, so that the I/O never waits for it.

    with Worker(session) as worker: ...
    """

    def __init__(self, brain: Brain) -> None:
        self._brain = brain
        self._changed = threading.Condition()
        self._shown: deque[_Shown] = deque(maxlen=_BACKLOG)
        self._wanted: int | None = None  # the newest reading to infer from
        self._result: Chunk | None = None
        self._error: BaseException | None = None
        self._episode = 0
        self._ending = False
        self.busy = False
        self._thread = threading.Thread(target=self._run, name="policy", daemon=True)

    def __enter__(self) -> Worker:
        """Start the thread."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the thread; an inference under way is waited for, but not for ever."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        self._thread.join(_END_S)

    def begin(self) -> None:
        """Have the brain reset before it sees the next reading."""
        with self._changed:
            self._episode += 1
            self._shown.clear()
            self._wanted = self._result = None
            self.busy = False

    def post(self, seq: int, arrays: Readings, *, wanted: bool) -> None:
        """Put a reading in the mailbox; the newest that is wanted wins."""
        with self._changed:
            if wanted:
                self._wanted, self.busy = seq, True
            if not self._brain.remembers:
                if not wanted:
                    return
                self._shown.clear()
            self._shown.append(_Shown(seq, arrays))
            self._changed.notify_all()

    def poll(self, timeout_s: float) -> Chunk | None:
        """Return the newest result that nobody took, within `timeout_s`."""
        with self._changed:
            self._changed.wait_for(self._answered, timeout_s)
            if self._error is not None:
                raise self._error
            result, self._result = self._result, None
            return result

    def _answered(self) -> bool:
        return self._result is not None or self._error is not None

    def _run(self) -> None:
        try:
            self._serve()
        except BaseException as error:  # raised again in `poll`, for whoever waits
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _serve(self) -> None:
        episode = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ending or self._shown)
                if self._ending:
                    return
                present, shown = self._episode, self._shown.popleft()
                wanted = self._wanted == shown.seq
            if episode != present:
                episode = present
                self._brain.reset()
            self._think(episode, shown, wanted=wanted)

    def _think(self, episode: int, shown: _Shown, *, wanted: bool) -> None:
        if not wanted:
            self._brain.observe(shown.arrays)
            return
        chunk = _infer(self._brain, *shown)
        with self._changed:
            if episode != self._episode:
                return  # it belongs to an episode that is over
            if self._wanted == shown.seq:
                self._wanted, self.busy = None, False
            self._result = chunk
            self._changed.notify_all()


def _infer(brain: Brain, seq: int, arrays: Readings) -> Chunk:
    start = time.perf_counter()
    actions = brain.infer(arrays)
    return Chunk(seq, actions, time.perf_counter() - start)
