"""Several seeds in one process: in turn, or learning together?

    python benchmarks/seeds.py --seeds 1 8 --algorithms iql td3_bc awac --device cpu

    in turn     the learners one after another, each by some updates: what `robostack
                train --seeds N --in-turn` does
    together    the same, joined: what it does without that flag, where that gains

Every round times both on the same batches, the one and then the other, and the next
round the other way round. Printed are the medians over the rounds: updates per second
of all seeds, and the ratio within a round. It is the processor's time on a processor,
which other programs take no part in, and the clock's elsewhere.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial

import msgspec
import numpy as np

from robostack import plugins
from robostack.learner import Batch, Joining, Learner, Statistics, Together
from robostack.spec import RobotSpec, float32
from robostack.training.process import prepare

prepare()

Drawn = Sequence[Sequence[Batch]]  # for every update, of every seed


def make_learner(algorithm: str, robot: RobotSpec, device: str, seed: int) -> Learner:
    size, module = robot.observation_size, plugins.load("policies", algorithm)
    seen = Statistics(np.zeros(size, np.float32), np.ones(size, np.float32), 0.0, 1.0)
    config = msgspec.convert({"device": device}, module.Config)
    learner: Learner = module.Learner(
        robot, config, statistics=seen, steps=1_000_000, seed=seed
    )
    return learner


def make_batch(robot: RobotSpec, rng: np.random.Generator, size: int) -> Batch:
    shape = (size, robot.observation_size)
    return Batch(
        float32(rng.normal(size=shape)),
        float32(rng.uniform(-0.9, 0.9, (size, robot.action.size))),
        float32(rng.normal(size=size)),
        np.full(size, 0.99, np.float32),
        float32(rng.normal(size=shape)),
        mc_return=float32(rng.normal(size=size)),
    )


def in_turn(learners: Sequence[Learner], batches: Drawn) -> None:
    for seed, learner in enumerate(learners):
        for drawn in batches:
            metrics = learner.update(drawn[seed])
        float(next(iter(metrics.values())))  # wait for the device


def together(joined: Together, batches: Drawn) -> None:
    for drawn in batches:
        metrics = joined.update(drawn)
    float(next(iter(metrics[-1].values())))


def measure(
    ways: Sequence[Callable[[], None]], rounds: int, clock: Callable[[], float]
) -> list[list[float]]:
    """Return the times [s] of each way, round by round."""
    spent: list[list[float]] = [[] for _ in ways]
    for round_ in range(rounds + 1):
        order = list(enumerate(ways))
        for i, way in order if round_ % 2 else reversed(order):
            start = clock()
            way()
            if round_:  # the first one warms up
                spent[i].append(clock() - start)
    return spent


def compare(algorithm: str, seeds: int, flags: argparse.Namespace) -> None:
    robot, rng = plugins.spec(flags.robot), np.random.default_rng(0)
    batches = [
        [make_batch(robot, rng, flags.batch) for _ in range(seeds)]
        for _ in range(flags.updates)
    ]
    one_by_one, (first, *others) = (
        [make_learner(algorithm, robot, flags.device, seed) for seed in range(seeds)]
        for _ in range(2)
    )
    if not isinstance(first, Joining):
        print(f"{algorithm}: its runs learn in turn")
        return
    ways = (
        partial(in_turn, one_by_one, batches),
        partial(together, first.join(others), batches),
    )
    clock = time.process_time if flags.device == "cpu" else time.perf_counter
    turn, whole = measure(ways, flags.rounds, clock)
    updates = flags.updates * seeds
    ratios = [b / a for a, b in zip(turn, whole, strict=True)]
    print(
        f"{algorithm:8} {seeds:2} seeds: in turn "
        f"{updates / statistics.median(turn):6.0f} updates/s in all, together "
        f"{updates / statistics.median(whole):6.0f}, time "
        f"{statistics.median(ratios):.2f} x ({min(ratios):.2f} to {max(ratios):.2f})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--algorithms", nargs="+", default=["bc", "iql", "td3_bc", "awac"]
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--robot", default="sim:gym/Hopper-v5")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--updates", type=int, default=10, help="of a seed in a round")
    parser.add_argument("--rounds", type=int, default=11)
    flags = parser.parse_args()
    for algorithm in flags.algorithms:
        for seeds in flags.seeds:
            compare(algorithm, seeds, flags)


if __name__ == "__main__":
    main()
