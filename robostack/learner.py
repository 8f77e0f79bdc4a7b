"""What the training loops know of an algorithm: batches in, metrics and ONNX out.

A file of `policies/` offers `Config` (a flat frozen struct of defaults) and `Learner`,
which fulfils the protocol below and is constructed as

    Learner(spec, config, statistics=statistics, steps=steps, seed=seed)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, SupportsFloat, runtime_checkable

import numpy as np

from robostack.spec import Array, RobotSpec


class LearnerError(ValueError):
    """A batch, a configuration or a checkpoint that a learner cannot use."""


class Batch(NamedTuple):
    """Transitions; the discount says all about ends: 0 if terminated, else gamma."""

    observation: Array  # (B, O), in the robot's units, in spec order
    action: Array  # (B, A), in the robot's units
    reward: Array  # (B,)
    discount: Array  # (B,)
    next_observation: Array  # (B, O)
    mc_return: Array | None = None  # (B,) discounted return to go of the data
    lived: Array | None = None  # (B,) 1: the run lived it, 0: it is a dataset's


class Statistics(NamedTuple):
    """What a learner may know of a whole dataset before its first update."""

    mean: Array  # (O,) of the observations
    std: Array  # (O,)
    return_low: float  # smallest and largest undiscounted return of an episode
    return_high: float


def noise(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Return what samples of actions are made from: standard normal numbers."""
    return rng.standard_normal(shape, dtype=np.float32)


class Learner(Protocol):
    """Networks and their update."""

    spec: RobotSpec
    stochastic: bool  # its actions can be drawn, and so can those of what it exports

    def update(self, batch: Batch) -> dict[str, SupportsFloat]:
        """Take one gradient step; the metrics are read only when they are logged."""

    def act(self, observation: Array, rng: np.random.Generator | None) -> Array:
        """Return actions (B, A) [robot units], or samples of them.

        A sample follows from `noise(rng, shape)` alone, as in the exported graph.
        """

    def export(self) -> bytes:
        """Return the policy as one ONNX graph; robostack/bundle.py has the layout."""

    def state(self) -> bytes:
        """Return everything that `load` needs to go on as if never stopped."""

    def load(self, state: bytes) -> None:
        """Resume from `state`."""

    def begin(self, state: bytes) -> None:
        """Begin with what another run ended with; schedules begin anew."""


class Together(Protocol):
    """Several runs of one algorithm, updated as one; each remains a `Learner`."""

    def update(self, batches: Sequence[Batch]) -> Sequence[dict[str, SupportsFloat]]:
        """Take one gradient step in every run, on its own batch; return metrics.

        Each is then what it would be alone, but for rounding.

        Raises:
            LearnerError: a batch cannot be used, and no run has learned anything; or
                one of the runs has learned alone since they were joined.
        """


@runtime_checkable
class Joining(Protocol):
    """What some learners can do beside: learn with others of the same configuration."""

    def gains(self) -> bool:
        """Whether that is faster than in turn, on the device that it has."""

    def join(self, others: Sequence[Learner]) -> Together:
        """Return this run and `others`, which stand at the same update, as one.

        It holds until one of them is updated alone, or loads a state.
        """


@runtime_checkable
class Density(Protocol):
    """What some learners can tell beside: how likely their policy is to do a thing."""

    def log_prob(self, observation: Array, action: Array) -> Array:
        """Return the log-density (B,), per robot unit, of `action` (B, A).

        Raises:
            LearnerError: the policy is deterministic, and has no density.
        """
