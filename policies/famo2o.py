"""Train once, get a family: FamO2O (Wang et al., 2023; arXiv:2310.17966).

    critic     that of IQL, or of AWAC (`base`), unmodified
    universal  log pi(a | s, b), weighted by exp(b * advantage), for every balance b
               between improvement (large) and the data (small): a family of policies
    balance    b ~ pi(b | s) maximizes min_k Q_target(s, a~) - t log pi(b | s),
               a~ ~ universal policy of b
    t          grows while the entropy of the balance is below -0.5

The pair acts: the balance the state calls for, then the universal policy's action. The
universal policy sees b as sines and cosines, and is frozen while the balance model
learns through its actions. Offline b is uniform, for every sample; online (`phase =
"online"`) it is drawn from the balance model. Both models learn in both phases, and
going on online is the same update on a growing replay.

On IQL each sees the others as they were updated before it, in the order value,
balance, temperature, universal policy, critic, target; only the balances that the
universal policy learns by are drawn before their model's step. On AWAC advantages and
targets, too, are of the pair before all of them. For comparison: `state_adaptive =
false` learns one balance for all states; a range of no width is the base with that one
(IQL's with `actor_schedule = "constant"`).

Where we differ from the paper, and what it changes:
- The authors released no AWAC. Here its critic values, at s and at s', actions of the
  pair, with the balance of the balance model, as in their CQL. Other balances there
  were not measured. Their CQL is not here.
- `normalize`, which the recipe for robots turns on, is not in the paper, and its effect
  was not measured.
- Actions that the balance model learns through are clipped to [-1, 1], so that critics
  are asked of actions that there are; theirs may lie beyond. Where half of the data is
  random, returns are -6.94 ± 0.35 and -6.94 ± 0.35, mean balances 3.72 ± 0.11 and
  3.69 ± 0.08 (benchmarks/differences.py).
- Actions are learned in units of the robot's own bounds, or as small steps from where
  the robot is (`action_frame = "delta"`). On benchmarks with actions in [-1, 1] the
  former changes nothing.
"""

from __future__ import annotations

from typing import Literal, SupportsFloat

import torch
from torch import Tensor, nn

from robostack.learner import Batch, LearnerError, Statistics

from ._advantage import Judgement, by_samples, by_values, fit_value
from ._checks import check_reward
from ._codec import Deployed
from ._family import BalanceModel, Family
from ._learner import Inputs, Mean, Rim, adam, make_critics, minimize
from ._losses import cloning_loss, critic_loss, limited_weight
from ._nets import GaussianPolicy, Mlp, polyak_update
from ._random import normal, uniform
from ._settings import Settings
from ._soft import Multiplier, multiplier_loss, policy_loss
from ._together import TogetherLearner

NEEDS_REWARD = True
_RIM = 0.95  # of the range of balances; most beyond mean that critics are exploited


class Config(Settings, frozen=True, forbid_unknown_fields=True):
    """Hyperparameters of FamO2O; the defaults are the paper's for locomotion."""

    base: Literal["iql", "awac"] = "iql"
    phase: Literal["offline", "online"] = "offline"
    least_balance: float = 1.0  # the range should hold the best inverse temperature
    largest_balance: float = 5.0  # of the base
    balance_code: int = 6  # sines and cosines by which a policy sees a balance
    balance_period: int = 5  # updates per update of the balance model
    state_adaptive: bool = True  # or one balance for all states
    target_entropy: float = -0.5  # [nats] of a balance, its range being [-1, 1]
    temperature: float = 1.0  # weight of that entropy, to begin with
    expectile: float = 0.7  # of IQL's value function
    samples: int = 1  # of the policy, for the value of a state in AWAC
    max_weight: float = 100.0  # limit on the exponential advantage weight
    target_rate: float = 0.005  # Polyak averaging of the target critic, per update
    learning_rate: float = 3e-4
    critics: int = 2
    dropout: float = 0.0  # in the universal policy

    def __post_init__(self) -> None:
        """Refuse what no run could mean."""
        if not 0 <= self.least_balance <= self.largest_balance:
            raise LearnerError(
                f"expected 0 <= least_balance <= largest_balance, got "
                f"{self.least_balance} and {self.largest_balance}"
            )
        if self.balance_code < 2 or self.balance_code % 2 or self.balance_period < 1:
            raise LearnerError(
                f"expected an even balance_code and a balance_period of at least 1, "
                f"got {self.balance_code} and {self.balance_period}"
            )
        if not (0 < self.expectile < 1 and 0 <= self.dropout < 1 and self.samples > 0):
            raise LearnerError(
                f"expected 0 < expectile < 1, 0 <= dropout < 1 and samples > 0, got "
                f"{self.expectile}, {self.dropout} and {self.samples}"
            )


