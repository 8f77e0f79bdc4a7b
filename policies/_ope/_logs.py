"""What estimators that learn from logs share: units, weights of episodes, intervals.

    Scale       observations standardized, action bounds at -1 and 1, returns near 1
    ask         what a candidate does at many observations
    weights     of episodes, in every fit: the Bayesian bootstrap (Rubin, 1981)
    intervals   of what several fits say of first observations

With one fit episodes weigh the same, and an interval knows of first observations alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from robostack.learner import Batch
from robostack.spec import Array, float32
from robostack.training.ope import Candidate, Evidence, Numbers, Options, percentiles

_ROWS = 8192  # of one question to a policy
_FLOOR = 1e-3  # added to spreads, so that constant columns stay finite


class Scale(NamedTuple):
    """Between the robot's units and those of critics."""

    mean: Array  # (O,)
    std: Array  # (O,)
    middle: Array  # (A,)
    half: Array  # (A,)
    returns: float  # a return of 1, to a critic
    low: float  # what a critic may be taught, in its own unit
    high: float

    @classmethod
    def of(cls, evidence: Evidence) -> Scale:
        """Return the units that suit `evidence`."""
        batch, spec, gamma = evidence.transitions, evidence.spec, evidence.gamma
        low, high = float32(spec.action.low), float32(spec.action.high)
        half = float32((high - low) / 2)
        half[half == 0] = 1.0  # an element that cannot move
        returns = _spread(batch)
        worst, best = float(batch.reward.min()), float(batch.reward.max())
        longest = 1.0 / (1.0 - gamma) if gamma < 1 else np.inf
        return cls(
            mean=batch.observation.mean(0),
            std=batch.observation.std(0) + np.float32(_FLOOR),
            middle=float32((low + high) / 2),
            half=half,
            returns=returns,
            low=min(worst, worst * longest) / returns,
            high=max(best, best * longest) / returns,
        )

    def observation(self, observation: Array) -> Array:
        """Return `observation` (N, O), standardized."""
        return (observation - self.mean) / self.std

    def raw(self, observation: Array) -> Array:
        """Return standardized `observation` (N, O) in the robot's units."""
        return float32(observation * self.std + self.mean)

    def action(self, action: Array) -> Array:
        """Return `action` (..., A), bounds at -1 and 1."""
        return float32((action - self.middle) / self.half)


def _spread(batch: Batch) -> float:
    """Return the root mean square of the data's returns to go, or 1 if that is 0."""
    assert batch.mc_return is not None
    size = float(np.sqrt(np.square(batch.mc_return, dtype=np.float64).mean()))
    return size or 1.0


def ask(
    candidate: Candidate,
    observation: Array,
    options: Options,
    rng: np.random.Generator,
) -> Array:
    """Return what `candidate` does (N, A) at `observation` (N, O), in blocks."""
    blocks = range(0, len(observation), _ROWS)
    drawing = rng if options.draw else None
    return np.concatenate(
        [candidate.act(observation[i : i + _ROWS], drawing) for i in blocks]
    )


def weights(seeds: int, episodes: int, rng: np.random.Generator) -> Numbers:
    """Return weights (S, E) of episodes, 1 in the mean of each seed."""
    if seeds == 1:
        return np.ones((1, episodes))
    drawn = rng.exponential(size=(seeds, episodes))
    weight: Numbers = drawn / drawn.mean(1, keepdims=True)
    return weight


def intervals(values: Numbers, options: Options) -> tuple[list[float], list[float]]:
    """Return the ends of the intervals of `values` (P, S, E).

    Bootstrap of both: a fit is drawn, and first observations with replacement. All
    policies are judged by the same draws.
    """
    rng = np.random.default_rng(options.seed)
    _, seeds, episodes = values.shape
    drawn = np.stack(
        [
            values[:, rng.integers(seeds)][
                :, rng.integers(episodes, size=episodes)
            ].mean(1)
            for _ in range(options.resamples)
        ],
        axis=1,
    )
    ends = [percentiles(row, options) for row in drawn]
    return [low for low, _ in ends], [high for _, high in ends]
