"""Networks that the algorithms share.

    Linear, Mlp       weights (*lead, I, O): leading axes are runs that learn together,
                      members of an ensemble, or both, and run as one batched matmul
    Critic            Q(s, a)
    GaussianPolicy    mean = tanh(mlp), spread independent of the observation
    Squashed...       action = tanh(Gaussian), whose mean and spread the mlp gives
    polyak_update     slow copies
    begin_uniform     first weights as torch's own layers have them

Inputs are (B, I) for all alike, (*lead, B, I), or, of ensembles of several runs (S, K),
(S, B, I) for the members of a run alike; outputs are (*lead, B, O).
Everything is made where the random generator is.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from . import _random
from ._random import Rng

LOG_STD_LOW, LOG_STD_HIGH = -5.0, 2.0
SQUASHED_LOG_STD_LOW = -20.0  # a squashed policy may become deterministic
_SMALL = 0.01  # scale of the last weights of a squashed policy, to begin near uniform
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

    def forward(self, x: Tensor, members: Tensor | None = None) -> Tensor:
        """Map (B, I) or (L, B, I) to (L, B, O), or by some `members` alone.

        L are all leading axes as one, if there are any.
        """
        return _affine(x, *_chosen((self.weight, self.bias), members))


class LayerNorm(nn.Module):
    """Layer normalization, with a scale and a shift for every member."""

    def __init__(self, size: int, lead: tuple[int, ...], device: torch.device) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(*lead, 1, size, device=device))
        self.shift = nn.Parameter(torch.zeros(*lead, 1, size, device=device))

    def forward(self, x: Tensor, members: Tensor | None = None) -> Tensor:
        """Normalize the last axis of (B, H) or (L, B, H), L as in `Linear`."""
        scale, shift = _chosen((self.scale, self.shift), members)
        if scale.dim() > 3:
            scale, shift = scale.flatten(0, -3), shift.flatten(0, -3)
        return torch.addcmul(shift, functional.layer_norm(x, x.shape[-1:]), scale)


def _affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return x weight + bias, (B, O) or (L, B, O), by one product."""
    dimensions = weight.dim()
    if dimensions == 2:
        return torch.addmm(bias, x, weight)
    if dimensions > 3:
        weight, bias = weight.flatten(0, -3), bias.flatten(0, -3)
    return torch.baddbmm(bias, x.expand(weight.shape[0], *x.shape[-2:]), weight)


def _spread(x: Tensor, lead: torch.Size) -> Tensor:
    """Return (B, I), (S, B, I) or (*lead, B, I) as (L, B, I); `lead` is (S, K)."""
    if x.dim() == 3:
        x = x.unsqueeze(1)
    return x.expand(*lead, *x.shape[-2:]).flatten(0, -3)


def _chosen(
    parameters: tuple[Tensor, Tensor], members: Tensor | None
) -> tuple[Tensor, Tensor]:
    first, second = parameters
    return parameters if members is None else (first[members], second[members])


class Mlp(nn.Module):
    """ReLU layers of sizes (I, H, ..., O).

    Where asked for, layer normalization before each ReLU, and dropout after it.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        rng: torch.Generator,
        *,
        lead: tuple[int, ...] = (),
        dropout: float = 0.0,
        norm: bool = False,
    ) -> None:
        super().__init__()
        pairs = itertools.pairwise(sizes)
        self.layers = nn.ModuleList([Linear(i, o, lead, rng) for i, o in pairs])
        normed = sizes[1:-1] if norm else ()
        self.norms = nn.ModuleList([LayerNorm(n, lead, rng.device) for n in normed])
        self._rng: Rng = rng
        self._dropout = dropout

    def forward(
        self, x: Tensor, *, drop: bool = False, members: Tensor | None = None
    ) -> Tensor:
        """Map (B, I) or (*lead, B, I) to (*lead, B, O).

        With `members` (M,) of an ensemble, to (M, B, O), at their cost alone.
        """
        *hidden, last = self.layers
        lead = last.get_parameter("weight").shape[:-2]
        if len(lead) > 1:
            x = _spread(x, lead)
        for i, layer in enumerate(hidden):
            x = layer(x, members)
            if self.norms:
                x = self.norms[i](x, members)
            x = x.relu_()
            if drop and self._dropout:
                x = self._drop(x)
        y: Tensor = last(x, members)
        return y if len(lead) < 2 else y.view(*lead, *y.shape[-2:])

    def member(self, x: Tensor, index: int) -> Tensor:
        """Map (..., B, I) to (..., B, O) by one member of an ensemble, at its cost."""
        if self.norms:
            return self(x, members=torch.tensor([index], device=x.device)).squeeze(0)  # type: ignore[no-any-return]
        *hidden, last = self.layers
        for layer in hidden:
            x = _member(layer, x, index).relu_()
        return _member(last, x, index)

    def _drop(self, x: Tensor) -> Tensor:
        """Zero elements at random; the generator is the learner's own, and is saved."""
        kept = 1.0 - self._dropout
        return x * _random.bernoulli(self._rng, x.shape, kept).div_(kept)


