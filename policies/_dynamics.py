"""A learned model of what comes next.

    z = (o - mean) / std                                   standardized observation
    z' - z ~ N(mu_m(z, a), var_m(z, a))                    M members, one batched matmul
    P(the episode terminates) = sigmoid(logit_m(z, a))

Probabilistic ensembles (Chua et al., 2018; arXiv:1805.12114) as MOPO trains them (Yu et
al., 2020; arXiv:2005.13239): Gaussian likelihood, log-variances within learned bounds,
weight decay that grows with depth, and elites, the members that are best on transitions
held out.

Where we differ: termination is learned, for want of a formula for every robot; what
comes after an end is not learned, since nobody asks; rewards are not predicted, since
AM-Q (`_judge.py`) reads none; all members see the same batches, and differ by how they
began; imagined observations stay in the box of those seen, so that a model that
explodes gives a poor policy no endless Q.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from robostack.spec import Array

from ._nets import Mlp

_LOG_VAR_LOW, _LOG_VAR_HIGH = -10.0, 0.5  # where the learned bounds begin
_BOUND_WEIGHT = 0.01  # how much the bounds are drawn together
_MULTIPLIER = np.uint32(0x9E3779B1)  # golden ratio, as hashes use it
_DECAYS = (0.25, 0.5, 0.75, 0.75, 1.0)  # of five layers' weights, of that of the last
_FORGET = 0.01  # of the held-out error, per update


class Prediction(NamedTuple):
    """What members expect; leading axis (M,)."""

    change: Tensor  # (M, B, O), of standardized observations
    log_var: Tensor  # (M, B, O)
    end: Tensor  # (M, B), logit of termination


class Truth(NamedTuple):
    """What happened."""

    change: Tensor  # (B, O)
    ended: Tensor  # (B,) 1 where the episode terminated, else 0
    kept: Tensor  # (B,) 1 to learn from, 0 held out


def held_out(observation: Array, action: Array, share: float) -> np.ndarray:
    """Say which transitions (B,) are never learned from: some `share` of them.

    It follows from the bits of a transition alone, so it is the same whenever it is
    drawn, and in a resumed run.
    """
    row = np.ascontiguousarray(np.hstack((observation, action)), np.float32)
    bits = np.zeros(len(row), np.uint32)
    for column in row.view(np.uint32).T:
        bits = (bits ^ column) * _MULTIPLIER
        bits ^= bits >> np.uint32(15)
    return np.asarray(bits < share * 2.0**32)


def bounded(log_var: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return `log_var` within (low, high), softly."""
    log_var = high - functional.softplus(high - log_var)
    return low + functional.softplus(log_var - low)


def gaussian_loss(prediction: Prediction, truth: Truth) -> Tensor:
    """Negative log-likelihood of changes, without its constant and factor 1/2."""
    goes_on = truth.kept * (1.0 - truth.ended)
    error = (prediction.change - truth.change).square()
    per_row = (error * (-prediction.log_var).exp() + prediction.log_var).mean(-1)
    return (goes_on * per_row).mean(-1).sum()


def end_loss(prediction: Prediction, truth: Truth) -> Tensor:
    """Cross-entropy of termination, summed over members."""
    ended = truth.ended.expand_as(prediction.end)
    entropy = functional.binary_cross_entropy_with_logits(
        prediction.end, ended, reduction="none"
    )
    return (truth.kept * entropy).mean(-1).sum()


