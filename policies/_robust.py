"""States near a state, and how far critics and policies change between them.

    near        states drawn uniformly from a box around each state
    worst       of those, the one of the largest change
    roughness   how far critics shift
    divergence  how far a Gaussian policy does

Yang et al., 2022 (arXiv:2206.02829), section 4. The gradient of a maximum is that at
the maximizer: whoever tries all states without gradient, and the worst with one, gets
the same at a fraction of the work.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ._random import Rng, uniform


def near(
    here: Tensor, radius: float, samples: int, rng: Rng, *, shared: bool
) -> Tensor:
    """Return states (..., N, B, O) within `radius` of `here` (..., B, O).

    In every element. With `shared`, the same N steps lead away from every state.
    """
    *lead, size, width = here.shape
    shape = (*lead, samples, 1 if shared else size, width)
    return here.unsqueeze(-3) + uniform(rng, shape, -radius, radius)


@torch.no_grad()
def worst(states: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Return, of `states` (..., N, B, O), those of the largest `change` (..., N, B).

    One at each state, (..., 1, B, O).
    """
    largest = change(states).argmax(-2, keepdim=True)
    return states.take_along_dim(largest.unsqueeze(-1), dim=-3)


def roughness(shift: Tensor, downward: float) -> Tensor:
    """Return the mean square over critics of `shift` (..., K, N, B), (..., N, B).

    Upwards, where a perturbed state is rated above the true one, it weighs
    1 - `downward`, downwards `downward`.
    """
    up, down = shift.relu().square(), (-shift).relu().square()
    return ((1.0 - downward) * up + downward * down).mean(-3)


def divergence(
    mean: Tensor, log_std: Tensor, other_mean: Tensor, other_log_std: Tensor
) -> Tensor:
    """Return KL(p | q) + KL(q | p) (..., B) of diagonal Gaussians (..., B, A).

    In a form that is exact where they are next to alike.
    """
    precision = (-2.0 * log_std).exp() + (-2.0 * other_log_std).exp()
    apart = (mean - other_mean).square()
    wider = (log_std - other_log_std).sinh().square()
    return (2.0 * wider + 0.5 * apart * precision).sum(-1)


def pull_down(qs: Tensor, deviations: float) -> Tensor:
    """Mean square (...,) of what `qs` (..., K, N, B) are above those less deviations.

    The lower end is a constant, or the ensemble would agree in order to be left alone.
    """
    lower = (qs - deviations * qs.std(-3, keepdim=True)).detach()
    return (qs - lower).square().mean((-3, -2, -1))
