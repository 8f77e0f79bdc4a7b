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


def near(
    here: Tensor, radius: float, samples: int, rng: torch.Generator, *, shared: bool
) -> Tensor:
    """Return states (N, B, O) within `radius` of `here` (B, O), in every element.

    With `shared`, the same N steps lead away from every state.
    """
    size, width = here.shape
    moved = torch.empty(samples, 1 if shared else size, width, device=here.device)
    return here + moved.uniform_(-radius, radius, generator=rng)


@torch.no_grad()
def worst(states: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Return, of `states` (N, B, O), those (B, O) of the largest `change` (N, B)."""
    rows = torch.arange(states.shape[1], device=states.device)
    return states[change(states).argmax(0), rows]


def roughness(shift: Tensor, downward: float) -> Tensor:
    """Return the mean square (..., B) over critics of `shift` (K, ..., B), weighted.

    Upwards, where a perturbed state is rated above the true one, by 1 - `downward`.
    """
    up, down = shift.relu().square(), (-shift).relu().square()
    return ((1.0 - downward) * up + downward * down).mean(0)


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
    """Mean square () of what `qs` (K, ..., B) are above themselves less deviations.

    The lower end is a constant, or the ensemble would agree in order to be left alone.
    """
    lower = (qs - deviations * qs.std(0)).detach()
    return (qs - lower).square().mean()
