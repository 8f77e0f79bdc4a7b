"""Proximal policy optimization (Schulman et al., 2017; arXiv:1707.06347), in parts.

    ratio       rho = pi(a | s) / pi_old(a | s)
    policy      maximizes E[min(rho A, clip(rho, 1 - e, 1 + e) A)]        equation 7
    advantage   A_t = delta_t + gamma lambda A_(t+1)                      equation 11
                delta_t = r_t + discount_t V(s_(t+1)) - V(s_t)
    value       V(s) -> A + V_old(s), at most e from V_old(s) for what it gains

A rollout is a `Batch` whose transitions stand in the order in which they happened, all
drawn from the policy as it is, episodes end to end. Where one transition's next
observation is not the next one's observation, an episode ended: with discount 0 if it
terminated, else the value of what comes next stands for it. So the order is all that
on-policy learning asks of a loop, beyond `update(batch)`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, SupportsFloat

import torch
from torch import Tensor, nn

from robostack.learner import LearnerError

from ._gaussian import BoundedGaussianPolicy, density, entropy
from ._learner import Inputs, Mean, adam
from ._nets import Mlp
from ._settings import Settings

_SMALL = 1e-8
ADAM_EPS = 1e-5  # as in the authors' code of Uni-O4, and most others'


class PpoConfig(Settings, frozen=True, forbid_unknown_fields=True):
    """What learning from rollouts has to be told."""

    clip: float = 0.2  # on the ratio; online
    trace: float = 0.95  # lambda, of the advantages
    epochs: int = 10  # times that a rollout is learned from
    minibatch: int = 64
    entropy: float = 0.0  # weight of the entropy
    value_clip: bool = True  # keep values near those before the rollout
    max_gradient: float = 0.5  # limit on the norm of gradients
    schedule: Literal["linear", "constant"] = "linear"  # of rates and clip, to 0
    policy_learning_rate: float = 3e-4  # online
    value_learning_rate: float = 3e-4  # online

    def __post_init__(self) -> None:
        """Refuse what no run could mean."""
        if not (self.clip > 0 and 0 <= self.trace <= 1):
            raise LearnerError(
                f"expected clip > 0 and 0 <= trace <= 1, got {self.clip} and "
                f"{self.trace}"
            )
        if not (self.epochs > 0 and self.minibatch > 0):
            raise LearnerError(
                f"expected epochs > 0 and minibatch > 0, got {self.epochs} and "
                f"{self.minibatch}"
            )


class Rollout(NamedTuple):
    """What is learned from; T steps."""

    observation: Tensor  # (T, O)
    action: Tensor  # (T, A), within [-1, 1]
    log_prob: Tensor  # (T,) when it was drawn
    value: Tensor  # (T,) then
    advantage: Tensor  # (T,)


def clipped_loss(ratio: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """Negative clipped surrogate; both (..., B)."""
    limited = ratio.clamp(1.0 - clip, 1.0 + clip)
    return -torch.minimum(ratio * advantage, limited * advantage).mean(-1).sum()


def value_loss(value: Tensor, before: Tensor, target: Tensor, clip: float) -> Tensor:
    """Squared error, the larger of that and of `value` within `clip` of `before`."""
    near = before + (value - before).clamp(-clip, clip)
    worse = torch.maximum((value - target).square(), (near - target).square())
    return 0.5 * worse.mean(-1).sum()


def standardized(advantage: Tensor) -> Tensor:
    """Return `advantage` (..., B) with mean 0 and spread 1 over the batch."""
    centred = advantage - advantage.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True).sqrt() + _SMALL)


def follows(observation: Tensor, after: Tensor) -> Tensor:
    """Say where (T,) the next row goes on from this one; never at the last."""
    same = (after[:-1] == observation[1:]).all(-1)
    return torch.cat((same, same.new_zeros(1)))


def discounted(term: Tensor, factor: Tensor) -> Tensor:
    """Return x (T,) with x_t = term_t + factor_t * x_(t+1), by doubling."""
    shift = 1
    while shift < len(term):
        beyond = term.new_zeros(shift)
        term = term + factor * torch.cat((term[shift:], beyond))
        factor = factor * torch.cat((factor[shift:], beyond))
        shift *= 2
    return term


def advantages(inputs: Inputs, values: Tensor, trace: float) -> Tensor:
    """Return generalized advantages (T,); `values` (2T,) of present and next states."""
    here, after = values.chunk(2)
    delta = inputs.td_target(after) - here
    goes_on = follows(*inputs.observations.chunk(2))
    return discounted(delta, inputs.discount * trace * goes_on)


@torch.no_grad()
def limit(gradients: Sequence[Tensor], most: float, *, lead: int = 0) -> None:
    """Scale gradients to a norm of at most `most`, for each member along `lead` axes.

    Every gradient has these leading axes, so that members do not curb one another.
    """
    squares = [g.square().flatten(lead).sum(-1) for g in gradients]
    norm = torch.stack(squares).sum(0).sqrt()
    scale = (most / (norm + _SMALL)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(scale.view(*scale.shape, *[1] * (gradient.dim() - lead)))


def descend(
    loss: Tensor, optimizer: torch.optim.Optimizer, most: float, *, lead: int = 0
) -> None:
    """Take a step down the gradient of `loss`, limited to a norm of `most`."""
    params = [p for group in optimizer.param_groups for p in group["params"]]
    gradients = torch.autograd.grad(loss, params)
    limit(gradients, most, lead=lead)
    for param, gradient in zip(params, gradients, strict=True):
        param.grad = gradient
    optimizer.step()


def ppo_adam(net: nn.Module, learning_rate: float) -> torch.optim.Adam:
    """Return Adam as PPO uses it."""
    optimizer = adam([net], learning_rate)
    optimizer.param_groups[0]["eps"] = ADAM_EPS
    return optimizer


class OnPolicy:
    """A policy and a value function, and how they learn from rollouts."""

    def __init__(
        self,
        policy: BoundedGaussianPolicy,
        value: Mlp,
        config: PpoConfig,
        rng: torch.Generator,
    ) -> None:
        self._policy, self._value = policy, value
        self._config, self._rng = config, rng
        self.policy_adam = ppo_adam(policy, config.policy_learning_rate)
        self.value_adam = ppo_adam(value, config.value_learning_rate)

    def update(
        self, inputs: Inputs, *, member: Tensor | None = None, progress: float = 0.0
    ) -> dict[str, SupportsFloat]:
        """Learn from a rollout, some epochs over.

        Args:
            inputs: of a `Batch` in the order in which it happened.
            member: () of an ensemble of policies, that acted; the others stay.
            progress: on a schedule, learning rates and clip are 0 from 1 on.
        """
        config = self._config
        left = max(1.0 - progress, 0.0) if config.schedule == "linear" else 1.0
        self.policy_adam.param_groups[0]["lr"] = config.policy_learning_rate * left
        self.value_adam.param_groups[0]["lr"] = config.value_learning_rate * left
        rollout = self._rollout(inputs, member)
        for index in self._minibatches(len(rollout.value)):
            part = Rollout(*(column[index] for column in rollout))
            metrics = self._step(part, member, config.clip * left)
        return metrics | {"value": Mean(rollout.value)}

    @torch.no_grad()
    def _rollout(self, inputs: Inputs, member: Tensor | None) -> Rollout:
        moments = self._moments(inputs.observation, member)
        values = self._value(inputs.observations).squeeze(-1)
        return Rollout(
            inputs.observation,
            inputs.action,
            density(*moments, inputs.action),
            values[: len(inputs.reward)],
            advantages(inputs, values, self._config.trace),
        )

    def _step(
        self, part: Rollout, member: Tensor | None, clip: float
    ) -> dict[str, SupportsFloat]:
        config = self._config
        mean, log_std = self._moments(part.observation, member)
        ratio = (density(mean, log_std, part.action) - part.log_prob).exp()
        surrogate = clipped_loss(ratio, standardized(part.advantage), clip)
        spread = entropy(log_std).mean()
        policy_loss = surrogate - config.entropy * spread
        descend(policy_loss, self.policy_adam, config.max_gradient)
        value = self._value(part.observation).squeeze(-1)
        target = part.advantage + part.value
        reach = clip if config.value_clip else torch.inf
        v_loss = value_loss(value, part.value, target, reach)
        descend(v_loss, self.value_adam, config.max_gradient)
        return {
            "loss/policy": Mean(surrogate),
            "loss/value": Mean(v_loss),
            "entropy": Mean(spread),
            "clipped": Mean(((ratio - 1.0).abs() > clip).float()),
        }

    def _moments(
        self, observation: Tensor, member: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        if member is None:
            return self._policy.moments(observation)
        mean, log_std = self._policy.moments(observation, member[None])
        return mean.squeeze(0), log_std.squeeze(0)

    def _minibatches(self, size: int) -> Iterator[Tensor]:
        """Deal all rows out, in a new order each epoch; a small rest goes along."""
        device, count = self._rng.device, max(size // self._config.minibatch, 1)
        for _ in range(self._config.epochs):
            order = torch.randperm(size, generator=self._rng, device=device)
            yield from order.tensor_split(count)
