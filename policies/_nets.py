"""Networks that the algorithms share.

    Linear, Mlp       weights (*lead, I, O): leading axes are members of an ensemble, or
                      seeds, and run as one batched matmul
    Critic            Q(s, a)
    GaussianPolicy    mean = tanh(mlp), spread independent of the observation
    polyak_update     slow copies

Inputs are (B, I) for all members alike, or (*lead, B, I); outputs are (*lead, B, O).
Everything is made where the random generator is.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

LOG_STD_LOW, LOG_STD_HIGH = -5.0, 2.0
_LOG_SQRT_2PI = 0.5 * math.log(2.0 * math.pi)


class Linear(nn.Module):
    """A linear map for every member; orthogonal weights of gain sqrt(2), zero bias."""

    def __init__(
        self, inputs: int, outputs: int, lead: tuple[int, ...], rng: torch.Generator
    ) -> None:
        super().__init__()
        weight = torch.empty(*lead, inputs, outputs, device=rng.device)
        for member in weight.view(-1, inputs, outputs):
            nn.init.orthogonal_(member, gain=math.sqrt(2.0), generator=rng)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(*lead, 1, outputs, device=rng.device))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, I) or (*lead, B, I) to (*lead, B, O)."""
        dimensions = self.weight.dim()
        if dimensions == 2:
            return torch.addmm(self.bias, x, self.weight)
        if dimensions == 3:
            x = x.expand(self.weight.shape[0], *x.shape[-2:])
            return torch.baddbmm(self.bias, x, self.weight)
        return torch.matmul(x, self.weight) + self.bias


class Mlp(nn.Module):
    """ReLU layers of sizes (I, H, ..., O); dropout after each, where asked for."""

    def __init__(
        self,
        sizes: Sequence[int],
        rng: torch.Generator,
        *,
        lead: tuple[int, ...] = (),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        pairs = itertools.pairwise(sizes)
        self.layers = nn.ModuleList([Linear(i, o, lead, rng) for i, o in pairs])
        self._rng = rng
        self._dropout = dropout

    def forward(self, x: Tensor, *, drop: bool = False) -> Tensor:
        """Map (B, I) or (*lead, B, I) to (*lead, B, O)."""
        *hidden, last = self.layers
        for layer in hidden:
            x = layer(x).relu_()
            if drop and self._dropout:
                x = self._drop(x)
        return last(x)  # type: ignore[no-any-return]

    def member(self, x: Tensor, index: int) -> Tensor:
        """Map (B, I) to (B, O) by one member of an ensemble, at its cost alone."""
        *hidden, last = self.layers
        for layer in hidden:
            x = _member(layer, x, index).relu_()
        return _member(last, x, index)

    def _drop(self, x: Tensor) -> Tensor:
        """Zero elements at random; the generator is the learner's own, and is saved."""
        kept = 1.0 - self._dropout
        mask = torch.empty_like(x).bernoulli_(kept, generator=self._rng)
        return x * mask.div_(kept)


class Critic(Mlp):
    """An ensemble of Q(s, a) of sizes (O + A, H, ..., 1)."""

    def q(self, observation: Tensor, action: Tensor) -> Tensor:
        """Return the values (*lead, B) of `action` (B, A) at `observation` (B, O)."""
        pair = torch.cat((observation, action), dim=-1)
        return self(pair).squeeze(-1)  # type: ignore[no-any-return]


def _member(layer: nn.Module, x: Tensor, index: int) -> Tensor:
    bias, weight = layer.get_parameter("bias"), layer.get_parameter("weight")
    return torch.addmm(bias[index], x, weight[index])


class GaussianPolicy(nn.Module):
    """A diagonal Gaussian over actions in [-1, 1], not squashed.

    Only its mean passes through tanh. The density of a squashed action near 1 explodes,
    and is known to ruin advantage-weighted regression.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        rng: torch.Generator,
        *,
        lead: tuple[int, ...] = (),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.mlp = Mlp(sizes, rng, lead=lead, dropout=dropout)
        self.raw_log_std = nn.Parameter(
            torch.zeros(*lead, 1, sizes[-1], device=rng.device)
        )

    def forward(self, observation: Tensor, *, drop: bool = False) -> Tensor:
        """Return the mean (*lead, B, A)."""
        return self.mlp(observation, drop=drop).tanh()  # type: ignore[no-any-return]

    def sample(self, observation: Tensor, noise: Tensor) -> Tensor:
        """Return the action (*lead, B, A) that standard normal `noise` means."""
        sample: Tensor = self(observation) + self.log_std.exp() * noise
        return sample.clamp(-1.0, 1.0)

    @property
    def log_std(self) -> Tensor:
        """Logarithm of the spread (*lead, 1, A), within bounds."""
        return self.raw_log_std.clamp(LOG_STD_LOW, LOG_STD_HIGH)

    def log_prob(self, observation: Tensor, action: Tensor) -> Tensor:
        """Return the log-density (*lead, B) of `action`, with dropout, to train by."""
        return self.density(self(observation, drop=True), action)

    def density(self, mean: Tensor, action: Tensor) -> Tensor:
        """Return the log-density (*lead, B) of `action` around `mean`."""
        log_std = self.log_std
        error = (action - mean) * (-log_std).exp()
        constant = (log_std + _LOG_SQRT_2PI).sum(-1)
        return -0.5 * error.square().sum(-1) - constant


@torch.no_grad()
def polyak_update(target: nn.Module, source: nn.Module, rate: float) -> None:
    """Move `target` towards `source` by `rate`."""
    for slow, fast in zip(target.parameters(), source.parameters(), strict=True):
        slow.lerp_(fast, rate)