class Learner(TogetherLearner[Config]):
    """The networks of FamO2O and their update."""

    def _build(self, statistics: Statistics) -> None:
        spec, config, codec = self.spec, self._config, self._codec
        rate = config.learning_rate
        observed, hidden = spec.observation_size, config.hidden
        self.policy = self._family(observed, spec.action.size)
        self.critic, self.target = make_critics(
            codec, hidden, self._rng, members=config.critics
        )
        self.temperature = Multiplier(config.temperature, self._device)
        self._adam = adam([self.policy.universal, self.critic], rate)
        self._balance_adam = adam([self.policy.balance], rate)
        self._temperature_adam = adam([self.temperature], rate)
        nets: dict[str, nn.Module] = {"policy": self.policy, "critic": self.critic}
        nets |= {"target": self.target, "temperature": self.temperature}
        adams = {"rest": self._adam, "balance": self._balance_adam}
        adams["temperature"] = self._temperature_adam
        if config.base == "iql":
            self.value = Mlp((observed, *hidden, 1), self._rng)
            self._value_adam = adam([self.value], rate)
            nets["value"], adams["value"] = self.value, self._value_adam
        self._adopt(Deployed(codec, self.policy), nets, adams)
        names = ("loss/balance", "balance_entropy", "balance", "balances_at_rim")
        nothing = Mean(torch.zeros((), device=self._device))
        self._seldom = dict.fromkeys(names, nothing)

    def _update(self, batch: Batch) -> dict[str, SupportsFloat]:
        """Take one gradient step on all networks, now and then on the balance model."""
        check_reward(batch)
        inputs, config = self._inputs(batch), self._config
        here = inputs.observation
        qs = self.critic.q(here, inputs.action)
        advantage, value, td_target = self._judge(inputs, qs)
        balance = self._balance(here)
        if self._updates % config.balance_period == 0:
            self._improve_balance(here)
        weight = limited_weight(advantage, balance.squeeze(-1), config.max_weight)
        seen = self.policy.seen(here, balance)
        log_prob = self.policy.universal.log_prob(seen, inputs.action)
        pi_loss, q_loss = cloning_loss(log_prob, weight), critic_loss(qs, td_target)
        minimize(pi_loss + q_loss, self._adam)
        polyak_update(self.target, self.critic, config.target_rate)
        self._updates += 1
        return {
            "loss/critic": Mean(q_loss),
            "loss/policy": Mean(pi_loss),
            "value": Mean(value),
            "advantage": Mean(advantage),
            "weight": Mean(weight),
            "temperature": Mean(self.temperature()),
            "actions_at_rim": Rim(inputs.action),
            **self._seldom,
        }

    def _family(self, observed: int, acted: int) -> Family:
        config, rng = self._config, self._rng
        sizes = (observed + config.balance_code, *config.hidden, acted)
        return Family(
            GaussianPolicy(sizes, rng, dropout=config.dropout),
            BalanceModel(
                (observed, *config.hidden, 1),
                rng,
                low=config.least_balance,
                high=config.largest_balance,
                adaptive=config.state_adaptive,
            ),
            config.balance_code,
        )

    def _judge(self, inputs: Inputs, qs: Tensor) -> Judgement:
        """Return what the base says of the batch; IQL's value function steps first."""
        if self._config.base == "awac":
            critics = self.critic, self.target
            return by_samples(critics, qs, inputs, self._pair, self._config.samples)
        expectile = self._config.expectile
        q, _, _ = fit_value(
            self.value, self.target, inputs, self._value_adam, expectile
        )
        return by_values(self.value, q, inputs)

    def _improve_balance(self, here: Tensor) -> None:
        """Take a gradient step on the balance model, then on its temperature."""
        balance, log_prob = self.policy.balance.draw(here, self._one(here))
        action = self.policy.member(here, balance, self._noise(here.shape[-2]))
        q = self.target.q(here, action).amin(-2)
        loss = policy_loss(q, log_prob, self.temperature().detach())
        minimize(loss, self._balance_adam)
        shortfall = self._config.target_entropy + log_prob
        falling = multiplier_loss(self.temperature(), shortfall)
        minimize(falling, self._temperature_adam)
        low, high = self._config.least_balance, self._config.largest_balance
        self._seldom = {
            "loss/balance": Mean(loss),
            "balance_entropy": Mean(-log_prob),
            "balance": Mean(balance),
            "balances_at_rim": Mean((balance >= low + _RIM * (high - low)).float()),
        }

    @torch.no_grad()
    def _balance(self, here: Tensor) -> Tensor:
        """Return the balances (B, 1) that the universal policy learns by."""
        if self._config.phase == "online":
            return self.policy.balance.draw(here, self._one(here))[0]
        low, high = self._config.least_balance, self._config.largest_balance
        return uniform(self._rng, (*here.shape[:-1], 1), low, high)

    def _pair(self, observation: Tensor) -> Tensor:
        """Return actions (B, A) of the pair, the balance being drawn too."""
        balance, _ = self.policy.balance.draw(observation, self._one(observation))
        return self.policy.member(
            observation, balance, self._noise(observation.shape[-2])
        )

    def _one(self, observation: Tensor) -> Tensor:
        """Return a standard normal number for each of `observation`, (B, 1)."""
        return normal(self._rng, (*observation.shape[:-1], 1))
