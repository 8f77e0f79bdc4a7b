"""Do torch.compile's kernels win on a processor? Networks and losses, compiled or not.

    python benchmarks/compiled.py --data DATA [--algorithms iql cql]

Each round times updates of the same learner as it is, and of one whose networks (CQL:
the loss of its critics, too) went through torch.compile, in turn; told is the median
ratio of the rates. The first updates, which compile, are left out; it takes a C++
compiler. Sizes, data and settings are those of offline.py.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import numpy as np
from offline_pace import begin, parser, ready
from offline_plan import TWINS  # limits threads first

from robostack.learner import Learner

NETS = ("policy", "value", "critic", "target")
METHODS = ("q", "log_prob", "moments")  # by which others than `forward` are asked


def compile_learner(learner: Learner) -> None:
    """Have the networks of `learner` compiled when they are next asked."""
    import torch

    for name in NETS:
        net = getattr(learner, name, None)
        if net is None:
            continue
        net.compile()
        for method in METHODS:
            if hasattr(net, method):
                setattr(net, method, torch.compile(getattr(net, method)))
    if hasattr(learner, "_critic_loss"):
        learner._critic_loss = torch.compile(learner._critic_loss)


def measure(args: argparse.Namespace, algorithm: str) -> dict[str, float]:
    pair = [ready(args, list(TWINS[algorithm]), algorithm) for _ in range(2)]
    compile_learner(pair[1][0])
    rng = np.random.default_rng(0)

    def rate(which: int) -> float:
        learner, replay = pair[which]
        start_s = time.perf_counter()
        for _ in range(args.updates):
            learner.update(replay.sample(rng, 256))
        return args.updates / (time.perf_counter() - start_s)

    rate(0), rate(1)
    rates = [(rate(0), rate(1)) for _ in range(args.rounds)]
    plain, compiled = (statistics.median(column) for column in zip(*rates, strict=True))
    ratio = statistics.median(b / a for a, b in rates)
    return {"plain": plain, "compiled": compiled, "ratio": ratio}


def main() -> None:
    args = parser(__doc__, rounds=9, updates=20).parse_args()
    begin(args)
    for algorithm in args.algorithms:
        print(algorithm, json.dumps(measure(args, algorithm)), flush=True)


if __name__ == "__main__":
    main()
