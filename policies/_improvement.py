"""Improving on policies at states of the data, by what critics say of what they do.

    a ~ pi(. | s),   A = min_k Q(s, a) - V(s), standardized over the batch
    candidate    maximizes E[min(rho A, clip(rho, 1 - e, 1 + e) A)],   rho = its density
                 at a, over that of pi

Lei et al., 2024 (arXiv:2311.03351), section 3.2. An action is as it was drawn, also
beyond the rim; critics see it cut off.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ._gaussian import BoundedGaussianPolicy, density
from ._judge import Critics
from ._ppo import standardized


class Tried(NamedTuple):
    """What N policies did at states of the data; nothing here has a gradient."""

    observation: Tensor  # (B, O)
    action: Tensor  # (N, B, A), as drawn
    log_prob: Tensor  # (N, B), of those who drew it
    advantage: Tensor  # (N, B), standardized

    def ratio(self, candidates: BoundedGaussianPolicy) -> Tensor:
        """Return how much likelier (N, B) each candidate makes its actions."""
        now = density(*candidates.moments(self.observation), self.action)
        return (now - self.log_prob).exp()


@torch.no_grad()
def try_out(
    policies: BoundedGaussianPolicy,
    critics: Critics,
    observation: Tensor,
    noise: Callable[[int, int], Tensor],
) -> Tried:
    """Let all policies act at `observation` (B, O); `noise` draws (N, B, A)."""
    mean, log_std = policies.moments(observation)
    members, size = mean.shape[:2]
    action = mean + log_std.exp() * noise(members, size)
    here = observation.expand(members, -1, -1)
    q = critics.q(here, action.clamp(-1.0, 1.0))
    advantage = standardized(q - critics.value(observation).squeeze(-1))
    return Tried(observation, action, density(mean, log_std, action), advantage)
