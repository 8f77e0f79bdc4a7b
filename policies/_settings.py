"""What every algorithm has to be told, whatever it does."""

from __future__ import annotations

import contextlib
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
    """
    before = torch.get_float32_matmul_precision()
    wanted = "highest" if precision == "fp32" else "medium"
    torch.set_float32_matmul_precision(wanted)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
