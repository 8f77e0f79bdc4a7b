"""A family of policies, one for each balance, and the model that chooses among them.

balance    b ~ low + (high - low) * (1 + tanh(Gaussian(mean(s), spread))) / 2
universal  a ~ pi(. | s, sines and cosines of b)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ._nets import LOG_STD_HIGH, GaussianPolicy, Mlp, squash

_LONGEST_WAVE = 10_000.0  # of the code of a balance, over 2 pi
_LOG_STD_LOW = -10.0  # of a balance, before tanh


def encode(balance: Tensor, size: int) -> Tensor:
    """Return sin(b / 10000^(2i / size)), cos(...), i = 0, 1, ..., (B, size) of (B, 1).

    The code of positions of arXiv:1706.03762, section 3.5.
    """
    index = torch.arange(size // 2, device=balance.device)
    angle = balance / _LONGEST_WAVE ** (2.0 * index / size)
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(-2)


class BalanceModel(nn.Module):
    """tanh of a Gaussian over balances, mapped to their range.

    Its spread does not depend on the state; unless it is adaptive, nothing does.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        rng: torch.Generator,
        *,
        low: float,
        high: float,
        adaptive: bool,
    ) -> None:
        super().__init__()
        self.mlp = Mlp(sizes, rng)
        self.raw_log_std = nn.Parameter(torch.zeros(1, 1, device=rng.device))
        self._seen = float(adaptive)
        self._low, self._half = low, (high - low) / 2

    def forward(self, observation: Tensor) -> Tensor:
        """Return the balance (B, 1) of noise 0."""
        return self._scaled(self._mean(observation).tanh())

    def draw(self, observation: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return the balance (B, 1) that `noise` (B, 1) means, and a log-density (B,).

        The density is that of the balance scaled to [-1, 1].
        """
        log_std = self.raw_log_std.clamp(_LOG_STD_LOW, LOG_STD_HIGH)
        unit, log_prob = squash(self._mean(observation), log_std, noise)
        return self._scaled(unit), log_prob

    def _mean(self, observation: Tensor) -> Tensor:
        return self.mlp(observation * self._seen)  # type: ignore[no-any-return]

    def _scaled(self, unit: Tensor) -> Tensor:
        return self._low + (unit + 1.0) * self._half


class Family(nn.Module):
    """The balance model and the universal policy, acting together."""

    def __init__(
        self, universal: GaussianPolicy, balance: BalanceModel, code: int
    ) -> None:
        super().__init__()
        self.universal = universal
        self.balance = balance
        self._code = code

    def forward(self, observation: Tensor) -> Tensor:
        """Return the action (B, A) of noise 0."""
        seen = self.seen(observation, self.balance(observation))
        return self.universal(seen)  # type: ignore[no-any-return]

    def sample(self, observation: Tensor, noise: Tensor) -> Tensor:
        """Return the action (B, A) that `noise` (B, A) means; no balance is drawn."""
        return self.member(observation, self.balance(observation), noise)

    def member(self, observation: Tensor, balance: Tensor, noise: Tensor) -> Tensor:
        """Return what the policy of `balance` (B, 1) does."""
        return self.universal.sample(self.seen(observation, balance), noise)

    def seen(self, observation: Tensor, balance: Tensor) -> Tensor:
        """Return what the universal policy sees (B, O + code)."""
        return torch.cat((observation, encode(balance, self._code)), dim=-1)
