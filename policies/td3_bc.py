"""TD3+BC (Fujimoto and Gu, 2021; arXiv:2106.06860).

    critic   Q_k(s, a) -> reward + discount * min_k Q_target(s', a'),
             a' = the target policy at s', plus clipped noise
    policy   maximizes Q_1(s, policy(s)) / mean |Q_1| * alpha, minus its squared
             distance from the action of the data; every `policy_period` updates
    targets  of critic and policy follow, a little, whenever the policy is updated

Weights begin uniform, as in the authors' code, and not orthogonal as elsewhere in this
project: those cost it two fifths of its return on hopper's random logs (111 ± 18 and
176 ± 35 after 5,000 updates; benchmarks/offline.md).

Where we differ from the paper, and what it changes:
- Actions are learned in units of the robot's own bounds, or as small steps from where
  the robot is (`action_frame = "delta"`). On benchmarks with actions in [-1, 1] the
  former changes nothing.
- The policy is updated first at update 0, theirs at update 1: as often, one earlier.
"""

from __future__ import annotations

import copy
from typing import SupportsFloat

import torch
from torch import Tensor

from robostack.learner import Batch, LearnerError, Statistics

from ._checks import check_reward
from ._learner import (
    Inputs,
    Mean,
    Rim,
    adam,
    make_critics,
    make_policy,
    minimize,
)
from ._losses import critic_loss
from ._nets import begin_uniform, polyak_update
from ._settings import Settings
from ._together import TogetherLearner

NEEDS_REWARD = True


class Config(Settings, frozen=True, forbid_unknown_fields=True):
    """Hyperparameters of TD3+BC; the defaults are the paper's."""

    alpha: float = 2.5  # weight of the critic; 0 is behaviour cloning
    policy_noise: float = 0.2  # spread of the noise on the target action
    noise_limit: float = 0.5  # it is clipped to
    policy_period: int = 2  # updates of the critic per update of the policy
    target_rate: float = 0.005  # Polyak averaging of the targets
    learning_rate: float = 3e-4
    critics: int = 2
    normalize: bool = True  # observations by mean and spread of the dataset

    def __post_init__(self) -> None:
        """Refuse what no run could mean."""
        if not (self.alpha >= 0 and self.policy_period > 0 and self.critics > 0):
            raise LearnerError(
                f"expected alpha >= 0, policy_period > 0 and critics > 0, got "
                f"{self.alpha}, {self.policy_period} and {self.critics}"
            )


def policy_loss(q: Tensor, action: Tensor, logged: Tensor, alpha: float) -> Tensor:
    """Equation 3 (...,): -lambda Q + (a - logged)^2, lambda = alpha / mean |Q|.

    Args:
        q: (..., B), of the policy's own `action`.
        action: (..., B, A), within [-1, 1], as all actions here.
        logged: (..., B, A), of the data.
        alpha: weight of the critic.
    """
    scale = alpha / q.detach().abs().mean(-1)
    cloning = (action - logged).square().mean(-1).mean(-1)
    return cloning - scale * q.mean(-1)


class Learner(TogetherLearner[Config]):
    """The networks of TD3+BC and their update."""

    def _build(self, statistics: Statistics) -> None:
        config, codec = self._config, self._codec
        policy = make_policy(codec, config.hidden, self._rng, stochastic=False)
        self.policy = policy.policy
        self.critic, self.target = make_critics(
            codec, config.hidden, self._rng, members=config.critics
        )
        for net in (self.policy, self.critic):
            begin_uniform(net, self._rng)
        self.target.load_state_dict(self.critic.state_dict())
        self.target_policy = copy.deepcopy(self.policy).requires_grad_(False)
        self._policy_adam = adam([self.policy.mlp], config.learning_rate)
        self._critic_adam = adam([self.critic], config.learning_rate)
        self._seldom = {"loss/policy": Mean(torch.zeros((), device=self._device))}
        nets = {
            "policy": self.policy,
            "target_policy": self.target_policy,
            "critic": self.critic,
            "target": self.target,
        }
        adams = {"policy": self._policy_adam, "critic": self._critic_adam}
        self._adopt(policy, nets, adams)

    def _update(self, batch: Batch) -> dict[str, SupportsFloat]:
        """Take one gradient step on the critic, and now and then on the policy."""
        check_reward(batch)
        inputs, config = self._inputs(batch), self._config
        td_target = self._td_target(inputs)
        qs = self.critic.q(inputs.observation, inputs.action)
        q_loss = critic_loss(qs, td_target)
        minimize(q_loss, self._critic_adam)
        if self._updates % config.policy_period == 0:
            self._improve(inputs)
        self._updates += 1
        return {
            "loss/critic": Mean(q_loss),
            "q": Mean(qs),
            "actions_at_rim": Rim(inputs.action),
            **self._seldom,
        }

    @torch.no_grad()
    def _td_target(self, inputs: Inputs) -> Tensor:
        """Return the regression target of the critic (B,)."""
        config = self._config
        size = inputs.reward.shape[-1]
        after = inputs.observations[..., size:, :]
        limit = config.noise_limit
        noise = self._noise(size).mul_(config.policy_noise).clamp_(-limit, limit)
        action = (self.target_policy(after) + noise).clamp_(-1.0, 1.0)
        return inputs.td_target(self.target.q(after, action).amin(-2))

    def _improve(self, inputs: Inputs) -> None:
        """Take one gradient step on the policy; let the targets follow."""
        action = self.policy(inputs.observation)
        pair = torch.cat((inputs.observation, action), dim=-1)
        q = self.critic.member(pair, 0).squeeze(-1)
        loss = policy_loss(q, action, inputs.action, self._config.alpha)
        minimize(loss, self._policy_adam)
        self._seldom = {"loss/policy": Mean(loss)}
        polyak_update(self.target, self.critic, self._config.target_rate)
        polyak_update(self.target_policy, self.policy, self._config.target_rate)
