"""Ensembles of policies: how they clone and disagree, one of them, those to replace.

    member i minimizes
        -w_i log pi_i(a | s),  w_i by who foresees a best     "assignment"
        -log pi_i(a | s) - alpha KL(pi_i || envelope)         "envelope"

Section 3.1 of Lei et al., 2024 (arXiv:2311.03351).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from ._gaussian import BoundedGaussianPolicy, density, pairwise_kl
from ._losses import cloning_loss

Disagreement = Literal["assignment", "envelope"]


class Chosen(nn.Module):
    """That member of an ensemble whose number `index` () holds, as one policy."""

    def __init__(self, ensemble: BoundedGaussianPolicy, index: Tensor) -> None:
        super().__init__()
        self.ensemble = ensemble
        self._index = index  # of its owner, who saves it

    def forward(self, observation: Tensor) -> Tensor:
        """Return the mean (B, A)."""
        return self._moments(observation)[0]

    def sample(self, observation: Tensor, noise: Tensor) -> Tensor:
        """Return the action (B, A) that standard normal `noise` means."""
        mean, log_std = self._moments(observation)
        return (mean + log_std.exp() * noise).clamp(-1.0, 1.0)

    def _moments(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = self.ensemble.moments(observation, self._index[None])
        return mean.squeeze(0), log_std.squeeze(0)


class Cloned(NamedTuple):
    """What an ensemble makes of a batch."""

    total: Tensor  # (), to minimize
    likelihood: Tensor  # (), of it what is not disagreement
    kl: Tensor  # (), mean pairwise [nats]


def clone(
    moments: tuple[Tensor, Tensor],
    action: Tensor,
    kind: Disagreement,
    alpha: float,
    noise: Callable[[int, int], Tensor],
) -> Cloned:
    """Return the loss of doing what the data does, and disagreeing.

    Args:
        moments: (N, B, A) each, of N policies.
        action: (B, A), of the data.
        kind: see above.
        alpha: weight of the disagreement.
        noise: draws (N, B, A), standard normal.
    """
    mean, log_std = moments
    members, size = mean.shape[:2]
    log_prob = density(mean, log_std, action)
    loss = total = cloning_loss(log_prob).sum()
    if kind == "assignment":
        total = cloning_loss(log_prob, assignment(log_prob, alpha)).sum()
    elif alpha and members > 1:
        apart = disagreement(mean, log_std, noise(members, size))
        total = loss - alpha * apart.mean(-1).sum()
    with torch.no_grad():
        kl = pairwise_kl(mean, log_std).mean(-1)
    return Cloned(total, loss, kl.sum() / max(members * (members - 1), 1))


def disagreement(mean: Tensor, log_std: Tensor, noise: Tensor) -> Tensor:
    """Return KL(pi_i || envelope) [nats], (N, B); each leads to its own member alone.

    The envelope is max_j pi_j / Z, section 3.1 of arXiv:2311.03351, with a_k ~ pi_k:

        KL = E[log pi_i(a_i) - max_j log pi_j(a_i)] + log Z,   0 <= KL <= log N
        Z  = E_k[N max_j pi_j(a_k) / sum_j pi_j(a_k)]

    Args:
        mean: (N, B, A), of N policies.
        log_std: (N, B, A).
        noise: (N, B, A), standard normal: one draw of each.
    """
    members, still = len(mean), (mean.detach()[:, None], log_std.detach()[:, None])
    action = mean + log_std.exp() * noise
    every = density(mean[:, None], log_std[:, None], action[None])  # (j, k, B)
    own = torch.eye(members, dtype=torch.bool, device=mean.device)[..., None]
    seen = torch.where(own, every, density(*still, action[None]))  # peers hold still
    below = every.diagonal().T - seen.amax(0)  # (N, B), at most 0
    excess = every.amax(0) - every.logsumexp(0) + math.log(members)
    log_z = excess.logsumexp(0) - math.log(members)  # (B,), the same for all members,
    once = log_z / members  # each of which must learn from it but once in their sum
    return below + once + (log_z - once).detach()


@torch.no_grad()
def assignment(log_prob: Tensor, alpha: float) -> Tensor:
    """Return weights (N, B) of actions of the data, by who foresees them best.

    1 + alpha for the member of largest `log_prob` (N, B), 1 - alpha for the others.
    """
    best = log_prob >= log_prob.amax(0)
    weight: Tensor = 1.0 + alpha * (2.0 * best - 1.0)
    return weight if len(log_prob) > 1 else torch.ones_like(log_prob)


@torch.no_grad()
def replace(
    policies: BoundedGaussianPolicy, candidates: BoundedGaussianPolicy, which: Tensor
) -> None:
    """Put those candidates that `which` (N,) names in the place of their policies."""
    pairs = zip(policies.parameters(), candidates.parameters(), strict=True)
    for old, new in pairs:
        old.copy_(torch.where(which.view(-1, *[1] * (new.dim() - 1)), new, old))


def alone(policies: BoundedGaussianPolicy, index: int) -> BoundedGaussianPolicy:
    """Return a copy of the member numbered `index`, without the others."""
    layers = policies.mlp.layers
    shapes = [layer.get_parameter("weight").shape for layer in layers]
    device = next(policies.parameters()).device
    sizes = [shape[-2] for shape in shapes] + [shapes[-1][-1] // 2]
    single = BoundedGaussianPolicy(sizes, torch.Generator(device))
    with torch.no_grad():
        pairs = zip(single.parameters(), policies.parameters(), strict=True)
        for ours, theirs in pairs:
            ours.copy_(theirs[index])
    return single
