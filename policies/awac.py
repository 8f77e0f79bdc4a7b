"""Advantage-weighted actor-critic (Nair et al., 2020; arXiv:2006.09359).

    critic   Q_k(s, a) -> reward + discount * min_k Q_target(s', a'),  a' ~ policy
    policy   log pi(a | s) of the data's actions, weighted by exp(advantage / lambda),
             advantage = min_k Q(s, a) - min_k Q(s, a~),  a~ ~ policy
    target   follows the critic, a little per update

Going on online is the same update on a growing replay. `inverse_temperature` is 1 /
lambda.

Where we differ from the paper, and what it changes:
- The weight is limited (`max_weight`), as in later implementations. The paper leaves
  the normalizer out; the authors' code normalizes over the batch (`weights = "batch"`),
  which makes the sum of weights, and so the step, the same for every batch.
- The value of a state is the critic at one sample of the policy, as in the authors'
  code; the paper has the mean over the policy. More `samples`, less noise.
- Networks are as in IQL, so that the two differ in what they judge by alone: 2 x 256,
  mean through tanh, spread independent of the observation, within exp(-5) and exp(2).
  The authors' policy has four layers (`hidden`) and a weight decay of 1e-4, here it
  has none. Neither was measured.
- The spread begins at 1; in d3rlpy, for one, at exp(-3) (`first_log_std = -3`). From a
  hopper's random logs narrow policies gain more online, from better ones less: after
  1,000 steps 170 ± 6 (else 91 ± 29), medium 949 ± 38 (1114 ± 41), medium + expert
  468 ± 64 (613 ± 152; benchmarks/offline.md). From exp(-1.5) random logs give 127 ± 42
  and hopper's others what they give from 1, but halfcheetah 2268 ± 1296 (5136 ± 220).
- Actions are learned in units of the robot's own bounds, or as small steps from where
  the robot is (`action_frame = "delta"`). On benchmarks with actions in [-1, 1] the
  former changes nothing.
"""

from __future__ import annotations

from typing import Literal, SupportsFloat

from torch import Tensor

from robostack.learner import Batch, LearnerError, Statistics

from ._advantage import by_samples
from ._checks import check_reward
from ._learner import Mean, Rim, adam, make_critics, make_policy, minimize
from ._losses import cloning_loss, critic_loss, limited_weight
from ._nets import LOG_STD_HIGH, LOG_STD_LOW, polyak_update
from ._settings import Settings
from ._together import TogetherLearner

NEEDS_REWARD = True


class Config(Settings, frozen=True, forbid_unknown_fields=True):
    """Hyperparameters of AWAC."""

    inverse_temperature: float = 1.0  # 1 / lambda; 0 is behaviour cloning
    weights: Literal["limited", "batch"] = "limited"  # or normalized over the batch
    max_weight: float = 100.0  # limit on the exponential advantage weight
    samples: int = 1  # of the policy, for the value of a state
    target_rate: float = 0.005  # Polyak averaging of the target critic, per update
    learning_rate: float = 3e-4
    critics: int = 2
    dropout: float = 0.0  # in the policy
    first_log_std: float = 0.0  # of the policy, to begin with, within -5 and 2

    def __post_init__(self) -> None:
        """Refuse what no run could mean."""
        if not (0 <= self.dropout < 1 and self.critics > 0 and self.samples > 0):
            raise LearnerError(
                f"expected 0 <= dropout < 1, critics > 0 and samples > 0, got "
                f"{self.dropout}, {self.critics} and {self.samples}"
            )
        if not LOG_STD_LOW <= self.first_log_std <= LOG_STD_HIGH:
            raise LearnerError(
                f"expected first_log_std within {LOG_STD_LOW:g} and {LOG_STD_HIGH:g}, "
                f"got {self.first_log_std}"
            )


def advantage_weight(advantage: Tensor, config: Config) -> Tensor:
    """Return exp(advantage / lambda), limited or of mean 1 over the batch; (..., B)."""
    if config.weights == "batch":
        scaled = config.inverse_temperature * advantage
        return scaled.softmax(-1) * scaled.shape[-1]
    return limited_weight(advantage, config.inverse_temperature, config.max_weight)


class Learner(TogetherLearner[Config]):
    """The networks of AWAC and their update."""

    def _build(self, statistics: Statistics) -> None:
        config, codec = self._config, self._codec
        policy = make_policy(
            codec,
            config.hidden,
            self._rng,
            dropout=config.dropout,
            first_log_std=config.first_log_std,
        )
        self.policy = policy.policy
        self.critic, self.target = make_critics(
            codec, config.hidden, self._rng, members=config.critics
        )
        self._adam = adam([self.policy, self.critic], config.learning_rate)
        nets = {"policy": self.policy, "critic": self.critic, "target": self.target}
        self._adopt(policy, nets, {"both": self._adam})

    def _update(self, batch: Batch) -> dict[str, SupportsFloat]:
        """Take one gradient step on policy and critic."""
        check_reward(batch)
        inputs, config = self._inputs(batch), self._config
        qs = self.critic.q(inputs.observation, inputs.action)
        critics = self.critic, self.target
        advantage, _, td_target = by_samples(
            critics, qs, inputs, self._sample, config.samples
        )
        weight = advantage_weight(advantage, config)
        log_prob = self.policy.log_prob(inputs.observation, inputs.action)
        pi_loss = cloning_loss(log_prob, weight)
        q_loss = critic_loss(qs, td_target)
        minimize(pi_loss + q_loss, self._adam)
        polyak_update(self.target, self.critic, config.target_rate)
        self._updates += 1
        return {
            "loss/critic": Mean(q_loss),
            "loss/policy": Mean(pi_loss),
            "q": Mean(qs),
            "advantage": Mean(advantage),
            "weight": Mean(weight),
            "actions_at_rim": Rim(inputs.action),
        }

    def _sample(self, observation: Tensor) -> Tensor:
        """Return actions (B, A) of the policy, within [-1, 1]."""
        return self.policy.sample(observation, self._noise(observation.shape[-2]))
