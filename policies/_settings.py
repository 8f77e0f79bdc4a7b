"""What every algorithm has to be told, whatever it does."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Literal

import msgspec
import torch

ActionFrame = Literal["absolute", "delta", "auto"]  # auto: delta where the robot tracks
Precision = Literal["fp32", "bf16"]


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Sizes, units, and where and how exactly to compute."""

    hidden: tuple[int, ...] = (256, 256)
    normalize: bool = False  # observations by mean and spread of the dataset
    action_frame: ActionFrame = "absolute"  # "delta": steps from the measured position
    delta_reach: float = 1.0  # [max_action_step] that an action of 1 means, in "delta"
    device: str = "cpu"
    precision: Precision = "fp32"  # of factors in matrix products, while learning


@contextlib.contextmanager
def computing(precision: Precision) -> Iterator[None]:
    """Round the factors of matrix products to `precision`; all else stays float32.

    Weights, moments, sums and everything between two products are float32 either way.
    A processor without bfloat16 products computes as in float32.

    Numbers below 1e-38 count as 0: softmax and clipping leave many in gradients, and
    processors take far longer over them (benchmarks/offline.md, of Cal-QL).
    """
    before, flushed = torch.get_float32_matmul_precision(), _flushes()
    wanted = "highest" if precision == "fp32" else "medium"
    torch.set_float32_matmul_precision(wanted)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
        torch.set_flush_denormal(flushed)


def _flushes() -> bool:
    """Return whether this thread takes the smallest numbers for 0."""
    return sys.float_info.min * 0.5 == 0.0
