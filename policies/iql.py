"""Implicit Q-learning (Kostrikov, Nair, Levine, 2021; arXiv:2110.06169).

    value    V(s) -> expectile of min_k Q_target(s, a): the value of the better actions
    policy   log pi(a | s), weighted by exp(inverse_temperature * (min_k Q_target - V))
    critic   Q_k(s, a) -> reward + discount * V(s')
    target   Q_target follows Q, a little per update

One batch serves all four, in this order, as in the authors' code: policy and critic see
the value function that was just updated. Learning never samples the policy, so no
action outside the data is ever asked for its value. Going on online is the same update
on a growing replay, with `actor_schedule = "constant"`.

That a high expectile joins halves of ways is shown by benchmarks/claims_iql.py.

Where we differ from the paper, and what it changes:
- One optimizer steps policy and critic together. Neither loss reads the other network,
  so the result is that of two.
- Actions are learned in units of the robot's own bounds, or as small steps from where
  the robot is (`action_frame = "delta"`). On benchmarks with actions in [-1, 1] the
  former changes nothing.
- `normalize` standardizes observations by fixed statistics of the dataset. Off by
  default, as in the paper; the recipe for real robots, whose units differ, turns it on.
  Neither its effect nor that of `delta` was measured.
- `reward_scale = "return_range"` takes the returns of whole episodes, the authors' code
  also that of a trajectory which the file breaks off. On the hopper rollouts rewards
  are 1.35 (medium) and 1.38 times (expert) as large for it, which to the weights is an
  inverse temperature of 4 in place of 3.
- Logs that say what followed a time-out are learned from to the last row; the loader of
  D4RL leaves that row out: 80 of 200,000 on the mix of hopper's medium and expert.
"""

from __future__ import annotations

from typing import Literal, SupportsFloat

from robostack.learner import Batch, LearnerError, Statistics

from ._advantage import by_values, fit_value
from ._checks import check_reward
from ._learner import (
    Mean,
    Rim,
    adam,
    cosine,
    make_critics,
    make_policy,
    minimize,
)
from ._losses import cloning_loss, critic_loss, limited_weight
from ._nets import Mlp, polyak_update
from ._settings import Settings
from ._together import TogetherLearner

NEEDS_REWARD = True


class Config(Settings, frozen=True, forbid_unknown_fields=True):
    """Hyperparameters of IQL; the defaults are the paper's for locomotion."""

    expectile: float = 0.7  # 0.5 is SARSA; towards 1.0, Q-learning
    inverse_temperature: float = 3.0  # 0 is behaviour cloning
    max_weight: float = 100.0  # limit on the exponential advantage weight
    target_rate: float = 0.005  # Polyak averaging of the target critic, per update
    learning_rate: float = 3e-4
    actor_schedule: Literal["cosine", "constant"] = "cosine"  # to 0; constant online
    critics: int = 2
    dropout: float = 0.0  # in the policy

    def __post_init__(self) -> None:
        """Refuse what no run could mean."""
        if not (0 < self.expectile < 1 and 0 <= self.dropout < 1 and self.critics > 0):
            raise LearnerError(
                f"expected 0 < expectile < 1, 0 <= dropout < 1 and critics > 0, got "
                f"{self.expectile}, {self.dropout} and {self.critics}"
            )


class Learner(TogetherLearner[Config]):
    """The networks of IQL and their update."""

    def _build(self, statistics: Statistics) -> None:
        spec, config, codec = self.spec, self._config, self._codec
        inputs, hidden = spec.observation_size, config.hidden
        policy = make_policy(codec, hidden, self._rng, dropout=config.dropout)
        self.policy = policy.policy
        self.value = Mlp((inputs, *hidden, 1), self._rng)
        self.critic, self.target = make_critics(
            codec, hidden, self._rng, members=config.critics
        )
        rate = config.learning_rate
        self._value_adam = adam([self.value], rate)
        self._adam = adam([self.policy, self.critic], rate)
        nets = {"policy": self.policy, "value": self.value}
        nets |= {"critic": self.critic, "target": self.target}
        self._adopt(policy, nets, {"value": self._value_adam, "rest": self._adam})

    def _update(self, batch: Batch) -> dict[str, SupportsFloat]:
        """Take one gradient step on all networks."""
        check_reward(batch)
        inputs, config = self._inputs(batch), self._config
        q, _, v_loss = fit_value(
            self.value, self.target, inputs, self._value_adam, config.expectile
        )
        advantage, v, td_target = by_values(self.value, q, inputs)
        weight = limited_weight(
            advantage, config.inverse_temperature, config.max_weight
        )
        log_prob = self.policy.log_prob(inputs.observation, inputs.action)
        pi_loss = cloning_loss(log_prob, weight)
        qs = self.critic.q(inputs.observation, inputs.action)
        q_loss = critic_loss(qs, td_target)
        self._adam.param_groups[0]["lr"] = self._actor_rate()
        minimize(pi_loss + q_loss, self._adam)
        polyak_update(self.target, self.critic, config.target_rate)
        self._updates += 1
        return {
            "loss/value": Mean(v_loss),
            "loss/critic": Mean(q_loss),
            "loss/policy": Mean(pi_loss),
            "value": Mean(v),
            "advantage": Mean(advantage),
            "weight": Mean(weight),
            "actions_at_rim": Rim(inputs.action),
        }

    def _actor_rate(self) -> float:
        if self._config.actor_schedule == "constant":
            return self._config.learning_rate
        return cosine(self._config.learning_rate, self._done, self._steps)
