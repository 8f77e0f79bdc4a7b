"""The gate of Uni-O4: a candidate replaces its policy only if it is judged better.

Section 3.3 of arXiv:2311.03351. The judgement is a number per candidate, AM-Q, from the
same starts and with the same luck each time, so that they can be compared.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Gate(nn.Module):
    """What judging has to remember."""

    best: Tensor
    chosen: Tensor
    accepted: Tensor
    judged: Tensor
    starts: Tensor

    def __init__(
        self, members: int, starts: int, size: int, device: torch.device
    ) -> None:
        super().__init__()
        self.register_buffer("best", torch.zeros(members))  # AM-Q
        self.register_buffer("chosen", torch.zeros((), dtype=torch.int64))  # the best
        self.register_buffer("accepted", torch.zeros(members, dtype=torch.int64))
        self.register_buffer("judged", torch.zeros((), dtype=torch.int64))
        self.register_buffer("starts", torch.zeros(starts, size))
        self.to(device)

    def begin(self, score: Tensor) -> None:
        """Note what the clones (N,) are worth."""
        self.best.copy_(score)
        self.chosen.copy_(score.argmax())

    def admit(self, score: Tensor, *, always: bool = False) -> Tensor:
        """Say which candidates (N,) replace their policies, and note what they are."""
        better = (score > self.best) & score.isfinite()
        if always:
            better = torch.ones_like(better)
        self.best.copy_(torch.where(better, score, self.best))
        self.chosen.copy_(self.best.argmax())
        self.accepted += better
        self.judged += 1
        return better

    def remember(self, observation: Tensor, updates: int) -> None:
        """Keep the newest observations (B, O) as starts; the first fill all of them."""
        size, room = len(observation), len(self.starts)
        count = room if updates == 0 else min(size, room)
        place = torch.arange(count, device=observation.device)
        source = observation[place % size]
        self.starts[(updates * size + place) % room] = source