class Critic(Mlp):
    """An ensemble of Q(s, a) of sizes (O + A, H, ..., 1)."""

    def q(
        self, observation: Tensor, action: Tensor, members: Tensor | None = None
    ) -> Tensor:
        """Return the values (*lead, B) of `action` (B, A) at `observation` (B, O).

        Of several runs (S, K, B), of what each of them asks: (S, B, A) and (S, B, O).
        """
        pair = torch.cat((observation, action), dim=-1)
        return self(pair, members=members).squeeze(-1)  # type: ignore[no-any-return]


def _member(layer: nn.Module, x: Tensor, index: int) -> Tensor:
    bias, weight = layer.get_parameter("bias"), layer.get_parameter("weight")
    return _affine(x, weight.select(-3, index), bias.select(-3, index))


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
        first_log_std: float = 0.0,
    ) -> None:
        super().__init__()
        self.mlp = Mlp(sizes, rng, lead=lead, dropout=dropout)
        shape = (*lead, 1, sizes[-1])
        self.raw_log_std = nn.Parameter(
            torch.full(shape, first_log_std, device=rng.device)
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

    def log_density(self, observation: Tensor, action: Tensor) -> Tensor:
        """Return the log-density (*lead, B) of `action`, as deployed: no dropout."""
        return self.density(self(observation), action)

    def density(self, mean: Tensor, action: Tensor) -> Tensor:
        """Return the log-density (*lead, B) of `action` around `mean`."""
        log_std = self.log_std
        error = (action - mean) * (-log_std).exp()
        constant = (log_std + _LOG_SQRT_2PI).sum(-1)
        return -0.5 * error.square().sum(-1) - constant


class SquashedGaussianPolicy(nn.Module):
    """tanh of a diagonal Gaussian; mean and spread depend on the observation.

    That of soft actor-critics (Haarnoja et al., 2018; arXiv:1812.05905, appendix C).
    """

    def __init__(
        self,
        sizes: Sequence[int],
        rng: torch.Generator,
        *,
        lead: tuple[int, ...] = (),
        dropout: float = 0.0,
        least_log_std: float = SQUASHED_LOG_STD_LOW,
    ) -> None:
        super().__init__()
        self._least_log_std = least_log_std
        *inner, actions = sizes
        self.mlp = Mlp((*inner, 2 * actions), rng, lead=lead, dropout=dropout)
        with torch.no_grad():
            self.mlp.layers[-1].get_parameter("weight").mul_(_SMALL)

    def forward(self, observation: Tensor) -> Tensor:
        """Return the action (*lead, B, A) of noise 0."""
        return self.moments(observation)[0].tanh()

    def moments(
        self, observation: Tensor, *, drop: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Return mean and logarithm of the spread before tanh, (*lead, B, A) each."""
        mean, log_std = self.mlp(observation, drop=drop).chunk(2, dim=-1)
        return mean, log_std.clamp(self._least_log_std, LOG_STD_HIGH)

    def sample(self, observation: Tensor, noise: Tensor) -> Tensor:
        """Return the action (*lead, B, A) that standard normal `noise` means."""
        mean, log_std = self.moments(observation)
        return (mean + log_std.exp() * noise).tanh()

    def log_density(self, observation: Tensor, action: Tensor) -> Tensor:
        """Return the log-density (*lead, B) of `action`, within (-1, 1)."""
        return squashed_density(*self.moments(observation), action)


def squash(mean: Tensor, log_std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Return what actions (..., B, A) `noise` means, and their log-density (..., B).

    log pi(a) = log N(u; mean, std) - sum log(1 - tanh(u)^2), a = tanh(u): equation 26
    of arXiv:1812.05905.
    """
    raw = mean + log_std.exp() * noise
    density = -0.5 * noise.square() - log_std - _LOG_SQRT_2PI
    return raw.tanh(), (density - _log_slope(raw)).sum(-1)


def squashed_density(mean: Tensor, log_std: Tensor, action: Tensor) -> Tensor:
    """Return the log-density (..., B) of `action` (..., B, A), within (-1, 1)."""
    raw = action.atanh()
    error = (raw - mean) * (-log_std).exp()
    density = -0.5 * error.square() - log_std - _LOG_SQRT_2PI
    return (density - _log_slope(raw)).sum(-1)


def _log_slope(raw: Tensor) -> Tensor:
    """Return log(1 - tanh(raw)^2), without the cancellation near 1."""
    return 2.0 * (math.log(2.0) - raw - functional.softplus(-2.0 * raw))


@torch.no_grad()
def polyak_update(target: nn.Module, source: nn.Module, rate: float) -> None:
    """Move `target` towards `source` by `rate`."""
    for slow, fast in zip(target.parameters(), source.parameters(), strict=True):
        slow.lerp_(fast, rate)


@torch.no_grad()
def begin_uniform(net: nn.Module, rng: torch.Generator) -> None:
    """Draw all weights and biases of `net` anew, from within +- 1 / sqrt(inputs)."""
    for layer in net.modules():
        if isinstance(layer, Linear):
            bound = layer.weight.shape[-2] ** -0.5
            for parameter in layer.parameters():
                parameter.uniform_(-bound, bound, generator=rng)
