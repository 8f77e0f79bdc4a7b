"""Soft actor-critic, as the algorithms that stand on it share it.

    critic       Q_k(s, a) -> reward + discount * (min Q_target(s', a') - t log pi(a'))
    policy       maximizes Q(s, a~) - t log pi(a~ | s),  a~ ~ policy
    temperature  t grows while the entropy of the policy is below its target
    target       follows the critic, a little per update

Haarnoja et al., 2018 (arXiv:1812.05905), algorithm 1. The minimum is over a random
subset of the ensemble (Chen et al., 2021; arXiv:2101.05982) where that is smaller.
"""

from __future__ import annotations

import math
from typing import Literal, SupportsFloat, TypeVar

import torch
from torch import Tensor, nn

from robostack.learner import Batch, LearnerError, Statistics

from ._checks import check_reward
from ._codec import Deployed
from ._learner import Mean, Rim, TorchLearner, adam, make_critics, minimize
from ._losses import critic_loss
from ._nets import (
    SQUASHED_LOG_STD_LOW,
    SquashedGaussianPolicy,
    polyak_update,
    squash,
)
from ._random import permutation
from ._settings import Settings

_LOG_LIMIT = math.log(1e6)  # of multipliers, either way


class SoftConfig(Settings, frozen=True, forbid_unknown_fields=True):
    """What all soft actor-critics have to be told; the defaults are SAC's."""

    temperature: float = 1.0  # weight of the entropy, to begin with
    tune_temperature: bool = True  # towards the target entropy
    target_entropy: float = -1.0  # [nats per action element], actions within [-1, 1]
    entropy_backup: bool = True  # the entropy to come is part of the value
    least_of: int = 2  # critics, drawn for each update, of which the TD target is least
    policy_critic: Literal["least", "mean"] = "least"  # of all; what the policy seeks
    least_log_std: float = SQUASHED_LOG_STD_LOW  # of the policy, before tanh
    policy_period: int = 1  # updates of the critic per update of the policy
    target_rate: float = 0.005  # Polyak averaging of the target critic, per update
    learning_rate: float = 3e-4  # of the critic
    policy_learning_rate: float = 3e-4  # and of the temperature
    critics: int = 2
    critic_hidden: tuple[int, ...] = ()  # (): as the policy
    layer_norm: bool = False  # in the critic

    def __post_init__(self) -> None:
        """Refuse what no run could mean."""
        if not (0 < self.least_of <= self.critics and self.policy_period > 0):
            raise LearnerError(
                f"expected 0 < least_of <= critics and policy_period > 0, got "
                f"{self.least_of}, {self.critics} and {self.policy_period}"
            )
        if not self.temperature > 0:
            raise LearnerError(f"expected temperature > 0, got {self.temperature}")


AnySoft = TypeVar("AnySoft", bound=SoftConfig)


class Multiplier(nn.Module):
    """A positive number, learned by its logarithm."""

    def __init__(self, initial: float, device: torch.device) -> None:
        super().__init__()
        self.log = nn.Parameter(torch.tensor(math.log(initial), device=device))

    def forward(self) -> Tensor:
        """Return the number, ()."""
        return self.log.clamp(-_LOG_LIMIT, _LOG_LIMIT).exp()


def policy_loss(q: Tensor, log_prob: Tensor, temperature: Tensor) -> Tensor:
    """The policy's (...,): t (...,) log pi(a~ | s) - Q(s, a~), both (..., B)."""
    return (temperature.unsqueeze(-1) * log_prob - q).mean(-1)


def multiplier_loss(multiplier: Tensor, excess: Tensor) -> Tensor:
    """Loss (...,) that raises `multiplier` where `excess` (..., B) is positive."""
    return -(multiplier.unsqueeze(-1) * excess.detach()).mean(-1)


