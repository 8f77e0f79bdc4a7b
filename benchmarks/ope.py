"""Off-policy evaluation against the truth: does it rank policies of Hopper rightly?

    python benchmarks/ope.py all --data DATA

The judged policies (`CANDIDATES`) were fixed before any estimate was looked at: clones
of random, medium and expert rollouts, checkpoints of a run on its way to the expert,
and the expert's clone with noise on its actions. The logs that estimators see are half
medium and half expert. The truth is what the policies earn in Gymnasium's Hopper-v5
itself. A part whose result is there already is left out.

    all = sets, policies, truth, estimates, table
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import gymnasium
import numpy as np

from robostack import plugins
from robostack.data import d4rl
from robostack.data.dataset import create, open_dataset
from robostack.training import checkpoint, offline, recipe
from robostack.training.run import CHECKPOINTS, make_learner, read

SETS = {
    "random": ("hopper-random-like",),
    "medium": ("hopper-medium-like",),
    "expert": ("hopper-expert-like",),
    "medium-expert": ("hopper-medium-like", "hopper-expert-like"),
}
RUNS = {"random": 3_000, "medium": 10_000, "expert": 10_000}  # updates of cloning
EVERY = 500  # updates between checkpoints
HORIZON = 1000  # [steps] Hopper-v5's own
TRUTH_SEED = 70_000


class Candidate(NamedTuple):
    """A clone of a set after some updates, with noise on its actions."""

    data: str
    updates: int
    noise: float = 0.0  # [action unit], clipped to the bounds


CANDIDATES = {
    "random": Candidate("random", 3_000),
    "medium early": Candidate("medium", 1_000),
    "medium": Candidate("medium", 10_000),
    "expert 500": Candidate("expert", 500),
    "expert 2000": Candidate("expert", 2_000),
    "expert 4000": Candidate("expert", 4_000),
    "expert": Candidate("expert", 10_000),
    "expert, noise 0.3": Candidate("expert", 10_000, 0.3),
    "expert, noise 0.6": Candidate("expert", 10_000, 0.6),
}


def make_sets(args: argparse.Namespace) -> None:
    """Import the rollouts."""
    spec = plugins.load("sim", "gym").spec("Hopper-v5")
    for name, files in SETS.items():
        if (args.work / "sets" / name).exists():
            continue
        dataset = create(args.work / "sets" / name, spec)
        for file in files:
            path = args.data / "gym_rollouts" / f"{file}.hdf5"
            dataset.append(d4rl.read(path, spec), {"source": path.name})


def train(args: argparse.Namespace) -> None:
    """Clone the sets, keeping all checkpoints."""
    for name, updates in RUNS.items():
        dataset = open_dataset(args.work / "sets" / name)
        plan = recipe.read("bc", "", [f"steps={updates}", "normalize=true"])
        options = offline.Options(
            resume=True, checkpoint_every=EVERY, keep=updates // EVERY + 1
        )
        offline.train(dataset, args.work / "runs" / name, plan, options)


def load(args: argparse.Namespace, candidate: Candidate) -> object:
    """Return the learner as it was at the candidate's checkpoint."""
    folder = args.work / "runs" / candidate.data
    learner = make_learner(read(folder))
    name = f"{candidate.updates:012d}.ckpt"
    learner.load(checkpoint.read(folder / CHECKPOINTS / name).learner)
    return learner


def actor(args: argparse.Namespace, candidate: Candidate) -> Callable:
    """Return actions (B, A) of a candidate as a function of observations (B, O)."""
    learner = load(args, candidate)
    rng = np.random.default_rng(0)

    def act(observation: np.ndarray) -> np.ndarray:
        action = learner.act(observation, None)
        drawn = rng.standard_normal(action.shape, dtype=np.float32)
        return (action + candidate.noise * drawn).clip(-1.0, 1.0)

    return act


def truth(args: argparse.Namespace) -> None:
    """Let every candidate act in the world itself."""
    path = args.work / f"truth-{args.gamma}-{args.episodes}.json"
    if path.exists():
        return
    found = {k: roll(args, actor(args, c)) for k, c in CANDIDATES.items()}
    for name, episodes in found.items():
        print(name, json.dumps({k: round(np.mean(v), 1) for k, v in episodes.items()}))
    path.write_text(json.dumps(found))


def roll(args: argparse.Namespace, act: Callable) -> dict[str, list[float]]:
    """Return discounted and undiscounted returns of some episodes."""
    worlds = [gymnasium.make("Hopper-v5") for _ in range(args.episodes)]
    seen = [w.reset(seed=TRUTH_SEED + i)[0] for i, w in enumerate(worlds)]
    alive, factor = list(range(args.episodes)), 1.0
    returns, discounted, length = np.zeros((3, args.episodes))
    for _ in range(HORIZON):
        actions = act(np.array([seen[i] for i in alive], np.float32))
        ended = set()
        for i, action in zip(alive, actions, strict=True):
            seen[i], reward, terminated, truncated, _ = worlds[i].step(action)
            returns[i] += reward
            discounted[i] += factor * reward
            length[i] += 1
            if terminated or truncated:
                ended.add(i)
        alive = [i for i in alive if i not in ended]
        factor *= args.gamma
        if not alive:
            break
    for world in worlds:
        world.close()
    columns = {"returns": returns, "discounted": discounted, "length": length}
    return {name: column.tolist() for name, column in columns.items()}


PARTS = {"sets": make_sets, "policies": train, "truth": truth}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("part", choices=["all", *PARTS])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, default=Path("runs/ope"))
    parser.add_argument("--gamma", type=float, default=0.99)
    parser.add_argument("--episodes", type=int, default=50)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    for part in PARTS if args.part == "all" else [args.part]:
        start_s = time.perf_counter()
        PARTS[part](args)
        print(f"{part}: {time.perf_counter() - start_s:.0f} s")


if __name__ == "__main__":
    main()
