"""Updates per second of algorithms here against their twins in d3rlpy.

    python benchmarks/offline_pace.py --d3rlpy d3/bin/python --data DATA

Sizes, data and settings are those of offline.py. Rounds of updates, sampling included,
are timed in turn: ours, theirs, ours, theirs. Told is the median of the rounds' ratios.
Ours take numbers below 1e-38 for 0; theirs do so with `--flush`, not by themselves.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import time
from pathlib import Path

import numpy as np
from offline import make_arrays
from offline_plan import THEIRS, TWINS, ours, settings  # limits threads first

from robostack import plugins
from robostack.data.dataset import open_dataset
from robostack.data.replay import Replay
from robostack.learner import Learner
from robostack.training import offline, recipe
from robostack.training.process import prepare


def ready(
    args: argparse.Namespace, told: list[str], algorithm: str
) -> tuple[Learner, Replay]:
    """Return a learner of the sizes of the comparison, and what it learns from."""
    dataset = open_dataset(args.work / "sets" / "medium")
    plan = recipe.read(algorithm, "locomotion", told)
    replay = offline.load_replay(dataset, plan)
    module, config = plugins.load("policies", algorithm), recipe.configure(plan)
    learner = module.Learner(
        dataset.spec, config, statistics=replay.statistics, steps=10**6, seed=0
    )
    return learner, replay


def pace(args: argparse.Namespace, algorithm: str) -> None:
    """Time sampling and updating in turns: ours, theirs, ours, theirs, ..."""
    learner, replay = ready(args, settings(args, algorithm), algorithm)
    rng = np.random.default_rng(0)

    def one() -> float:
        start_s = time.perf_counter()
        for _ in range(args.updates):
            learner.update(replay.sample(rng, 256))
        return time.perf_counter() - start_s

    command = [args.d3rlpy, THEIRS, "pace", algorithm, args.work / "medium.npz"]
    command += ["flush"] * args.flush
    pipe = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, **pipe) as process:
        while "ready" not in process.stdout.readline():
            pass

        def theirs() -> float:
            process.stdin.write(f"{args.updates}\n")
            process.stdin.flush()
            return float(process.stdout.readline())

        one(), theirs()
        pairs = [(one(), theirs()) for _ in range(args.rounds)]
        process.stdin.close()
    ratios = [b / a for a, b in pairs]
    result = {
        "ours": args.updates / statistics.median(a for a, _ in pairs),
        "theirs": args.updates / statistics.median(b for _, b in pairs),
        "ratio": statistics.median(ratios),
        "quartiles": statistics.quantiles(ratios, n=4),
        "load": os.getloadavg()[0],
    }
    name = ours(args, algorithm)
    (args.work / f"pace-{name}.json").write_text(json.dumps(result))
    print(name, json.dumps(result))


def parser(doc: str, *, rounds: int, updates: int) -> argparse.ArgumentParser:
    """Return the options that all timings of updates have."""
    parser = argparse.ArgumentParser(description=doc.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, default=Path("runs/offline"))
    parser.add_argument(
        "--algorithms", nargs="+", choices=list(TWINS), default=list(TWINS)
    )
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--updates", type=int, default=updates, help="per round")
    parser.set_defaults(sets=["medium"], hidden=[], set=[])
    return parser


def begin(args: argparse.Namespace) -> None:
    """Make the arrays to learn from, and limit threads."""
    args.work.mkdir(parents=True, exist_ok=True)
    make_arrays(args)
    prepare()


def main() -> None:
    options = parser(__doc__, rounds=25, updates=100)
    options.add_argument("--d3rlpy", type=Path, help="python that has d3rlpy")
    options.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    options.add_argument("--flush", action="store_true", help="theirs below 1e-38, too")
    args = options.parse_args()
    begin(args)
    for algorithm in args.algorithms:
        pace(args, algorithm)


if __name__ == "__main__":
    main()
