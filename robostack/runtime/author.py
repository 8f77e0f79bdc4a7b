"""Who answers readings: a plain function, or a policy with chunks and deadlines.

An author that has nothing for a reading says so, and nothing is sent: the node holds by
its own watchdog. Nothing is ever repeated to bridge a gap.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

import msgspec

from robostack.link.client import arrays
from robostack.messages import Reading
from robostack.runtime.chunks import Chunk, Plan
from robostack.runtime.permute import Permutation
from robostack.runtime.solver import Solver
from robostack.spec import Array, float32

_FIRST_S = 10.0  # for the first chunk of an episode, while the robot is held


class Counts(msgspec.Struct):
    """What an author could not do in one episode."""

    late: int = 0  # inferences that came after their deadline, and were not used
    starved: int = 0  # readings for which there was no action
    waited: int = 0  # readings answered by staying home, before the first chunk


class Answer(NamedTuple):
    """What to send in answer to a reading."""

    action: Array  # (A,) in the node's order
    intervention: bool = False  # a person, not the policy, chose it
    holding: bool = False  # it is where the robot is: there is nothing better yet


class Author(Protocol):
    """Gives the actions of one episode after another."""

    @property
    def counts(self) -> Counts:
        """What it could not do in this episode."""

    @property
    def inference_s(self) -> list[float]:
        """How long each inference of this episode took."""

    def begin(self) -> None:
        """Forget what was: a new episode begins."""

    def answer(self, reading: Reading) -> Answer | None:
        """Return what to send in answer to `reading`; None: nothing."""

    def watch(self, reading: Reading) -> None:
        """See a reading that is not to be answered, or by somebody else."""

    def resume(self, seq: int) -> None:
        """Answer again, from reading `seq` on, after somebody else did."""


class Plain:
    """A function from a reading to an action, called where the I/O is done."""

    def __init__(self, function: Callable[[dict[str, Array]], Array]) -> None:
        self._function = function
        self.counts, self.inference_s = Counts(), list[float]()

    def begin(self) -> None:
        """Count anew; whatever the function remembers is its owner's."""
        self.counts, self.inference_s = Counts(), list[float]()

    def answer(self, reading: Reading) -> Answer:
        """Call the function."""
        start = time.perf_counter()
        action = self._function(arrays(reading.arrays))
        self.inference_s.append(time.perf_counter() - start)
        return Answer(action)

    def watch(self, reading: Reading) -> None:
        """Do nothing."""

    def resume(self, seq: int) -> None:
        """Do nothing."""


class Pace(msgspec.Struct, frozen=True):
    """How a policy's inferences and its actions go together."""

    execute: int  # actions of a chunk that are used at most
    lead: int  # how many are left when the next inference is asked for
    deadline_s: float  # from a reading to an action that comes of it
    patience_s: float  # how long the answer to a reading may be waited for


def pace(
    chunk: int,
    period_s: float,
    *,
    lockstep: bool,
    execute: int = 0,
    deadline_s: float = 0.0,
) -> Pace:
    """Return how to run a policy that gives `chunk` actions per inference.

    In lockstep nothing happens while it thinks: the next chunk is asked for when the
    last is used up. In real time it is asked for when half of it is left.

    Args:
        chunk: H of the bundle.
        period_s: control period.
        lockstep: the node advances when a command arrives.
        execute: actions of a chunk to use at most; 0: all.
        deadline_s: of one inference; 0: as long as what it gives lasts.
    """
    used = min(execute, chunk) if execute else chunk
    if lockstep:
        return Pace(used, 0, float("inf"), 0.0)
    deadline_s = deadline_s or used * period_s
    patience_s = deadline_s if chunk == 1 else min(period_s, deadline_s)
    return Pace(used, used // 2, deadline_s, patience_s)


class Planner:
    """A policy behind a solver: its chunks, merged as they come.

    Until the first chunk of an episode is there the robot is held where it is; what was
    not consumed in that time is not skipped.
    """

    def __init__(
        self, solver: Solver, pace: Pace, permutation: Permutation | None = None
    ) -> None:
        self._solver = solver
        self._pace = pace
        self._permutation = permutation
        self._plan = Plan(pace.execute)
        self._posted: dict[int, float] = {}  # when each wanted reading came [s]
        self.counts, self.inference_s = Counts(), list[float]()

    def begin(self) -> None:
        """Reset the policy."""
        self.counts, self.inference_s = Counts(), list[float]()
        self._solver.begin()
        self._posted.clear()
        self.resume(0)

    def resume(self, seq: int) -> None:
        """Drop the chunk, and use none for a reading before `seq`."""
        self._plan.drop()
        self._since = seq
        self._started_s = time.monotonic()
        self._moving = self._pace.lead == 0

    def answer(self, reading: Reading) -> Answer | None:
        """Ask for what will be needed, and return the action there is."""
        self._merge(self._solver.poll(0.0), reading.seq)
        left = self._plan.left(reading.seq)
        wanted = left == 0 or (left <= self._pace.lead and not self._solver.busy)
        self._post(reading, wanted=wanted)
        if left == 0:
            self._await(reading.seq)
        action = self._plan.at(reading.seq)
        if action is not None:
            return Answer(action)
        if not self._moving and time.monotonic() - self._started_s < _FIRST_S:
            self.counts.waited += 1
            return Answer(float32(reading.applied.unpack()), holding=True)
        self.counts.starved += 1
        return None

    def watch(self, reading: Reading) -> None:
        """Let the policy see a reading, without an answer."""
        self._post(reading, wanted=False)

    def _post(self, reading: Reading, *, wanted: bool) -> None:
        if wanted:
            self._posted[reading.seq] = time.monotonic()
        found = arrays(reading.arrays)
        if self._permutation is not None:
            found = self._permutation.reading(found)
        self._solver.post(reading.seq, found, wanted=wanted)

    def _await(self, seq: int) -> None:
        """Wait for an action for reading `seq`, as long as patience lasts."""
        end_s = time.monotonic() + self._pace.patience_s
        while self._plan.left(seq) == 0:
            left_s = max(0.0, end_s - time.monotonic())
            chunk = self._solver.poll(left_s)
            if chunk is None:
                return
            self._merge(chunk, seq)

    def _merge(self, chunk: Chunk | None, seq: int) -> None:
        if chunk is None:
            return
        self.inference_s.append(chunk.inference_s)
        posted_s = self._posted.pop(chunk.seq, -float("inf"))
        self._posted = {k: v for k, v in self._posted.items() if k > chunk.seq}
        if chunk.seq < self._since:
            return
        if self._permutation is not None:
            chunk = chunk._replace(actions=self._permutation.action(chunk.actions))
        if not self._moving:
            self._moving = True
            self._plan.merge(chunk._replace(seq=seq), seq)
            return
        in_time = time.monotonic() - posted_s <= self._pace.deadline_s
        if not (in_time and self._plan.merge(chunk, seq)):
            self.counts.late += 1
