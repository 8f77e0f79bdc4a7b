"""Random numbers of one run, or of several at once: each has its own generator.

Several runs that learn together (_together.py) have their numbers in one tensor, whose
first axis is theirs; every run draws for itself what it would have drawn alone.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Rng = torch.Generator | tuple[torch.Generator, ...]


def normal(rng: Rng, shape: tuple[int, ...]) -> Tensor:
    """Return standard normal numbers of `shape`."""
    return _filled(rng, shape, lambda part, own: part.normal_(generator=own))


def uniform(rng: Rng, shape: tuple[int, ...], low: float, high: float) -> Tensor:
    """Return uniform numbers of `shape`."""
    return _filled(
        rng, shape, lambda part, own: part.uniform_(low, high, generator=own)
    )


def bernoulli(rng: Rng, shape: tuple[int, ...], chance: float) -> Tensor:
    """Return ones, at this chance, and zeros of `shape`."""
    return _filled(rng, shape, lambda part, own: part.bernoulli_(chance, generator=own))


def permutation(rng: Rng, count: int) -> Tensor:
    """Return the numbers 0 to `count` - 1 in some order, of each run its own."""
    if isinstance(rng, torch.Generator):
        return torch.randperm(count, generator=rng, device=rng.device)
    return torch.stack([permutation(own, count) for own in rng])


def _filled(
    rng: Rng, shape: tuple[int, ...], fill: Callable[[Tensor, torch.Generator], Tensor]
) -> Tensor:
    """Return a tensor of `shape`, of which every generator fills as large a part."""
    if isinstance(rng, torch.Generator):
        return fill(torch.empty(shape, device=rng.device), rng)
    whole = torch.empty(shape, device=rng[0].device)
    for part, own in zip(whole.view(len(rng), -1), rng, strict=True):
        fill(part, own)
    return whole
