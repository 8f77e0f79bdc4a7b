"""Losses that several algorithms share.

Losses reduce over the batch, the last axis, and those of critics over their ensemble;
axes before these stay. They are of independent copies, whose losses are minimized by
their sum.
"""

from __future__ import annotations

import torch
from torch import Tensor


def critic_loss(qs: Tensor, td_target: Tensor) -> Tensor:
    """Squared TD error (...,), summed over K critics.

    Args:
        qs: (..., K, B).
        td_target: (..., B).
    """
    return critic_losses(qs, td_target.unsqueeze(-2))


def critic_losses(qs: Tensor, td_targets: Tensor) -> Tensor:
    """Return the same where each critic may have its own target (..., K or 1, B)."""
    return (qs - td_targets).square().mean(-1).sum(-1)


def value_loss(q: Tensor, v: Tensor, expectile: float) -> Tensor:
    """Expectile regression (...,) of `v` towards `q`; both (..., B)."""
    error = q - v
    weight = torch.where(error > 0, expectile, 1.0 - expectile)
    return (weight * error.square()).mean(-1)


def limited_weight(
    advantage: Tensor, inverse_temperature: Tensor | float, max_weight: float
) -> Tensor:
    """Return exp(inverse_temperature * advantage), at most `max_weight`; (..., B)."""
    return (inverse_temperature * advantage).exp().clamp(max=max_weight)


def cloning_loss(log_prob: Tensor, weight: Tensor | float = 1.0) -> Tensor:
    """Weighted negative log-likelihood (...,) of the data's actions; both (..., B)."""
    return -(weight * log_prob).mean(-1)