class SoftLearner(TorchLearner[AnySoft]):
    """The networks of a soft actor-critic and their update."""

    def _build(self, statistics: Statistics) -> None:
        spec, config, codec = self.spec, self._config, self._codec
        sizes = (spec.observation_size, *config.hidden, spec.action.size)
        self.policy = SquashedGaussianPolicy(
            sizes, self._rng, least_log_std=config.least_log_std
        )
        self.critic, self.target = make_critics(
            codec,
            config.critic_hidden or config.hidden,
            self._rng,
            members=config.critics,
            norm=config.layer_norm,
        )
        begin = self._begin_multipliers()
        self.multipliers = {k: Multiplier(v, self._device) for k, v in begin.items()}
        nets = {"policy": self.policy, "critic": self.critic, "target": self.target}
        rate = config.policy_learning_rate
        self._critic_adam = adam([self.critic], config.learning_rate)
        self._policy_adam = adam([self.policy], rate)
        self._adams = {
            k: adam([m], rate if k == "temperature" else config.learning_rate)
            for k, m in self.multipliers.items()
        }
        adams = {"critic": self._critic_adam, "policy": self._policy_adam}
        self._adopt(
            Deployed(codec, self.policy), nets | self.multipliers, adams | self._adams
        )
        nothing = Mean(torch.zeros((), device=self._device))
        self._seldom = dict.fromkeys(("loss/policy", "entropy"), nothing)

    def _begin_multipliers(self) -> dict[str, float]:
        """Return the numbers that are learned by their logarithm, to begin with."""
        return {"temperature": self._config.temperature}

    def _update(self, batch: Batch) -> dict[str, SupportsFloat]:
        """Take a gradient step on the critic, and now and then on the policy."""
        check_reward(batch)
        inputs = self._inputs(batch)
        here, after = inputs.observations.chunk(2, dim=-2)
        with torch.no_grad():
            noise = self._noise(after.shape[-2])
            action, log_prob = squash(*self.policy.moments(after), noise)
            future = self._future(after, action, log_prob)
            td_target = inputs.td_target(future)
        qs = self.critic.q(here, inputs.action)
        loss = critic_loss(qs, td_target)
        minimize(loss, self._critic_adam)
        polyak_update(self.target, self.critic, self._config.target_rate)
        if self._updates % self._config.policy_period == 0:
            noise = self._noise(here.shape[-2])
            action, log_prob = squash(*self.policy.moments(here), noise)
            self._improve(here, action, log_prob)
        self._updates += 1
        return {
            "loss/critic": Mean(loss),
            "q": Mean(qs),
            "temperature": Mean(self.multipliers["temperature"]()),
            "actions_at_rim": Rim(inputs.action),
            **self._seldom,
        }

    def _future(self, after: Tensor, action: Tensor, log_prob: Tensor) -> Tensor:
        """Return the value (B,) of `action` (B, A), drawn at `after`."""
        value = self._least(after, action)
        if self._config.entropy_backup:
            value = value - self._entropy_cost(log_prob)
        return value

    def _entropy_cost(self, log_prob: Tensor) -> Tensor:
        """Return t log pi, (..., B) as `log_prob` is."""
        temperature: Tensor = self.multipliers["temperature"]().detach()
        return temperature.unsqueeze(-1) * log_prob

    def _least(self, observation: Tensor, action: Tensor) -> Tensor:
        """Return the least answer (B,) of some, or all, target critics."""
        config = self._config
        if config.least_of == config.critics:
            return self.target.q(observation, action).amin(-2)
        some = permutation(self._rng, config.critics)[..., : config.least_of]
        if not self._lead:
            return self.target.q(observation, action, some).amin(-2)
        every = self.target.q(observation, action)
        return every.take_along_dim(some.unsqueeze(-1), dim=-2).amin(-2)

    def _improve(
        self,
        here: Tensor,
        action: Tensor,
        log_prob: Tensor,
        extra: Tensor | None = None,
    ) -> None:
        """Take a gradient step on policy and temperature.

        Args:
            here: (B, O).
            action: (B, A), drawn there; its gradient leads to the policy.
            log_prob: (B,), of it.
            extra: a loss of the policy to put in the place of the critic's opinion.
        """
        temperature = self.multipliers["temperature"]
        if extra is None:
            qs = self.critic.q(here, action)
            q = qs.amin(-2) if self._config.policy_critic == "least" else qs.mean(-2)
            loss = policy_loss(q, log_prob, temperature().detach())
        else:
            loss = extra + self._entropy_cost(log_prob).mean(-1)
        minimize(loss, self._policy_adam)
        self._seldom = {"loss/policy": Mean(loss), "entropy": Mean(-log_prob)}
        if self._config.tune_temperature:
            target = self._config.target_entropy * action.shape[-1]
            shortfall = target + log_prob  # of entropy
            loss = multiplier_loss(temperature(), shortfall)
            minimize(loss, self._adams["temperature"])
