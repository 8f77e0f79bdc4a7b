"""Rolls any policy in any world, in this process, into episodes.

The limits are those of a node: the bounds and the largest step of the spec, and a first
action near where the robot is measured to be. What was asked for and what was applied
are both kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from robostack.clock import Ticker
from robostack.data.episode import End, Episode
from robostack.limiting import ActionLimiter
from robostack.limits import derive
from robostack.robot import Task, World
from robostack.spec import Array, float32

Policy = Callable[[dict[str, Array]], Array | None]  # None: I am done, end the episode
Columns = dict[str, list[Array]]


def collect(
    world: World,
    task: Task,
    policy: Callable[[int], Policy],
    *,
    seeds: range,
    labels: Mapping[str, str] | None = None,
    progress: Callable[[int], None] = lambda episodes: None,
) -> list[Episode]:
    """Return an episode for each of `seeds`; the world is connected and stays so.

    Args:
        world: where to act; it is seeded anew for each episode.
        task: says the reward, when an episode terminates, and when it is truncated.
        policy: makes the policy of one episode out of that episode's seed.
        seeds: one an episode: the same seed gives the same episode.
        labels: kept with every episode, beside its seed.
        progress: called with the number of episodes so far.
    """
    episodes = []
    for seed in seeds:
        world.seed(seed)
        marks = {**(labels or {}), "seed": str(seed)}
        episodes.append(rollout(world, task, policy(seed), labels=marks))
        progress(len(episodes))
    return episodes


def rollout(
    world: World, task: Task, policy: Policy, *, labels: Mapping[str, str]
) -> Episode:
    """Return one episode of at least one step; the world is stopped at its end."""
    limiter = ActionLimiter(derive(world.spec))
    log = _Log(world)
    end = End.TRUNCATED
    try:
        world.reset()
        reading = log.sense()
        limiter.start(_measured(world, reading))
        ticker = Ticker(world, world.spec.control_period_s)
        for _ in range(task.horizon):
            requested = policy(reading)
            if requested is None:
                break
            requested = world.spec.action.validate(requested)
            applied = world.apply(limiter(requested).action)
            limiter.settle(applied)
            ticker.wait()
            log.act(requested, applied)
            reading = log.sense()
            if task.terminated(log.columns(last=2))[0]:
                end = End.TERMINATED
                break
    finally:
        world.stop()
    return log.episode(task, end, dict(labels))


def _measured(world: World, reading: dict[str, Array]) -> Array:
    tracks = world.spec.tracks
    return reading[tracks] if tracks else float32(world.spec.home)


class _Log:
    def __init__(self, world: World) -> None:
        self._world = world
        self._readings: Columns = {}
        self._truths: Columns = {}
        self._requested: list[Array] = []
        self._applied: list[Array] = []
        self._time_s: list[float] = []

    def sense(self) -> dict[str, Array]:
        """Keep what is sensed and true now; return the reading."""
        reading = self._world.read()
        for name, array in reading.items():
            self._readings.setdefault(name, []).append(array)
        for name, array in self._world.truth().items():
            self._truths.setdefault(name, []).append(array)
        self._time_s.append(self._world.now())
        return reading

    def act(self, requested: Array, applied: Array) -> None:
        """Keep what was asked for and what was applied."""
        self._requested.append(requested)
        self._applied.append(applied)

    def columns(self, last: int = 0) -> dict[str, Array]:
        """Return the columns of a `Task`, all of them or the `last` rows."""
        truth = {f"truth.{name}": rows for name, rows in self._truths.items()}
        every = {**self._readings, **truth}
        columns = {name: np.stack(rows[-last:]) for name, rows in every.items()}
        columns["action"] = np.stack(
            self._applied[1 - last :] if last else self._applied
        )
        return columns

    def episode(self, task: Task, end: End, labels: dict[str, str]) -> Episode:
        """Return what was kept; raise ValueError if there was no step."""
        if not self._applied:
            raise ValueError("the policy ended the episode before its first action")
        time_s = np.array(self._time_s)
        return Episode(
            observation={k: np.stack(rows) for k, rows in self._readings.items()},
            action=np.stack(self._applied),
            requested=np.stack(self._requested),
            time_s=time_s - time_s[0],
            end=end,
            reward=float32(task.reward(self.columns())),
            truth={k: np.stack(rows) for k, rows in self._truths.items()},
            frames={},
            labels=labels,
        )
