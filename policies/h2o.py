"""Hybrid offline-and-online learning, H2O (Niu et al., 2022; arXiv:2206.13464), H2O+.

The dataset is real; the world that is acted in is a simulator that gets the dynamics
wrong somewhere. Half of a batch is real, half simulated.

    classifiers  tell real from simulated transitions; w and u of `_gap.py` follow
    critic       real:       Q_k(s, a) -> y
                 simulated:  the same, each squared error times w
                 and beta * (log sum_sim omega exp Q_k(s, a) - mean_real Q_k(s, a))
                 is kept small: values of pairs are pushed down where the simulator
                 is wrong, and up where data is real
                 y = reward + discount * min_k Q_target(s', a'),  a' ~ policy
    policy       maximizes min_k Q(s, a~) - t log pi(a~ | s),  a~ ~ policy, on both
    target       follows the critic, a little per update

H2O+ (`variant = "h2o_plus"`; Niu et al., 2023; arXiv:2309.12716) does not push. A value
function of the real data alone anchors the target of all rows:

    value        V(s) -> expectile of min_k Q_target(s, a), on real rows
    y            reward + discount * (anchor * V(s')
                     + (1 - anchor) * (min_k Q_target(s', a') - t log pi(a' | s')))

    robostack train h2o --dataset REAL --online sim:WORLD --world WHERE_TO_EVALUATE

Without --online the simulator is the world that the dataset's provenance names.

`trust = false` and `adaptive = false` take w = 1 and omega alike for all pairs. With a
pendulum of too little gravity returns are -730 ± 116 without w, -303 ± 110 without u,
-336 ± 134 with both (benchmarks/claims_h2o.md): w is what it lives by.

Where we differ from the paper, and what it changes:
- Classifiers see standardized states, and of the next state its change, in units of
  the spread of real changes; the authors' see raw states. At the rates that robots are
  controlled at, noise on a state and on the next one hides what is between them.
- Copies of s' are as noisy as the classifiers' inputs (`copy_noise`); the authors'
  code makes them as far apart as states are. `next_state = "state"` and
  `copy_noise = 1` are the authors', in standardized units.
  Rank correlation of u with the true error of a pendulum's simulator at twice the
  gravity: ours 0.93 ± 0.03, the authors' 0.06 ± 0.22, states with our copies
  0.59 ± 0.21, changes with theirs 0.26 ± 0.09 (benchmarks/claims_h2o.md).
- Classifiers learn from the batch of the critic, 128 + 128 by default, not from one of
  their own of 256 + 256. It does not show in the rank correlation above: 0.93 ± 0.03 of
  64 + 64, and 0.94 ± 0.03 of 256 + 256 (benchmarks/differences.py).
- u is at least 1e-6, not 1e-45, which is 0 where denormals are. Both are no push beside
  pairs of any gap; where a whole batch has none, omega is the same for all its pairs.
  The bracket of the push is not cut off at 1,000 either way, as in the paper's formula;
  whether it would ever be was not measured.
- What ended is shown to the classifiers as if nothing had changed, and not with its s',
  which logs need not have. A HalfCheetah or a pendulum never ends; elsewhere it was not
  measured.
- The first 1,000 steps in the simulator are random (`random_steps` of the recipes), the
  authors' are of the policy. Not measured.
- A step of the simulator and an update take turns, in place of 1,000 of each, so that
  its newest rows are always of the policy as it is. Returns of a real pendulum are
  -336 ± 134, theirs -292 ± 158 (4 seeds; benchmarks/claims_h2o.md).
- The policy's spread, before tanh, begins at 1, theirs at 0.37: -336 ± 134 and
  -355 ± 154 (there).
- H2O+ takes its w from the same classifiers; its authors also offer an estimator from a
  learned model. It is not cloned before. Neither was measured.
- Actions are learned in units of the robot's own bounds, or as small steps from where
  the robot is (`action_frame = "delta"`). On benchmarks with actions in [-1, 1] the
  former changes nothing.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, SupportsFloat

import numpy as np
import torch
from torch import Tensor, nn

from robostack.learner import Batch, LearnerError, Statistics

from ._checks import check_reward
from ._gap import Discriminators, NextState, Transitions, gap, trust
from ._learner import Inputs, Mean, Rim, adam, minimize
from ._losses import value_loss
from ._nets import Mlp, polyak_update, squash
from ._soft import SoftConfig, SoftLearner

NEEDS_REWARD = True
ONLINE = True  # learns by acting, in the simulator
HYBRID = True  # beside a dataset; the simulator is the world that it names, unless told


class Config(SoftConfig, frozen=True, forbid_unknown_fields=True):
    """Hyperparameters of H2O; the defaults are the authors' for locomotion."""

    variant: Literal["h2o", "h2o_plus"] = "h2o"
    push: float = 0.01  # weight of the push, beta; h2o_plus has none
    trust: bool = True  # simulated errors weigh w; else 1
    adaptive: bool = True  # pushed-down pairs weigh omega; else all alike
    input_noise: float = 0.1  # of the classifiers [standard deviations]
    copies: int = 10  # of the simulator's s', for u
    copy_noise: float = 0.1  # of these copies [standard deviations]
    next_state: NextState = "change"  # as the classifiers see it
    expectile: float = 0.5  # h2o_plus: of V
    anchor: float = 0.5  # h2o_plus: weight of V in the target
    entropy_backup: bool = False  # the entropy to come counts; always in h2o_plus

    def __post_init__(self) -> None:
        """Refuse what no run could mean."""
        super().__post_init__()
        if not (self.copies > 0 and min(self.input_noise, self.copy_noise) >= 0):
            raise LearnerError(
                f"expected copies > 0 and noise of at least 0, got {self.copies}, "
                f"{self.input_noise} and {self.copy_noise}"
            )
        if not (0 < self.expectile < 1 and 0 <= self.anchor <= 1 and self.push >= 0):
            raise LearnerError(
                f"expected 0 < expectile < 1, 0 <= anchor <= 1 and push >= 0, got "
                f"{self.expectile}, {self.anchor} and {self.push}"
            )


