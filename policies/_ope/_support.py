"""Which actions logs hold: the density of what was done, and where it is too thin.

    density   p(a | s) = sum_k share_k(s) Normal(a; mean_k(s), spread_k(s))
    held      log p(a | s) is no less than at all but the `rare` share of logged actions

A mixture density network (Bishop, 1994): logs of several policies are several humps,
between which nobody ever acted, and one Gaussian would put its mean just there. What is
rare is told from transitions that the density was not fitted to.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from robostack.training.ope import Evidence

from .._gaussian import density
from .._learner import adam, cosine, minimize
from .._nets import Mlp
from ._logs import Scale

_LOG_STD_LOW, _LOG_STD_HIGH = -4.0, 2.0  # actions have bounds at -1 and 1
_HOLDOUT = 0.1  # share of the transitions that tells what is rare
_COMPONENTS = 5  # K
_ROWS = 8192  # of one question to the density


class Mixture:
    """A mixture of K diagonal Gaussians over actions, given an observation."""

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        hidden: tuple[int, ...],
        rng: torch.Generator,
    ) -> None:
        self._shape = (_COMPONENTS, 1 + 2 * action_size)
        self.mlp = Mlp((observation_size, *hidden, math.prod(self._shape)), rng)

    def log_prob(self, observation: Tensor, action: Tensor) -> Tensor:
        """Return the log-density (B,) of `action` (B, A) at `observation` (B, O)."""
        parts = self.mlp(observation).unflatten(-1, self._shape)
        share, rest = parts[..., 0].log_softmax(-1), parts[..., 1:]
        mean, log_std = rest.chunk(2, dim=-1)  # (B, K, A)
        log_std = log_std.clamp(_LOG_STD_LOW, _LOG_STD_HIGH)
        each = density(mean, log_std, action.unsqueeze(-2))  # (B, K)
        found: Tensor = (share + each).logsumexp(-1)
        return found


class Support(NamedTuple):
    """What the logs hold."""

    density: Mixture
    least: float  # log-density below which hardly anybody acted

    def holds(self, observation: Tensor, action: Tensor) -> Tensor:
        """Return whether `action` (..., N, A) is held at `observation` (N, O)."""
        actions = action.flatten(0, -3) if action.dim() > 2 else action[None]
        found = [_log_probs(self.density, observation, rows) for rows in actions]
        return (torch.stack(found) >= self.least).view(action.shape[:-1])


class Fitting(NamedTuple):
    """How a density is fitted."""

    updates: int
    batch_size: int
    learning_rate: float  # falls to 0 by a cosine
    hidden: tuple[int, ...]
    rare: float  # share of held-out actions that is thinner than what counts as held


def learn(
    evidence: Evidence, scale: Scale, fitting: Fitting, rng: torch.Generator
) -> Support:
    """Fit a density to what was done; arrays go where the generator is."""
    batch = evidence.transitions
    observation = torch.from_numpy(scale.observation(batch.observation)).to(rng.device)
    action = torch.from_numpy(scale.action(batch.action)).to(rng.device)
    apart = torch.rand(len(action), generator=rng, device=rng.device) < _HOLDOUT
    if not apart.any():
        apart[0] = True
    mixture = Mixture(observation.shape[1], action.shape[1], fitting.hidden, rng)
    optimizer = adam([mixture.mlp], fitting.learning_rate)
    (kept,) = torch.where(~apart)
    for update in range(fitting.updates):
        drawn = torch.randint(
            len(kept), (fitting.batch_size,), generator=rng, device=rng.device
        )
        rows = kept[drawn]
        rate = cosine(fitting.learning_rate, update, fitting.updates)
        optimizer.param_groups[0]["lr"] = rate
        minimize(-mixture.log_prob(observation[rows], action[rows]).mean(), optimizer)
    densities = _log_probs(mixture, observation[apart], action[apart])
    return Support(mixture, float(np.quantile(densities.cpu().numpy(), fitting.rare)))


@torch.inference_mode()
def _log_probs(mixture: Mixture, observation: Tensor, action: Tensor) -> Tensor:
    blocks = [slice(i, i + _ROWS) for i in range(0, len(action), _ROWS)]
    found = [mixture.log_prob(observation[rows], action[rows]) for rows in blocks]
    return torch.cat(found)
