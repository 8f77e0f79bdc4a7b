"""Drive a node with a policy: reading in, action out, once per control period.

The node keeps the time, by absolute deadlines: it sends a reading at every tick, and a
world in lockstep waits for us. Each reading is answered with the action there is for
it, or not at all: then the node holds by itself. A node that stays silent for longer
than its own command time-out has lost us or died, which ends the episode.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from robostack.clock import Clock, MonotonicClock
from robostack.link.client import Client, arrays
from robostack.link.errors import LeftError, LinkError
from robostack.messages import Ended, Notice, Reading, Welcome
from robostack.robot import Columns, Task
from robostack.runtime.author import Answer, Author, Counts, Plain
from robostack.runtime.timing import Stopwatch, Times
from robostack.spec import Array, float32
from robostack.teleop.teleoperator import TeleopError

_CLOCK = MonotonicClock()


class Job(NamedTuple):
    """One episode to be run."""

    max_steps: int
    task: Task | None = None  # judges the episode; the policy never hears of it
    seed: int | None = None  # for worlds
    labels: Mapping[str, str] = MappingProxyType({})  # recorded with the episode


class Outcome(NamedTuple):
    """What became of one episode."""

    steps: int
    terminated: bool
    returns: float | None  # undiscounted; None without a task
    success: bool | None  # at the end, by the task's referee; None without a task
    ended: Ended  # the node's own counts
    late: int  # readings that came more than half a period late
    counts: Counts  # what the policy could not do in time
    interventions: int  # steps in which a person moved the robot
    times: Times
    held: str = ""  # why the node ended the episode by itself

    @property
    def period_s(self) -> Array:
        """Between one reading and the next, by our clock."""
        return self.times.period_s

    @property
    def inference_s(self) -> Array:
        """Of the policy alone."""
        return self.times.inference_s


class HeldError(LeftError):
    """The node left ACTIVE by itself; `outcome` is what the episode was until then."""

    def __init__(self, notice: Notice, outcome: Outcome) -> None:
        super().__init__(notice)
        self.outcome = outcome


Policy = Callable[[dict[str, Array]], Array]
Stopped = Callable[[], str]  # why to stop early, or ""


def run_episode(
    client: Client,
    welcome: Welcome,
    author: Author | Policy,
    job: Job,
    *,
    stopped: Stopped = lambda: "",
    clock: Clock = _CLOCK,
) -> Outcome:
    """Run `author` until the task terminates, time is up, or `stopped` says why.

    Raises:
        HeldError: the node left ACTIVE by itself.
        LinkError: the node refused, or fell silent.
    """
    who = Plain(author) if callable(author) else author
    episode = _Episode(client, who, job)
    reading = client.begin(job.seed, dict(job.labels))
    watch = Stopwatch(clock, welcome)
    who.begin()
    try:
        reason = episode.run(reading, watch, stopped)
        ended = client.end(terminated=episode.referee.terminated, reason=reason)
    except LeftError as left:
        outcome = episode.outcome(watch)._replace(held=str(left))
        raise HeldError(left.notice, outcome) from left
    except (KeyboardInterrupt, TeleopError) as error:
        with contextlib.suppress(LinkError):  # it may have ended just before
            client.end(terminated=False, reason=str(error) or "stopped by the operator")
        raise
    return episode.outcome(watch)._replace(ended=ended)


def attempt(
    client: Client,
    welcome: Welcome,
    author: Author | Policy,
    job: Job,
    stopped: Stopped = lambda: "",
) -> Outcome:
    """Run an episode; one that ends in HOLD or SAFE is an outcome, not an error.

    Raises:
        HeldError: the node latched a FAULT or ESTOP, or is going down.
        LinkError: the node refused, or fell silent.
    """
    try:
        return run_episode(client, welcome, author, job, stopped=stopped)
    except HeldError as held:
        if held.notice.state not in ("hold", "safe"):
            raise
        return held.outcome


class _Episode:
    """An episode under way."""

    def __init__(self, client: Client, author: Author, job: Job) -> None:
        self._client = client
        self._author = author
        self._job = job
        self.referee = _Referee(job.task)
        self._steps = self._interventions = 0

    def run(self, reading: Reading, watch: Stopwatch, stopped: Stopped) -> str:
        """Answer readings until there is a reason not to; return it."""
        client, author, referee = self._client, self._author, self.referee
        referee.see(reading)
        while self._steps < self._job.max_steps and not referee.terminated:
            if reason := stopped():
                return reason
            answer = author.answer(reading)
            if answer is not None:
                watch.sends()
                self._send(reading, answer)
            reading = client.receive(watch.silence_s)
            watch.receives()
            for passed in client.passed:
                author.watch(passed)
            self._steps += 1
            referee.see(reading)
        return "terminated" if referee.terminated else "time is up"

    def _send(self, reading: Reading, answer: Answer) -> None:
        self._interventions += answer.intervention
        self._client.send(
            self._client.command(
                answer.action, reading=reading, intervention=answer.intervention
            )
        )

    def outcome(self, watch: Stopwatch) -> Outcome:
        """Return what became of it so far, without the node's counts."""
        judged = self._job.task is not None
        return Outcome(
            steps=self._steps,
            terminated=self.referee.terminated,
            returns=self.referee.returns if judged else None,
            success=self.referee.success if judged else None,
            ended=Ended(self._client.generation, self._steps, 0, 0, {}),
            late=watch.late,
            counts=self._author.counts,
            interventions=self._interventions,
            times=watch.times(self._author.inference_s),
        )


class _Referee:
    """Applies a task to readings as they come, two at a time."""

    def __init__(self, task: Task | None) -> None:
        self._task = task
        self._last: dict[str, Array] = {}
        self.returns = 0.0
        self.terminated = self.success = False

    def see(self, reading: Reading) -> None:
        """Judge the step that led to `reading`; the applied action counts."""
        if self._task is None:
            return
        truth = {f"truth.{k}": v for k, v in arrays(reading.truth).items()}
        new = arrays(reading.arrays) | truth
        if self._last:
            columns: Columns = {
                name: np.stack([self._last[name], new[name]]) for name in new
            } | {"action": float32(reading.applied.unpack())[None]}
            self.returns += float(self._task.reward(columns)[0])
            self.terminated = bool(self._task.terminated(columns)[0])
            self.success = bool(self._task.success(columns)[-1])
        self._last = new
