"""Conservative Q-learning, as CQL and Cal-QL share it.

    critic   TD error + alpha * (log sum_a exp Q_k(s, a) - Q_k(s, a_data))
    policy   that of soft actor-critic; cloning first, for `cloning_steps`

The sum over all actions (equation 4 of arXiv:2006.04779) is estimated by importance
sampling from three proposals, `samples` actions each (appendix F):

    log sum_i exp(Q(s, a_i) - log p(a_i)),   a_i ~ uniform, pi(. | s), pi(. | s')

All of them, and the action of the data, pass the critics as one batch, on a processor
for some states at a time: what does not leave its cache is computed faster. Where an
episode terminated there is no s', and the third proposal is pi(. | s) again.

The gradient of that sum is a mean of gradients, weighted by softmax(Q - log p). With
`gradient_samples` it is taken at so many actions, drawn by these weights: without bias,
with more noise, and, at 4 of 30, at half the work.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple, SupportsFloat, TypeVar

import torch
from torch import Tensor

from robostack.learner import Batch, LearnerError

from ._checks import check_reward
from ._learner import Inputs, Mean, Rim, minimize, minimize_sum
from ._losses import cloning_loss, critic_loss
from ._nets import polyak_update, squash, squashed_density
from ._soft import SoftConfig, SoftLearner, multiplier_loss

_CACHED_ROWS = 2048  # whose activations stay in a processor's cache, 2 x 256 wide


class ConservativeConfig(SoftConfig, frozen=True, forbid_unknown_fields=True):
    """What CQL and Cal-QL have to be told; the defaults are CQL's for locomotion."""

    alpha: float = 5.0  # weight of the penalty
    gap: float | None = None  # penalty to aim at, alpha then scaled by a multiplier
    samples: int = 10  # actions per proposal
    gradient_samples: int = 0  # of them, that the gradient is taken at; 0: all
    max_backup: bool = False  # the TD target is of the best of `samples` next actions
    cloning_steps: int = 0  # first updates, in which the policy clones
    entropy_backup: bool = False  # the entropy to come is part of the value
    policy_learning_rate: float = 1e-4  # and of the temperature

    def __post_init__(self) -> None:
        """Refuse what no run could mean."""
        super().__post_init__()
        if not (self.samples > 0 and self.gradient_samples >= 0 and self.alpha >= 0):
            raise LearnerError(
                f"expected samples > 0, gradient_samples >= 0 and alpha >= 0, got "
                f"{self.samples}, {self.gradient_samples} and {self.alpha}"
            )


AnyConservative = TypeVar("AnyConservative", bound=ConservativeConfig)


class Proposals(NamedTuple):
    """Actions to estimate the soft maximum of a critic by."""

    action: Tensor  # (3N, B, A): uniform, of pi(. | s), of pi(. | s')
    log_density: Tensor  # (3N, B)


class Part(NamedTuple):
    """Some states of a batch, B of them."""

    observation: Tensor  # (B, O)
    action: Tensor  # (B, A), logged there
    proposals: Proposals  # (3N, B, ...)
    td_target: Tensor  # (B,)
    bound: Tensor | None  # (B,), least worth of the policy's proposals


class Ratings(NamedTuple):
    """What (K,) critics said of B states."""

    soft_max: Tensor  # (K, B)
    logged: Tensor  # (K, B)


def soft_maximum(q: Tensor, log_density: Tensor) -> Tensor:
    """Return log sum_i exp(Q_i - log p_i), (K, B), of `q` (K, N, B)."""
    return (q - log_density).logsumexp(-2)


def penalty(soft_max: Tensor, logged: Tensor) -> Tensor:
    """Return how far (K,) critics rate the soft maximum above the data; (K, B) both."""
    return (soft_max - logged).mean(-1)


