"""The scores of what offline.py trained, and their table."""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import warnings
from pathlib import Path

import numpy as np
from offline_plan import (
    kinds,
    load_spec,
    marks,
    ours,
    results,
    runs,
    stages,
    world,
)

from robostack.spec import concatenate
from robostack.training import checkpoint
from robostack.training.evaluate import Policy, deterministic, evaluate, open_arena
from robostack.training.run import CHECKPOINTS, make_learner, read

EVALUATION_SEED = 50_000


def score(args: argparse.Namespace) -> None:
    """Try every policy in the world; one file of returns for each run."""
    for seed, name, kind in runs(args, kinds(args)):
        for folder, updates in stages(args, kind, name, seed):
            score_one(args, folder, updates)


def score_one(args: argparse.Namespace, folder: Path, steps: int) -> None:
    """Try the last policies of the run in `folder`, of so many `steps`."""
    path, name = results(args, folder), folder.parent.name
    if path.exists():
        return
    returns, arena = {}, open_arena(world(name))
    for step in marks(args, steps):
        policy = load(folder, step)
        tried = evaluate(policy, arena, episodes=args.episodes, seed=EVALUATION_SEED)
        returns[step] = tried.returns.tolist()
    arena.world.close()
    path.write_text(json.dumps(returns))
    print(*folder.parts[-3:], f"{average(path):.0f}", flush=True)


def average(path: Path) -> float:
    """Return the mean over checkpoints and episodes."""
    returns = json.loads(path.read_text()).values()
    return statistics.mean(itertools.chain.from_iterable(returns))


def load(folder: Path, step: int) -> Policy:
    """Return the policy that the run in `folder` had after `step` updates."""
    theirs = folder.parts[-3].startswith("d3rlpy")
    return load_theirs(folder, step) if theirs else load_ours(folder, step)


def load_ours(folder: Path, step: int) -> Policy:
    learner = make_learner(read(folder))
    learner.load(checkpoint.read(folder / CHECKPOINTS / f"{step:012d}.ckpt").learner)
    return deterministic(learner)


def load_theirs(folder: Path, step: int) -> Policy:
    """Return their policy, after it gave their own answers to their own probe."""
    import torch

    spec = load_spec(folder.parent.name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        policy = torch.jit.load(str(folder / f"policy-{step}.pt"))

    @torch.inference_mode()
    def act(observation: np.ndarray) -> np.ndarray:
        return policy(torch.from_numpy(observation)).numpy().clip(-1.0, 1.0)

    probe = np.load(folder / f"probe-{step}.npz")
    np.testing.assert_allclose(act(probe["observation"]), probe["action"], atol=1e-5)
    return lambda reading: act(concatenate(spec, reading)[None])[0]


def table(args: argparse.Namespace) -> None:
    """Print the scores as a table; a row for each set and algorithm."""
    heads = ("d3rlpy", "ours", "d3rlpy, after going on", "ours, after going on")
    print(f"| set (mean return of the data) | algorithm | {' | '.join(heads)} |")
    print("|---|---|---|---|---|---|")
    for name, algorithm in itertools.product(args.sets, ["bc", *args.algorithms]):
        logged = float(np.load(args.work / f"{name}.npz")["mean_return"])
        pairs = itertools.product(
            ("", f"-online-{args.online}"),
            (f"d3rlpy-{algorithm}", ours(args, algorithm)),
        )
        cells = [cell(args, kind, name, tail) for tail, kind in pairs]
        if any(cells):
            print(f"| {name} ({logged:.0f}) | {algorithm} | {' | '.join(cells)} |")


def cell(args: argparse.Namespace, kind: str, name: str, tail: str) -> str:
    """Return what `spread` makes of those seeds that there are."""
    folder = args.work / "runs" / kind / name
    paths = [results(args, folder / f"{seed}{tail}") for seed in range(args.seeds)]
    means = [average(path) for path in paths if path.exists()]
    if not means:
        return ""
    return spread(means)


def spread(values: list[float]) -> str:
    """Return mean, deviation of the sample, and each."""
    each = ", ".join(f"{value:.0f}" for value in values)
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.0f} ± {deviation:.0f} ({each})"
