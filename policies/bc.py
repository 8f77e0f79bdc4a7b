"""Behaviour cloning: do what the data does.

    gaussian        log pi(a | s), by maximum likelihood
    deterministic   mean(s) -> a, by least squares; samples are the mean

Rewards are not looked at, and may be missing.

Where we differ from the paper: there is no one paper. The networks, the clipping of
actions at the data's rim and the bounded spread are those of IQL, so that the two
differ in the weights alone: IQL with `inverse_temperature = 0` is this.
"""

from __future__ import annotations

from typing import Literal, SupportsFloat

from torch import Tensor

from robostack.learner import Batch, LearnerError, Statistics

from ._learner import Mean, Rim, adam, cosine, make_policy, minimize
from ._losses import cloning_loss
from ._settings import Settings
from ._together import TogetherLearner

NEEDS_REWARD = False


class Config(Settings, frozen=True, forbid_unknown_fields=True):
    """Hyperparameters of behaviour cloning."""

    head: Literal["gaussian", "deterministic"] = "gaussian"
    learning_rate: float = 3e-4
    schedule: Literal["cosine", "constant"] = "cosine"  # of the learning rate, to 0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what no run could mean."""
        if not 0 <= self.dropout < 1:
            raise LearnerError(f"expected 0 <= dropout < 1, got {self.dropout}")


def square_loss(mean: Tensor, action: Tensor) -> Tensor:
    """Squared error (...,) per action element; both (..., B, A)."""
    return (mean - action).square().mean(-1).mean(-1)


class Learner(TogetherLearner[Config]):
    """The policy network and its update."""

    def _build(self, statistics: Statistics) -> None:
        config, codec = self._config, self._codec
        policy = make_policy(
            codec,
            config.hidden,
            self._rng,
            dropout=config.dropout,
            stochastic=config.head == "gaussian",
        )
        self.policy = policy.policy
        self._adam = adam([self.policy], config.learning_rate)
        self._adopt(policy, {"policy": self.policy}, {"policy": self._adam})

    def _update(self, batch: Batch) -> dict[str, SupportsFloat]:
        """Take one gradient step."""
        inputs = self._inputs(batch)
        mean = self.policy(inputs.observation, drop=True)
        error = square_loss(mean, inputs.action)
        loss = error
        if self._config.head == "gaussian":
            loss = cloning_loss(self.policy.density(mean, inputs.action))
        self._adam.param_groups[0]["lr"] = self._rate()
        minimize(loss, self._adam)
        self._updates += 1
        return {
            "loss/policy": Mean(loss),
            "error": Mean(error),
            "actions_at_rim": Rim(inputs.action),
        }

    def _rate(self) -> float:
        if self._config.schedule == "constant":
            return self._config.learning_rate
        return cosine(self._config.learning_rate, self._done, self._steps)
