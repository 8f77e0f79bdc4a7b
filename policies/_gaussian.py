"""The policy of Uni-O4 and PPO: a Gaussian whose mean and spread the network gives.

    mean     = tanh(mlp_1(s))
    log std  = tanh(mlp_2(s)), mapped from [-1, 1] to [-5, 0]

It is not squashed: an action is a plain Gaussian draw, cut off at the rim when it is
sent (Lei et al., 2024; arXiv:2311.03351, the authors' code).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ._nets import Mlp

LOG_STD_LOW, LOG_STD_HIGH = -5.0, 0.0
_SMALL = 0.01  # scale of the last weights, to begin near mean 0
_FIRST_LOG_STD = -0.5  # wide, so that neither likelihoods nor trying begin narrow
_LOG_SQRT_2PI = 0.5 * math.log(2.0 * math.pi)


class BoundedGaussianPolicy(nn.Module):
    """A diagonal Gaussian over actions, or an ensemble of them."""

    def __init__(
        self, sizes: Sequence[int], rng: torch.Generator, *, lead: tuple[int, ...] = ()
    ) -> None:
        super().__init__()
        *inner, actions = sizes
        self.members = math.prod(lead)
        self.mlp = Mlp((*inner, 2 * actions), rng, lead=lead)
        with torch.no_grad():
            last = self.mlp.layers[-1]
            last.get_parameter("weight").mul_(_SMALL)
            unit = 2.0 * (_FIRST_LOG_STD - LOG_STD_LOW) / (LOG_STD_HIGH - LOG_STD_LOW)
            last.get_parameter("bias")[..., actions:] = math.atanh(unit - 1.0)

    def forward(self, observation: Tensor) -> Tensor:
        """Return the mean (*lead, B, A)."""
        return self.moments(observation)[0]

    def moments(
        self, observation: Tensor, members: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return mean and logarithm of the spread, (*lead, B, A) each."""
        raw = self.mlp(observation, members=members).tanh()
        mean, unit = raw.chunk(2, dim=-1)
        half = 0.5 * (LOG_STD_HIGH - LOG_STD_LOW)
        return mean, LOG_STD_LOW + half * (unit + 1.0)

    def sample(self, observation: Tensor, noise: Tensor) -> Tensor:
        """Return the action (*lead, B, A) that standard normal `noise` means."""
        mean, log_std = self.moments(observation)
        return (mean + log_std.exp() * noise).clamp(-1.0, 1.0)


def density(mean: Tensor, log_std: Tensor, action: Tensor) -> Tensor:
    """Return the log-density (..., B) of `action` (..., B, A)."""
    error = (action - mean) * (-log_std).exp()
    return (-0.5 * error.square() - log_std - _LOG_SQRT_2PI).sum(-1)


def entropy(log_std: Tensor) -> Tensor:
    """Return the entropy [nats] (..., B) of Gaussians of this spread (..., B, A)."""
    return (log_std + _LOG_SQRT_2PI + 0.5).sum(-1)


def pairwise_kl(mean: Tensor, log_std: Tensor) -> Tensor:
    """Return KL(i || j) [nats] of N Gaussians, (N, N, B), from moments (N, B, A)."""
    ratio = log_std[:, None] - log_std[None]  # (N, N, B, A)
    error = (mean[:, None] - mean[None]) * (-log_std[None]).exp()
    return (0.5 * ((2.0 * ratio).exp() + error.square() - 1.0) - ratio).sum(-1)
