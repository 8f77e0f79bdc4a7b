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
from ._random import uniform
from ._soft import SoftConfig, SoftLearner, multiplier_loss
from ._together import TogetherLearner

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

    def of(self, states: slice) -> Proposals:
        """Return those at some of the states."""
        return Proposals(self.action[..., states, :], self.log_density[..., states])


class Part(NamedTuple):
    """Some states of a batch, B of them."""

    observation: Tensor  # (B, O)
    action: Tensor  # (B, A), logged there
    proposals: Proposals  # (3N, B, ...)
    td_target: Tensor  # (B,)
    bound: Tensor | None  # (B,), least worth of the policy's proposals
    start: Tensor | None  # (K, B), 0 to 1, where drawing some of the actions begins


class Ratings(NamedTuple):
    """What (K,) critics said of B states."""

    soft_max: Tensor  # (K, B)
    logged: Tensor  # (K, B)


def soft_maximum(q: Tensor, log_density: Tensor) -> Tensor:
    """Return log sum_i exp(Q_i - log p_i), (..., K, B).

    Args:
        q: (..., K, N, B).
        log_density: (..., N, B).
    """
    return _above(q, log_density).logsumexp(-2)


def _above(q: Tensor, log_density: Tensor) -> Tensor:
    return q - log_density.unsqueeze(-3)


def penalty(soft_max: Tensor, logged: Tensor) -> Tensor:
    """Return how far critics (..., K) rate the soft maximum above the data.

    Both are (..., K, B).
    """
    return (soft_max - logged).mean(-1)


