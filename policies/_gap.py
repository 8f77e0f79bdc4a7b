"""How far the dynamics of a simulator are from the real ones, told by two classifiers.

    D_sa    is (s, a) real?
    D_sas   is (s, a, s') real?   its logits are added to those of D_sa

By Bayes' rule what they say of the same transition gives the ratio of the dynamics
(Eysenbach et al., 2021; arXiv:2006.13916), whatever states and actions there
are more of in the one or the other:

    log P_real(s' | s, a) / P_sim(s' | s, a) =
        log p_real(s, a, s') - log p_sim(s, a, s') - log p_real(s, a) + log p_sim(s, a)

H2O makes two weights of it (Niu et al., 2022; arXiv:2206.13464):

    w = clip(P_real / P_sim, 1e-5, 1)                    trust in a simulated s'
    u = clip(E_s' log P_sim / P_real, 1e-6, 10)          the gap: how wrong (s, a) is
    omega = u / sum of u over the batch

Inputs are standardized before noise is added, so that no element drowns in it. Where an
episode terminated there is no s', and classifiers are shown s again.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from ._codec import STD_FLOOR
from ._nets import Mlp

NextState = Literal["change", "state"]

LEAST_TRUST = 1e-5  # of w; at most 1: simulated errors are only ever made lighter
LEAST_GAP, MOST_GAP = 1e-6, 10.0  # of u; the authors' 1e-45 is 0 where denormals are
_REAL, _SIMULATED = 0, 1  # places in logits
_SPAN = 2.0  # logits are within
_FOLLOW = 0.01  # how much the spread of changes follows a batch


class Transitions(NamedTuple):
    """What classifiers look at, as networks see it."""

    observation: Tensor  # (B, O)
    action: Tensor  # (B, A)
    after: Tensor  # (B, O)


def log_odds(logits: Tensor) -> Tensor:
    """Return log p_real - log p_sim (...,) of raw logits (..., 2)."""
    log_p = logits.log_softmax(-1)
    return log_p[..., _REAL] - log_p[..., _SIMULATED]


def log_ratio(pair: Tensor, triple: Tensor) -> Tensor:
    """Return log P_real(s' | s, a) / P_sim(s' | s, a), (...,), of logits (..., 2).

    Args:
        pair: of D_sa.
        triple: of D_sas, those of D_sa included.
    """
    return log_odds(triple) - log_odds(pair)


def trust(ratio: Tensor) -> Tensor:
    """Return w (B,) of log-ratios (B,) at the simulator's s'."""
    return ratio.exp().clamp(LEAST_TRUST, 1.0)


def gap(ratios: Tensor) -> Tensor:
    """Return u (B,) of log-ratios (N, B) at N copies of s'."""
    return (-ratios).mean(0).clamp(LEAST_GAP, MOST_GAP)


def classifier_loss(logits: Tensor, simulated: Tensor) -> Tensor:
    """Cross-entropy of logits (B, 2), real and simulated rows (B,) weighing as much."""
    log_p = logits.log_softmax(-1)
    count = simulated.sum()
    real = ((1.0 - simulated) * log_p[..., _REAL]).sum() / (len(simulated) - count)
    return -real - (simulated * log_p[..., _SIMULATED]).sum() / count


class Discriminators(nn.Module):
    """D_sa and D_sas; `mean` and `std` (O,) standardize observations."""

    mean: Tensor
    std: Tensor
    spread: Tensor

    def __init__(
        self,
        hidden: tuple[int, ...],
        actions: int,
        rng: torch.Generator,
        *,
        mean: Tensor,
        std: Tensor,
        next_state: NextState = "change",
    ) -> None:
        super().__init__()
        size = len(mean)
        self.pair = Mlp((size + actions, *hidden, 2), rng)
        self.triple = Mlp((size + actions + size, *hidden, 2), rng)
        self._next_state = next_state
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.register_buffer("spread", torch.zeros_like(mean))  # of changes; 0: unseen

    def forward(self, pair: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (..., B, 2) of D_sa and D_sas; `pair` (B, O + A).

        Args:
            pair: state and action, standardized.
            after: (..., B, O) the next state, standardized.
        """
        by_pair = _SPAN * self.pair(pair).tanh()
        pair = pair.expand(*after.shape[:-1], -1)
        own = self.triple(torch.cat((pair, after), -1).flatten(0, -2))
        own = own.view(*after.shape[:-1], -1)
        return by_pair, by_pair + _SPAN * own.tanh()

    def seen(self, transitions: Transitions) -> tuple[Tensor, Tensor]:
        """Return state and action (B, O + A), and next state (B, O), standardized."""
        observation, action, after = transitions
        here = (observation - self.mean) / self.std
        pair = torch.cat((here, action), -1)
        if self._next_state == "state":
            return pair, (after - self.mean) / self.std
        return pair, (after - observation) / (self.spread + STD_FLOOR * self.std)

    @torch.no_grad()
    def watch(self, real: Transitions) -> None:
        """Let the spread of changes follow that of `real` transitions."""
        spread = (real.after - real.observation).std(0, correction=0)
        known = (self.spread > 0).any()
        self.spread.copy_(torch.where(known, self.spread.lerp(spread, _FOLLOW), spread))

    def loss(
        self,
        transitions: Transitions,
        simulated: Tensor,
        noise: float,
        rng: torch.Generator,
    ) -> Tensor:
        """Return what training minimizes: both cross-entropies, of noisy inputs.

        Args:
            transitions: real and simulated ones.
            simulated: (B,) 1 where they are simulated, else 0.
            noise: standard deviation of what is added to standardized inputs.
            rng: draws it.
        """
        pair, after = (_noisy(x, noise, rng) for x in self.seen(transitions))
        by_pair, by_triple = self(pair, after)
        return classifier_loss(by_pair, simulated) + classifier_loss(
            by_triple, simulated
        )

    @torch.no_grad()
    def ratios(
        self, simulated: Transitions, copies: int, noise: float, rng: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return log-ratios (B,) at s', and (N, B) at `copies` of it, each with noise.

        The spread of the copies is `noise`, in standardized units.
        """
        pair, after = self.seen(simulated)
        near = _noisy(after.expand(copies, -1, -1), noise, rng)
        found = log_ratio(*self(pair, torch.cat((after[None], near))))
        return found[0], found[1:]


def _noisy(x: Tensor, noise: float, rng: torch.Generator) -> Tensor:
    drawn = torch.randn(x.shape, generator=rng, device=x.device)
    return x + noise * drawn
