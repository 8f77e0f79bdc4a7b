"""Drive a node with a policy: reading in, action out, once per control period.

The node keeps the time, by absolute deadlines: it sends a reading at every tick, and a
world in lockstep waits for us. Whoever computes for longer than a period answers the
newest reading there is, never an old one. A node that stays silent for longer than its
own command time-out has lost us or died, which ends the episode.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from robostack.clock import Clock, MonotonicClock
from robostack.link.client import Client, arrays
from robostack.messages import Ended, Reading, Welcome
from robostack.robot import Columns, Task
from robostack.spec import Array, float32

_CLOCK = MonotonicClock()
_SILENCE_S = 1.0  # at least this long before a silent node counts as dead


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
    period_s: Array  # between one reading and the next, by our clock
    inference_s: Array  # of the policy alone


Policy = Callable[[dict[str, Array]], Array]
Stopped = Callable[[], str]  # why to stop early, or ""


def run_episode(
    client: Client,
    welcome: Welcome,
    policy: Policy,
    job: Job,
    *,
    stopped: Stopped = lambda: "",
    clock: Clock = _CLOCK,
) -> Outcome:
    """Run `policy` until the task terminates, time is up, or `stopped` says why.

    Raises:
        LinkError: the node refused, left ACTIVE by itself, or fell silent.
    """
    reading = client.begin(job.seed, dict(job.labels))
    pace = _Pace(clock, welcome)
    referee = _Referee(job.task)
    referee.see(reading)
    reason, steps = "", 0
    try:
        while steps < job.max_steps and not referee.terminated:
            if reason := stopped():
                break
            pace.infers()
            action = policy(arrays(reading.arrays))
            pace.sends()
            client.send(client.command(action))
            reading = client.receive(pace.silence_s)
            pace.receives()
            steps += 1
            referee.see(reading, action)
    except KeyboardInterrupt:
        client.end(terminated=False, reason="stopped by the operator")
        raise
    reason = reason or ("terminated" if referee.terminated else "time is up")
    return Outcome(
        steps=steps,
        terminated=referee.terminated,
        returns=referee.returns if job.task else None,
        success=referee.success if job.task else None,
        ended=client.end(terminated=referee.terminated, reason=reason),
        late=pace.late,
        period_s=float32(pace.periods),
        inference_s=float32(pace.inferences),
    )


class _Pace:
    """Times the cycle, and counts the readings that came late."""

    def __init__(self, clock: Clock, welcome: Welcome) -> None:
        robot = welcome.robot
        self._clock = clock
        longest_s = 1.5 * robot.control_period_s
        self._longest_s = math.inf if welcome.lockstep else longest_s
        self._started = self._arrived = clock.now()
        self.silence_s = max(_SILENCE_S, 2 * robot.command_timeout_s)
        self.late = 0
        self.periods: list[float] = []
        self.inferences: list[float] = []

    def infers(self) -> None:
        """Note that the policy starts."""
        self._started = self._clock.now()

    def sends(self) -> None:
        """Note that the policy has answered."""
        self.inferences.append(self._clock.now() - self._started)

    def receives(self) -> None:
        """Note that the next reading came."""
        now = self._clock.now()
        self.periods.append(now - self._arrived)
        self._arrived = now
        self.late += self.periods[-1] > self._longest_s


class _Referee:
    """Applies a task to readings as they come, two at a time."""

    def __init__(self, task: Task | None) -> None:
        self._task = task
        self._last: dict[str, Array] = {}
        self.returns = 0.0
        self.terminated = self.success = False

    def see(self, reading: Reading, action: Array | None = None) -> None:
        """Judge the step that led to `reading`; the applied action counts."""
        if self._task is None:
            return
        truth = {f"truth.{k}": v for k, v in arrays(reading.truth).items()}
        new = arrays(reading.arrays) | truth
        if action is not None:
            columns: Columns = {
                name: np.stack([self._last[name], new[name]]) for name in new
            } | {"action": float32(reading.applied.unpack())[None]}
            self.returns += float(self._task.reward(columns)[0])
            self.terminated = bool(self._task.terminated(columns)[0])
            self.success = bool(self._task.success(columns)[-1])
        self._last = new