class Rows(NamedTuple):
    """Which rows of a batch are from where."""

    real: Tensor  # (R,) indices
    simulated: Tensor  # (S,) indices


def td_loss(qs: Tensor, td_target: Tensor, rows: Rows, weight: Tensor) -> Tensor:
    """Squared TD error: mean of real rows plus weighted mean of others.

    Args:
        qs: (K, B), summed over.
        td_target: (B,).
        rows: of the batch.
        weight: (S,) of the simulated rows.
    """
    error = (qs - td_target).square()
    real, simulated = error[:, rows.real], weight * error[:, rows.simulated]
    return (real.mean(-1) + simulated.mean(-1)).sum()


def push_loss(qs: Tensor, rows: Rows, share: Tensor) -> Tensor:
    """Log sum omega exp Q of simulated pairs, less mean Q of real ones.

    Args:
        qs: (K, B), summed over.
        rows: of the batch.
        share: (S,) omega.
    """
    soft_max = (qs[:, rows.simulated] + share.log()).logsumexp(-1)
    return (soft_max - qs[:, rows.real].mean(-1)).sum()


class Learner(SoftLearner[Config]):
    """The networks of H2O and their update."""

    def _build(self, statistics: Statistics) -> None:
        super()._build(statistics)
        spec, config = self.spec, self._config
        self.classifiers = self._make_classifiers(statistics)
        self.value: Mlp | None = None
        added: dict[str, nn.Module] = {"classifiers": self.classifiers}
        if config.variant == "h2o_plus":
            self.value = Mlp((spec.observation_size, *config.hidden, 1), self._rng)
            added["value"] = self.value
        self._nets.update(added)
        self._optimizers |= {
            name: adam([net], config.learning_rate) for name, net in added.items()
        }

    def _make_classifiers(self, statistics: Statistics) -> Discriminators:
        config = self._config
        mean, std = self._codec.standard(statistics)
        return Discriminators(
            config.hidden,
            self.spec.action.size,
            self._rng,
            mean=mean,
            std=std,
            next_state=config.next_state,
        )

    def _update(self, batch: Batch) -> dict[str, SupportsFloat]:
        """Take a gradient step on classifiers, critic and policy, in this order."""
        check_reward(batch)
        inputs, config = self._inputs(batch), self._config
        rows = self._rows(batch)
        told = self._tell_apart(inputs, rows)
        ratio, ratios = self._ratios(inputs, rows)
        found = gap(ratios)
        metrics: dict[str, SupportsFloat] = {}
        if self.value is not None:
            fit = self._improve_value(self.value, inputs, rows)
            metrics["loss/value"] = Mean(fit)
        qs = self.critic.q(inputs.observation, inputs.action)
        weight = trust(ratio) if config.trust else torch.ones_like(ratio)
        td = td_loss(qs, self._td_target(inputs), rows, weight)
        loss = td
        if config.variant == "h2o":
            push = self._push(qs, rows, found)
            loss = td + config.push * push
            metrics["push"] = Mean(push)
        minimize(loss, self._critic_adam)
        if self._updates % config.policy_period == 0:
            here = inputs.observation
            noise = self._noise(len(here))
            self._improve(here, *squash(*self.policy.moments(here), noise))
        polyak_update(self.target, self.critic, config.target_rate)
        self._updates += 1
        return metrics | {
            "loss/critic": Mean(td),
            "loss/classifiers": Mean(told),
            "gap": Mean(found),
            "trust": Mean(weight),
            "q_real": Mean(qs[:, rows.real]),
            "q_simulated": Mean(qs[:, rows.simulated]),
            "temperature": Mean(self.multipliers["temperature"]()),
            "actions_at_rim": Rim(inputs.action),
            **self._seldom,
        }

    def _rows(self, batch: Batch) -> Rows:
        """Return which rows are from where; raise if all are from the same."""
        lived = np.zeros(0) if batch.lived is None else batch.lived
        places = np.flatnonzero(lived == 0), np.flatnonzero(lived)
        if not all(map(len, places)):
            raise LearnerError(
                "expected rows of a dataset (lived = 0) and of a simulator (lived = 1) "
                "in a batch; train h2o with both --dataset and --online sim:WORLD"
            )
        return Rows(*(torch.from_numpy(x).to(self._device) for x in places))

    def _tell_apart(self, inputs: Inputs, rows: Rows) -> Tensor:
        """Take a gradient step on the classifiers."""
        transitions = _transitions(inputs)
        self.classifiers.watch(Transitions(*(x[rows.real] for x in transitions)))
        simulated = torch.zeros_like(inputs.reward)
        simulated[rows.simulated] = 1.0
        noise = self._config.input_noise
        loss = self.classifiers.loss(transitions, simulated, noise, self._rng)
        minimize(loss, self._optimizers["classifiers"])
        return loss

    def _ratios(self, inputs: Inputs, rows: Rows) -> tuple[Tensor, Tensor]:
        """Return log-ratios of simulated rows (S,), and of copies of them (N, S)."""
        config = self._config
        simulated = Transitions(*(x[rows.simulated] for x in _transitions(inputs)))
        return self.classifiers.ratios(
            simulated, config.copies, config.copy_noise, self._rng
        )

    def _improve_value(self, value: Mlp, inputs: Inputs, rows: Rows) -> Tensor:
        """Take a gradient step on V, of real rows alone."""
        here, action = inputs.observation[rows.real], inputs.action[rows.real]
        with torch.no_grad():
            q = self.target.q(here, action).amin(0)
        loss = value_loss(q, value(here).squeeze(-1), self._config.expectile)
        minimize(loss, self._optimizers["value"])
        return loss

    @torch.no_grad()
    def _td_target(self, inputs: Inputs) -> Tensor:
        """Return the regression target (B,) of the critics."""
        after = inputs.observations[len(inputs.reward) :]
        action, log_prob = squash(*self.policy.moments(after), self._noise(len(after)))
        return inputs.td_target(self._future(after, action, log_prob))

    def _future(self, after: Tensor, action: Tensor, log_prob: Tensor) -> Tensor:
        if self.value is None:
            return super()._future(after, action, log_prob)
        entropy = -self.multipliers["temperature"]() * log_prob
        anchor = self.value(after).squeeze(-1)
        return torch.lerp(
            self._least(after, action) + entropy, anchor, self._config.anchor
        )

    def _push(self, qs: Tensor, rows: Rows, gaps: Tensor) -> Tensor:
        if not self._config.adaptive:
            gaps = torch.ones_like(gaps)
        return push_loss(qs, rows, gaps / gaps.sum())


def _transitions(inputs: Inputs) -> Transitions:
    """Return what happened; nothing, where an episode terminated."""
    here, after = inputs.observations.chunk(2)
    goes_on = inputs.discount[:, None] > 0
    return Transitions(here, inputs.action, torch.where(goes_on, after, here))
