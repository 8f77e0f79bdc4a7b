"""How much of an update is matrix products: the time of its products alone.

    python benchmarks/matmul_share.py --data DATA [--precision bf16] [--device cuda]

Every matrix product of one update is noted, with shapes and strides. Then updates, and
the same products on tensors made beforehand, are timed in turn, several rounds. The
share is products' time / update's time: what an update would reach of this machine's
rate for these shapes if all else cost nothing is 1. Sizes as in offline.py.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from offline_pace import begin, parser, ready
from offline_plan import TWINS
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from robostack.policies._settings import computing

BATCH_SIZE = 256
PRODUCTS = {
    torch.ops.aten.mm.default,
    torch.ops.aten.addmm.default,
    torch.ops.aten.bmm.default,
    torch.ops.aten.baddbmm.default,
}


class Noted(TorchDispatchMode):
    """Notes the matrix products that are asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.products: list[tuple[Callable[..., object], list[torch.Tensor]]] = []

    def __torch_dispatch__(
        self, func: object, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        if func in PRODUCTS:
            self.products.append((func, [alike(x) for x in args]))
        return func(*args, **(kwargs or {}))


def alike(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor of the same shape, strides and kind, of other numbers."""
    pairs = zip(tensor.shape, tensor.stride(), strict=True)
    once = [1 if stride == 0 else size for size, stride in pairs]  # what is expanded
    place = torch.empty_strided(
        once, tensor.stride(), dtype=tensor.dtype, device=tensor.device
    )
    return place.normal_().expand(tensor.shape)


def measure(args: argparse.Namespace, algorithm: str) -> dict[str, float]:
    told = [f"precision={args.precision}", f"device={args.device}", *TWINS[algorithm]]
    learner, replay = ready(args, told, algorithm)
    rng = np.random.default_rng(0)

    def update() -> None:
        learner.update(replay.sample(rng, BATCH_SIZE))

    update()
    with Noted() as noted, FlopCounterMode(display=False) as counted:
        update()

    def multiply() -> None:
        with computing(args.precision):
            for func, tensors in noted.products:
                func(*tensors)

    def timed(act: Callable[[], None]) -> float:
        start_s = time.perf_counter()
        for _ in range(args.updates):
            act()
        if args.device != "cpu":
            torch.cuda.synchronize()
        return (time.perf_counter() - start_s) / args.updates

    timed(update), timed(multiply)
    pairs = [(timed(update), timed(multiply)) for _ in range(args.rounds)]
    seconds, alone = (statistics.median(column) for column in zip(*pairs, strict=True))
    flops = counted.get_total_flops()
    return {
        "updates/s": 1 / seconds,
        "products": len(noted.products),
        "GFLOP": flops / 1e9,
        "GFLOP/s, products alone": flops / alone / 1e9,
        "share": statistics.median(b / a for a, b in pairs),
    }


def main() -> None:
    options = parser(__doc__, rounds=9, updates=20)
    options.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    options.add_argument("--device", default="cpu")
    args = options.parse_args()
    begin(args)
    for algorithm in args.algorithms:
        print(algorithm, json.dumps(measure(args, algorithm)), flush=True)


if __name__ == "__main__":
    main()