class ConservativeLearner(
    SoftLearner[AnyConservative], TogetherLearner[AnyConservative]
):
    """The networks of CQL and their update."""

    _heavy = True

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
            self._critic_loss(part, weight, td_target.shape[-1], ratings)
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
        size = td_target.shape[-1]
        rows = math.prod(self._lead) * (3 * self._config.samples + 1)  # per state
        start = None
        if self._config.gradient_samples:
            shape = (*self._lead, self._config.critics, size)
            start = uniform(self._rng, shape, 0.0, 1.0)
        many = size if self._device.type != "cpu" else max(1, _CACHED_ROWS // rows)
        for begin in range(0, size, many):
            some = slice(begin, begin + many)
            yield Part(
                inputs.observation[..., some, :],
                inputs.action[..., some, :],
                proposals.of(some),
                td_target[..., some],
                None if bound is None else bound[..., some],
                None if start is None else start[..., some],
            )

    def _critic_loss(
        self, part: Part, weight: Tensor, size: int, ratings: list[Ratings]
    ) -> Tensor:
        """Return what `part` adds to the loss of `size` states; note its ratings."""
        if part.start is None:
            soft_max, logged = self._soft_maximum(part)
        else:
            soft_max, logged = self._sampled_soft_maximum(part, part.start)
        ratings.append(Ratings(soft_max.detach(), logged.detach()))
        loss = critic_loss(logged, part.td_target)
        loss = loss + weight * penalty(soft_max, logged).sum(-1)
        return loss * (part.td_target.shape[-1] / size)

    def _bound(self, batch: Batch) -> Tensor | None:
        """Return the least worth (B,) of the policy's proposals, if there is one."""
        return None

    def _td_target(self, inputs: Inputs, mean: Tensor, log_std: Tensor) -> Tensor:
        """Return the regression target of the critic (B,)."""
        size, samples = inputs.reward.shape[-1], self._config.samples
        after, mean, log_std = (
            both[..., size:, :] for both in (inputs.observations, mean, log_std)
        )
        if not self._config.max_backup:
            action, log_prob = squash(mean, log_std, self._noise(size))
            return inputs.td_target(self._future(after, action, log_prob))
        noise = self._noise(samples, size)
        moments = mean.unsqueeze(-3), log_std.unsqueeze(-3)
        action, log_prob = squash(*moments, noise)
        many = after.unsqueeze(-3).expand(*action.shape[:-1], -1).flatten(-3, -2)
        future = self._future(many, action.flatten(-3, -2), log_prob.flatten(-2))
        each = torch.unflatten(future, -1, (samples, size))
        return inputs.td_target(each.amax(-2))

    def _proposals(self, inputs: Inputs, mean: Tensor, log_std: Tensor) -> Proposals:
        """Draw actions to estimate the soft maximum at each observation by."""
        size, samples = inputs.reward.shape[-1], self._config.samples
        goes_on = inputs.discount.unsqueeze(-1) > 0

        def proposed(moment: Tensor) -> Tensor:
            here, after = moment.chunk(2, dim=-2)
            both = torch.cat((here, torch.where(goes_on, after, here)), dim=-2)
            return both.unsqueeze(-3)

        noise = self._noise(samples, 2 * size)
        drawn, log_prob = squash(proposed(mean), proposed(log_std), noise)
        anything = uniform(self._rng, drawn[..., :size, :].shape, -1.0, 1.0)
        flat = -drawn.shape[-1] * math.log(2.0)
        flat_log_prob = torch.full_like(log_prob[..., :size], flat)
        return Proposals(
            torch.cat((anything, *drawn.chunk(2, dim=-2)), dim=-3),
            torch.cat((flat_log_prob, *log_prob.chunk(2, dim=-1)), dim=-2),
        )

    def _improve_policy(self, inputs: Inputs, mean: Tensor, log_std: Tensor) -> None:
        size = inputs.reward.shape[-1]
        mean, log_std = mean[..., :size, :], log_std[..., :size, :]
        action, log_prob = squash(mean, log_std, self._noise(size))
        cloning = None
        if self._updates < self._config.cloning_steps:
            cloning = cloning_loss(squashed_density(mean, log_std, inputs.action))
        self._improve(inputs.observation, action, log_prob, cloning)

    def _soft_maximum(self, part: Part) -> tuple[Tensor, Tensor]:
        """Return the soft maximum at each observation, and Q of the data; (K, B)."""
        logged = part.action.unsqueeze(-3)
        every = torch.cat((logged, part.proposals.action), dim=-3)
        q = self._values(part.observation, every)
        sampled = self._calibrated(q[..., 1:, :], part.bound)
        return soft_maximum(sampled, part.proposals.log_density), q[..., 0, :]

    def _sampled_soft_maximum(self, part: Part, start: Tensor) -> tuple[Tensor, Tensor]:
        """Return the same, whose gradient is that at some of the actions."""
        here, (proposed, log_density) = part.observation, part.proposals
        with torch.no_grad():
            q = self._calibrated(self._values(here, proposed), part.bound)
            value = soft_maximum(q, log_density)
            weight = _above(q, log_density).softmax(-2)
            index = draw(weight, self._config.gradient_samples, start)  # (K, m, B)
        every = torch.cat((part.action.unsqueeze(-3), proposed), dim=-3)
        numbers = torch.cat((torch.zeros_like(index[..., :1, :]), index + 1), dim=-2)
        own = every.unsqueeze(-4).take_along_dim(numbers.unsqueeze(-1), dim=-3)
        q = self._values(here, own)
        mean = self._calibrated(q[..., 1:, :], part.bound, index).mean(-2)
        return value + mean - mean.detach(), q[..., 0, :]

    def _values(self, observation: Tensor, actions: Tensor) -> Tensor:
        """Return Q (..., K, N, B) at `observation` (..., B, O).

        Of `actions` (..., N, B, A), or of each critic's own (..., K, N, B, A).
        """
        here = observation
        while here.dim() < actions.dim():
            here = here.unsqueeze(-3)
        here = here.expand(*actions.shape[:-1], -1)
        q = self.critic.q(here.flatten(-3, -2), actions.flatten(-3, -2))
        return torch.unflatten(q, -1, actions.shape[-3:-1])

    def _calibrated(
        self, q: Tensor, bound: Tensor | None, index: Tensor | None = None
    ) -> Tensor:
        """Return `q` (..., K, N, B) of the proposals numbered `index`, None: of all."""
        if bound is None:
            return q
        if index is None:
            index = torch.arange(q.shape[-2], device=q.device).unsqueeze(-1)
        return calibrate(q, bound, index >= self._config.samples)

    def _weight(self) -> Tensor:
        """Return the weight () of the penalty."""
        alpha = torch.tensor(self._config.alpha, device=self._device)
        if self._config.gap is not None:
            alpha = alpha * self.multipliers["penalty"]().detach()
        return alpha

    def _follow(self, gap: Tensor) -> None:
        """Let the penalty's multiplier, if there is one, follow gaps (..., K)."""
        if self._config.gap is not None:
            excess = self._config.alpha * (gap - self._config.gap)
            loss = multiplier_loss(self.multipliers["penalty"](), excess)
            minimize(loss, self._adams["penalty"])


def calibrate(q: Tensor, bound: Tensor, own: Tensor) -> Tensor:
    """Return `q` (..., K, N, B), at least `bound` (..., B) for `own` actions of pi.

    Section 4 of arXiv:2303.05479; uniform actions stay.
    """
    return torch.where(own, torch.maximum(q, bound[..., None, None, :]), q)


def draw(weight: Tensor, count: int, start: Tensor) -> Tensor:
    """Return indices (..., count, B), drawn by `weight` (..., N, B), whose sum is 1.

    Systematic: how often one is drawn differs by less than 1 from count * weight, by
    chance as `start` (..., B) is, from within 0 and 1.
    """
    edges = weight.cumsum(-2).transpose(-2, -1).contiguous()  # (..., B, N)
    steps = torch.arange(count, device=weight.device)
    drawn = torch.searchsorted(edges, (start.unsqueeze(-1) + steps) / count)
    return drawn.clamp_(max=weight.shape[-2] - 1).transpose(-2, -1)