class Dynamics(nn.Module):
    """An ensemble of models; `mean` and `std` (O,) standardize observations."""

    mean: Tensor
    std: Tensor
    low: Tensor
    high: Tensor
    error: Tensor

    def __init__(
        self,
        hidden: tuple[int, ...],
        actions: int,
        rng: torch.Generator,
        *,
        members: int,
        mean: Tensor,
        std: Tensor,
    ) -> None:
        super().__init__()
        size, device = len(mean), rng.device
        sizes = (size + actions, *hidden, 2 * size + 1)
        self.mlp = Mlp(sizes, rng, lead=(members,))
        bound = torch.ones(members, 1, size, device=device)
        self.log_var_low = nn.Parameter(_LOG_VAR_LOW * bound)
        self.log_var_high = nn.Parameter(_LOG_VAR_HIGH * bound)
        self.register_buffer("mean", mean.to(device))
        self.register_buffer("std", std.to(device))
        self.register_buffer("low", torch.full((size,), torch.inf, device=device))
        self.register_buffer("high", torch.full((size,), -torch.inf, device=device))
        self.register_buffer("error", torch.zeros(members, device=device))

    def forward(
        self, observation: Tensor, action: Tensor, members: Tensor | None = None
    ) -> Prediction:
        """Return what (some) members expect of (B, O) and (B, A), or of their own."""
        z = (observation - self.mean) / self.std
        output = self.mlp(torch.cat((z, action), dim=-1), members=members)
        change, log_var, end = output.split((z.shape[-1], z.shape[-1], 1), dim=-1)
        bounds: tuple[Tensor, Tensor] = (self.log_var_low, self.log_var_high)
        if members is not None:
            bounds = (bounds[0][members], bounds[1][members])
        return Prediction(change, bounded(log_var, *bounds), end.squeeze(-1))

    def truth(self, observation: Tensor, after: Tensor, ended: Tensor) -> Tensor:
        """Return the change (B, O) to learn, standardized; 0 where `ended` (B,)."""
        return (after - observation) / self.std * (1.0 - ended)[:, None]

    def loss(self, prediction: Prediction, truth: Truth) -> Tensor:
        """Return what training minimizes, summed over members."""
        spread = (self.log_var_high - self.log_var_low).sum()
        bounds = _BOUND_WEIGHT * spread
        return gaussian_loss(prediction, truth) + end_loss(prediction, truth) + bounds

    @torch.no_grad()
    def watch(
        self, prediction: Prediction, truth: Truth, observation: Tensor, rate: float
    ) -> None:
        """Note the box of observations, and how well members foresee what is held out.

        `rate` is the weight of this batch in the running mean of errors.
        """
        self.low.copy_(torch.minimum(self.low, observation.amin(0)))
        self.high.copy_(torch.maximum(self.high, observation.amax(0)))
        out = (1.0 - truth.kept) * (1.0 - truth.ended)
        square = (prediction.change - truth.change).square().mean(-1)  # (M, B)
        count = out.sum()
        error = (out * square).sum(-1) / count.clamp(min=1.0)
        self.error.lerp_(error, rate * (count > 0).float())

    def elites(self, count: int) -> Tensor:
        """Return the `count` members that foresee best what is held out, (E,)."""
        return self.error.argsort()[:count]

    def step(
        self, state: Tensor, action: Tensor, elites: Tensor, rng: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return an imagined next state (N, E, S, O), and where it ended (N, E, S).

        Args:
            state: (N, E, S, O) of N policies; the model of [:, e] is elites[e].
            action: (N, E, S, A).
            elites: (E,).
            rng: one draw (E, 1, S, O) serves all policies alike.
        """
        policies, models, starts, size = state.shape
        rows = [x.transpose(0, 1).flatten(1, 2) for x in (state, action)]
        prediction = self(*rows, members=elites)
        shape = (models, policies, starts)
        luck = torch.randn((models, 1, starts, size), generator=rng, device=rng.device)
        std = (0.5 * prediction.log_var).exp().view(*shape, size)
        change = prediction.change.view(*shape, size) + std * luck
        after = state + (change * self.std).transpose(0, 1)
        after = torch.minimum(torch.maximum(after, self.low), self.high)
        return after, (prediction.end > 0).view(shape).transpose(0, 1)


def holdout_rate(updates: int) -> float:
    """Return the weight of a batch after `updates`: a mean at first, then a running."""
    return max(1.0 / (updates + 1), _FORGET)


def dynamics_adam(
    dynamics: Dynamics, learning_rate: float, weight_decay: float
) -> torch.optim.Adam:
    """Return Adam whose decay of weights grows from layer to layer, up to the last.

    Five layers have the authors' decays, others those in between.
    """
    layers = list(dynamics.mlp.layers)
    depth = np.linspace(0.0, 1.0, len(layers))
    known = np.linspace(0.0, 1.0, len(_DECAYS))
    decays = np.interp(depth, known, _DECAYS) * weight_decay
    groups = [
        {"params": [layer.get_parameter("weight")], "weight_decay": float(decay)}
        for layer, decay in zip(layers, decays, strict=True)
    ]
    rest = [layer.get_parameter("bias") for layer in layers]
    groups.append({"params": [*rest, dynamics.log_var_low, dynamics.log_var_high]})
    return torch.optim.Adam(groups, lr=learning_rate, fused=True)
