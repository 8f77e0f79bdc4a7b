"""One episode of T steps, in memory: what was sensed, done, earned, and how it ended.

    row            0      1      2    ...    T-1     T
    observation    o_0    o_1    o_2         o_T-1   o_T      T+1 rows
    action         a_0    a_1    a_2         a_T-1            T rows
    reward         r_0    r_1    r_2         r_T-1            for arriving in the next o

An action row of NaN means that what was done then, or what came of it, is not known:
there a recording has a gap, and no transition starts. Rewards there are NaN too.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from robostack.spec import Array, RobotSpec

Times = npt.NDArray[np.float64]
Steps = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_KINDS = {"time_s": np.float64, "intervention": np.bool_, "clamped": np.bool_}
INCOMPLETE = "incomplete"  # label of an episode whose end was not seen, and why


class EpisodeError(ValueError):
    """An episode that contradicts itself or its spec."""


class End(enum.Enum):
    """How an episode ended; only the first kind makes the last value zero."""

    TERMINATED = "terminated"  # the task's process ended
    TRUNCATED = "truncated"  # we stopped looking: time, operator, watchdog


class Frames(NamedTuple):
    """What one camera saw in one episode."""

    step: Steps  # (F,) the row of the observation that each frame belongs to
    jpeg: tuple[bytes, ...]  # (F,)


class Conduct(NamedTuple):
    """How the actions of an episode came to be; False and NaN where it is unknown."""

    intervention: Mask  # (T,) a person, not the policy, chose it
    clamped: Mask  # (T, A) the node's limiter changed it
    age_s: Array  # (T,) of the command when it was applied


class Episode(NamedTuple):
    """T steps; T is the length."""

    observation: dict[str, Array]  # (T+1, n) each, the names of spec.observation
    action: Array  # (T, A) applied
    requested: Array  # (T, A) as asked for; NaN rows where nothing was
    time_s: Times  # (T+1,) since the episode began
    end: End
    reward: Array | None  # (T,) as logged by whoever collected it; None if unknown
    truth: dict[str, Array]  # (T+1, n) each, for referees; may be empty
    frames: dict[str, Frames]  # by camera; may be empty
    labels: dict[str, str]  # task, policy, operator, seed, source, ...
    conduct: Conduct | None = None  # None: whoever collected it did not say

    @property
    def length(self) -> int:
        """Number of steps T."""
        return len(self.action)


def columns(episode: Episode) -> dict[str, Array]:
    """Return the columns that a `Task` is a function of."""
    truth = {f"truth.{name}": array for name, array in episode.truth.items()}
    return {**episode.observation, "action": episode.action, **truth}


def complete(labels: dict[str, str]) -> bool:
    """Return whether an episode was seen to its end, so that its return counts."""
    return INCOMPLETE not in labels


def unknown_conduct(steps: int, size: int) -> Conduct:
    """Return what is known of `steps` actions of `size` elements: nothing."""
    nobody: Mask = np.zeros(steps, np.bool_)
    never: Mask = np.zeros((steps, size), np.bool_)
    return Conduct(nobody, never, np.full(steps, np.nan, np.float32))


def check(episode: Episode, spec: RobotSpec) -> None:
    """Raise EpisodeError, with one sentence, if `episode` is not one of `spec`."""
    for problem in _problems(episode, spec):
        raise EpisodeError(problem)


def _problems(episode: Episode, spec: RobotSpec) -> Iterator[str]:
    if episode.observation.keys() != spec.observation.keys():
        yield (
            f"expected the observations {list(spec.observation)}, "
            f"got {list(episode.observation)}"
        )
    if episode.length < 1:
        yield "expected at least one step, got an episode of none"
    yield from _misshapen(episode, spec)
    yield from _not_finite(episode)
    if (np.diff(episode.time_s) <= 0).any():
        row = int(np.argmax(np.diff(episode.time_s) <= 0))
        yield f"expected time_s to grow, it does not after row {row}"
    if unknown := set(episode.frames) - set(spec.cameras):
        yield f"expected frames of {list(spec.cameras)}, got {sorted(unknown)}"
    yield from _bad_frames(episode)


def _misshapen(episode: Episode, spec: RobotSpec) -> Iterator[str]:
    steps, size = episode.length, spec.action.size
    expected: dict[str, tuple[npt.NDArray[Any], tuple[int, ...]]] = {
        "action": (episode.action, (steps, size)),
        "requested": (episode.requested, (steps, size)),
        "time_s": (episode.time_s, (steps + 1,)),
    }
    for name, array in episode.observation.items():
        n = spec.observation[name].size
        expected[f"observation {name}"] = (array, (steps + 1, n))
    if episode.reward is not None:
        expected["reward"] = (episode.reward, (steps,))
    for name, array in episode.truth.items():
        expected[f"truth {name}"] = (array, (steps + 1, *array.shape[1:2]))
    if episode.conduct is not None:
        expected["intervention"] = (episode.conduct.intervention, (steps,))
        expected["clamped"] = (episode.conduct.clamped, (steps, size))
        expected["age_s"] = (episode.conduct.age_s, (steps,))
    for name, (found, shape) in expected.items():
        if found.shape != shape:
            yield f"expected {name} of shape {shape}, got {found.shape}"
        kind = _KINDS.get(name, np.float32)
        if found.dtype != kind:
            yield f"expected {name} as {np.dtype(kind)}, got {found.dtype}"


def _not_finite(episode: Episode) -> Iterator[str]:
    for name, array in episode.observation.items():
        if not np.isfinite(array).all():
            row, column = np.argwhere(~np.isfinite(array))[0]
            yield f"observation {name} is not finite at row {row}, element {column}"
    if not np.isfinite(episode.time_s).all():
        yield "time_s is not finite"
    known = np.isfinite(episode.action)
    if (known.any(axis=1) != known.all(axis=1)).any():
        row = int(np.argmax(known.any(axis=1) != known.all(axis=1)))
        yield f"action is not finite at row {row}"


def _bad_frames(episode: Episode) -> Iterator[str]:
    for camera, frames in episode.frames.items():
        if len(frames.step) != len(frames.jpeg):
            yield f"camera {camera}: {len(frames.step)} steps, {len(frames.jpeg)} JPEGs"
        inside = (frames.step >= 0) & (frames.step <= episode.length)
        if not inside.all() or (np.diff(frames.step) < 0).any():
            yield f"camera {camera}: expected steps in order, 0 to {episode.length}"