class ConservativeLearner(SoftLearner[AnyConservative]):
    """The networks of CQL and their update."""

    def _begin_multipliers(self) -> dict[str, float]:
        penalty = {} if self._config.gap is None else {"penalty": 1.0}
        return super()._begin_multipliers() | penalty

    def _update(self, batch: Batch) -> dict[str, SupportsFloat]:
        """Take one gradient step on critic, policy and multipliers.

        As in the authors' code, each sees the others as they were before.
        """
        check_reward(batch)
        bound = self._bound(batch)
        inputs, config = self._inputs(batch), self._config
        mean, log_std = self.policy.moments(inputs.observations)
        with torch.no_grad():
            td_target = self._td_target(inputs, mean, log_std)
            proposals = self._proposals(inputs, mean, log_std)
        self._improve_policy(inputs, mean, log_std)
        weight, ratings = self._weight(), list[Ratings]()
        losses = (
            self._critic_loss(part, weight, len(td_target), ratings)
            for part in self._parts(inputs, proposals, td_target, bound)
        )
        minimize_sum(losses, self._critic_adam)
        soft_max = torch.cat([rated.soft_max for rated in ratings], -1)
        logged = torch.cat([rated.logged for rated in ratings], -1)
        gap = penalty(soft_max, logged)
        self._follow(gap)
        polyak_update(self.target, self.critic, config.target_rate)
        self._updates += 1
        return {
            "loss/critic": Mean(critic_loss(logged, td_target)),
            "penalty": Mean(gap),
            "q": Mean(logged),
            **{name: Mean(m()) for name, m in self.multipliers.items()},
            "actions_at_rim": Rim(inputs.action),
            **self._seldom,
        }

    def _parts(
        self,
        inputs: Inputs,
        proposals: Proposals,
        td_target: Tensor,
        bound: Tensor | None,
    ) -> Iterator[Part]:
        """Yield the batch, a few states at a time where the device's cache is small."""
        size = len(td_target)
        rows = 3 * self._config.samples + 1  # per state
        many = size if self._device.type != "cpu" else max(1, _CACHED_ROWS // rows)
        for begin in range(0, size, many):
            some = slice(begin, begin + many)
            yield Part(
                inputs.observation[some],
                inputs.action[some],
                Proposals(proposals.action[:, some], proposals.log_density[:, some]),
                td_target[some],
                None if bound is None else bound[some],
            )

    def _critic_loss(
        self, part: Part, weight: Tensor, size: int, ratings: list[Ratings]
    ) -> Tensor:
        """Return what `part` adds to the loss of `size` states; note its ratings."""
        if self._config.gradient_samples:
            soft_max, logged = self._sampled_soft_maximum(part)
        else:
            soft_max, logged = self._soft_maximum(part)
        ratings.append(Ratings(soft_max.detach(), logged.detach()))
        loss = critic_loss(logged, part.td_target)
        loss = loss + weight * penalty(soft_max, logged).sum()
        return loss * (len(part.td_target) / size)

    def _bound(self, batch: Batch) -> Tensor | None:
        """Return the least worth (B,) of the policy's proposals, if there is one."""
        return None

    def _td_target(self, inputs: Inputs, mean: Tensor, log_std: Tensor) -> Tensor:
        """Return the regression target of the critic (B,)."""
        size, config = len(inputs.reward), self._config
        after, mean, log_std = inputs.observations[size:], mean[size:], log_std[size:]
        if not config.max_backup:
            action, log_prob = squash(mean, log_std, self._noise(size))
            future = self._future(after, action, log_prob)
        else:
            noise = self._noise(config.samples, size)
            action, log_prob = squash(mean, log_std, noise)
            many = after.expand(config.samples, -1, -1).flatten(0, 1)
            future = self._future(many, action.flatten(0, 1), log_prob.flatten())
            future = future.view(config.samples, size).amax(0)
        return inputs.td_target(future)

    def _proposals(self, inputs: Inputs, mean: Tensor, log_std: Tensor) -> Proposals:
        """Draw actions to estimate the soft maximum at each observation by."""
        size, samples = len(inputs.reward), self._config.samples
        here, after = mean[:size], mean[size:]
        here_std, after_std = log_std[:size], log_std[size:]
        goes_on = inputs.discount[:, None] > 0
        centre = torch.cat((here, torch.where(goes_on, after, here)))
        spread = torch.cat((here_std, torch.where(goes_on, after_std, here_std)))
        drawn, log_prob = squash(centre, spread, self._noise(samples, 2 * size))
        uniform = torch.empty_like(drawn[:, :size])
        uniform.uniform_(-1.0, 1.0, generator=self._rng)
        flat = torch.full_like(log_prob[:, :size], -uniform.shape[-1] * math.log(2.0))
        return Proposals(
            torch.cat((uniform, *drawn.chunk(2, dim=1))),
            torch.cat((flat, *log_prob.chunk(2, dim=1))),
        )

    def _improve_policy(self, inputs: Inputs, mean: Tensor, log_std: Tensor) -> None:
        size = len(inputs.reward)
        mean, log_std = mean[:size], log_std[:size]
        action, log_prob = squash(mean, log_std, self._noise(size))
        cloning = None
        if self._updates < self._config.cloning_steps:
            cloning = cloning_loss(squashed_density(mean, log_std, inputs.action))
        self._improve(inputs.observation, action, log_prob, cloning)

    def _soft_maximum(self, part: Part) -> tuple[Tensor, Tensor]:
        """Return the soft maximum at each observation, and Q of the data; (K, B)."""
        every = torch.cat((part.action[None], part.proposals.action))
        q = self._values(part.observation, every)
        logged, sampled = q[:, 0], self._calibrated(q[:, 1:], part.bound)
        return soft_maximum(sampled, part.proposals.log_density), logged

    def _sampled_soft_maximum(self, part: Part) -> tuple[Tensor, Tensor]:
        """Return the same, whose gradient is that at some of the actions."""
        here, (proposed, log_density) = part.observation, part.proposals
        with torch.no_grad():
            q = self._calibrated(self._values(here, proposed), part.bound)
            value = soft_maximum(q, log_density)
            weight = (q - log_density).softmax(-2)
            index = draw(weight, self._config.gradient_samples, self._rng)  # (K, m, B)
        states = torch.arange(index.shape[-1], device=index.device)
        logged = part.action.expand(len(index), 1, -1, -1)
        q = self._values(here, torch.cat((logged, proposed[index, states]), dim=1))
        mean = self._calibrated(q[:, 1:], part.bound, index).mean(1)
        return value + mean - mean.detach(), q[:, 0]

    def _values(self, observation: Tensor, actions: Tensor) -> Tensor:
        """Return Q (K, N, B) of `actions` (N, B, A), or of each critic's own."""
        here = observation.expand(*actions.shape[:-1], -1)
        q = self.critic.q(here.flatten(-3, -2), actions.flatten(-3, -2))
        return q.view(len(q), *actions.shape[-3:-1])

    def _calibrated(
        self, q: Tensor, bound: Tensor | None, index: Tensor | None = None
    ) -> Tensor:
        """Return `q` (K, N, B) of the proposals numbered `index`, None: of all."""
        if bound is None:
            return q
        if index is None:
            index = torch.arange(q.shape[1], device=q.device)[:, None]
        return calibrate(q, bound, index >= self._config.samples)

    def _weight(self) -> Tensor:
        """Return the weight () of the penalty."""
        alpha = torch.tensor(self._config.alpha, device=self._device)
        if self._config.gap is not None:
            alpha = alpha * self.multipliers["penalty"]().detach()
        return alpha

    def _follow(self, gap: Tensor) -> None:
        """Let the penalty's multiplier, if there is one, follow gaps (K,)."""
        if self._config.gap is not None:
            excess = self._config.alpha * (gap - self._config.gap)
            loss = multiplier_loss(self.multipliers["penalty"](), excess)
            minimize(loss, self._adams["penalty"])


def calibrate(q: Tensor, bound: Tensor, own: Tensor) -> Tensor:
    """Return `q` (K, N, B), at least `bound` (B,) for the policy's `own` actions.

    Section 4 of arXiv:2303.05479; uniform actions stay.
    """
    return torch.where(own, torch.maximum(q, bound), q)


def draw(weight: Tensor, count: int, rng: torch.Generator) -> Tensor:
    """Return `count` indices (K, count, B), drawn by `weight` (K, N, B), sum 1.

    Systematic: how often one is drawn differs by less than 1 from count * weight.
    """
    edges = weight.cumsum(-2).transpose(-2, -1).contiguous()  # (K, B, N)
    start = torch.rand((*edges.shape[:2], 1), generator=rng, device=weight.device)
    steps = torch.arange(count, device=weight.device)
    drawn = torch.searchsorted(edges, (start + steps) / count)
    return drawn.clamp_(max=weight.shape[-2] - 1).transpose(-2, -1)
