"""Scores of algorithms here against their twins in d3rlpy.

    python -m venv d3 && d3/bin/pip install d3rlpy==2.8.1 torch==2.13.0 mujoco imageio
    python benchmarks/offline.py all --d3rlpy d3/bin/python --data DATA

Both sides get the same transitions, with the same rewards, sizes (2 x 256), batch
(256), number of updates and settings (`TWINS` in offline_plan.py, and `make` in
offline_theirs.py), and one thread each. The policies after each of the last
`--checkpoints` tenths of the updates are tried in Gymnasium's world by the same code,
deterministically, from the same seeds. A score is their mean: whether one policy falls
at once or later is close to chance. A part whose result is there already is left out,
so the command can be stopped and given again.

With `--online N`, those that have a recipe for it go on for N steps of the robot, an
update each, on the dataset and what they live through; the score is as before, of the
policies after the last of those steps. RO2O forgets the logs and acts for a tenth more
before its first update, Uni-O4 learns from ten rollouts. RLPD and H2O act for N steps
from the start, beside the logs, and take all their updates meanwhile; H2O's simulator
is the world itself here. `--hidden 64 64` makes all networks of both sides smaller.

    all = arrays, theirs, ours, scores, table; updates per second: offline_pace.py
"""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path

import numpy as np
from offline_plan import (  # limits threads first
    ACTING,
    ALONE,
    FORGETTING,
    SETS,
    TENTHS,
    THEIRS,
    TWINS,
    UNSCALED,
    has_twin,
    load_spec,
    ours,
    results,
    runs,
    settings,
    settings_online,
    stages,
    world,
)
from offline_scores import score, table

from robostack.data import d4rl
from robostack.data.dataset import create, open_dataset
from robostack.learner import Batch
from robostack.spec import RobotSpec, concatenate
from robostack.training import offline, online, recipe
from robostack.training.recipe import Recipe
from robostack.training.run import heritage, read
from robostack.training.setting import Setting

SELDOM = "evaluate_every=1_000_000_000"  # only the tenths leave policies


def make_arrays(args: argparse.Namespace) -> None:
    """Make a dataset of every set for us, and its transitions as arrays for them."""
    for name in args.sets:
        if (args.work / f"{name}.npz").exists():
            continue
        spec, files = load_spec(name), SETS[name][1]
        dataset = create(args.work / "sets" / name, spec)
        for file in files:
            path = args.data / "gym_rollouts" / f"{file}.hdf5"
            dataset.append(d4rl.read(path, spec), {"source": path.name})
        save_arrays(args.work / f"{name}.npz", spec, list(dataset))


def save_arrays(path: Path, spec: RobotSpec, episodes: list) -> None:
    """Write the episodes end to end; rewards scaled as the authors' code does.

    That is by 1000 / (largest - smallest return), over all trajectories, also the one
    that the file breaks off.
    """
    returns = [episode.reward.sum(dtype=np.float64) for episode in episodes]
    scale = 1000.0 / (max(returns) - min(returns))
    last = [np.arange(e.length) == e.length - 1 for e in episodes]
    stops = [np.full(e.length, e.end.value == "terminated") for e in episodes]
    ends, stops = np.concatenate(last), np.concatenate(stops)
    rows = [concatenate(spec, e.observation) for e in episodes]
    np.savez(
        path,
        observation=np.concatenate([row[:-1] for row in rows]),
        next_observation=np.concatenate([row[1:] for row in rows]),
        action=np.concatenate([e.action for e in episodes]),
        reward=(np.concatenate([e.reward for e in episodes]) * scale).astype("f4"),
        terminated=ends & stops,
        truncated=ends & ~stops,
        scale=scale,
        mean_return=np.mean(returns),
        episodes=len(episodes),
    )


def train_theirs(args: argparse.Namespace) -> None:
    """Train d3rlpy's twins, one seed after the other."""
    twins = [name for name in args.algorithms if has_twin(args, name)]
    hidden = ",".join(map(str, args.hidden or (256, 256)))
    for seed, name, algorithm in runs(args, twins):
        kind, parent = f"d3rlpy-{algorithm}", []
        for folder, updates in stages(args, kind, name, seed):
            if not (folder / "speed.txt").exists():
                numbers = [str(updates), str(args.checkpoints), str(seed)]
                told = [algorithm, args.work / f"{name}.npz", *numbers, hidden, folder]
                do = "online" if parent else "train"
                subprocess.run([args.d3rlpy, THEIRS, do, *told, *parent], check=True)
            parent = [folder, SETS[name][0]]


def train_ours(args: argparse.Namespace) -> None:
    """Train ours, and BC, on the same transitions."""
    for seed, name, algorithm in runs(args, ["bc", *args.algorithms]):
        planned = stages(args, ours(args, algorithm), name, seed)
        if results(args, planned[-1].folder).exists():
            continue
        for folder, updates in planned:
            keep = {"checkpoint_every": updates // TENTHS, "keep": args.checkpoints}
            options = offline.Options(seed=seed, resume=True, **keep)
            if folder != planned[0].folder:
                outcome = go_on(args, planned[0].folder, folder, options)
            else:
                outcome = train_one(args, algorithm, folder, options)
            if not outcome.finished:
                raise SystemExit(f"{folder} was interrupted; give the command again")
            print(*folder.parts[-3:], flush=True)


def train_one(
    args: argparse.Namespace, algorithm: str, folder: Path, options: offline.Options
) -> offline.Outcome:
    """Train from scratch, on the logs alone or beside them."""
    name = folder.parent.name
    dataset = open_dataset(args.work / "sets" / name)
    arrays = np.load(args.work / f"{name}.npz")
    scaled = algorithm in TWINS and algorithm not in UNSCALED
    scale = float(arrays["scale"]) if scaled else None
    plan = make_plan(args, algorithm, scale)
    if algorithm in ACTING:
        return online.train(Setting(world(name), "", dataset), folder, plan, options)
    if scaled:
        require_same(offline.load_replay(dataset, plan).transitions(), arrays)
    return offline.train(dataset, folder, plan, options)


def make_plan(args: argparse.Namespace, algorithm: str, scale: float | None) -> Recipe:
    """Return the recipe for locomotion as it is compared; `scale` is of rewards."""
    changes = [f"steps={args.steps}", *settings(args, algorithm), SELDOM]
    if scale is not None:
        changes.append(f"reward_scale={scale!r}")
    return recipe.read(algorithm, "locomotion", changes)


def go_on(
    args: argparse.Namespace, parent: Path, folder: Path, options: offline.Options
) -> offline.Outcome:
    """Train on from `parent`, acting."""
    about, name = read(parent), parent.parent.name
    algorithm = about.recipe.algorithm
    told = [*settings_online(args, algorithm), SELDOM]
    plan = recipe.read(algorithm, "online", told, heritage(about, algorithm))
    forgets = algorithm in FORGETTING
    dataset = None if forgets else open_dataset(args.work / "sets" / name)
    setting = Setting(world(name), "", dataset, parent)
    return online.train(setting, folder, plan, options)


def require_same(batch: Batch, arrays: np.lib.npyio.NpzFile) -> None:
    """Raise unless what we learn from is what they learn from."""
    for field in ("observation", "action", "reward", "next_observation"):
        np.testing.assert_allclose(getattr(batch, field), arrays[field], rtol=1e-6)
    assert ((batch.discount == 0) == arrays["terminated"]).all()


PARTS = {
    "arrays": make_arrays,
    "theirs": train_theirs,
    "ours": train_ours,
    "scores": score,
    "table": table,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("part", choices=["all", *PARTS])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, default=Path("runs/offline"))
    parser.add_argument(
        "--d3rlpy", type=Path, help="python that has it; else ours alone"
    )
    known = [*TWINS, *ALONE, *ACTING]
    parser.add_argument("--algorithms", nargs="+", choices=known, default=list(TWINS))
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--steps", type=int, default=20_000, help="a multiple of 10")
    parser.add_argument("--online", type=int, default=0, help="steps after those")
    parser.add_argument("--checkpoints", type=int, choices=range(1, 11), default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument(
        "--hidden", nargs="+", type=int, help="sizes of layers; default: 256 256"
    )
    parser.add_argument(
        "--set", nargs="+", default=[], help="settings of ours, beside the recipes"
    )
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    args = parser.parse_args()
    for number in (args.steps, args.online):
        if number % TENTHS:
            parser.error(f"expected a multiple of {TENTHS} steps, got {number}")
    if not args.online and set(args.algorithms) & set(ACTING):
        parser.error(f"expected --online N for {' and '.join(ACTING)}: they act")
    args.work.mkdir(parents=True, exist_ok=True)
    for part in PARTS if args.part == "all" else [args.part]:
        PARTS[part](args)


if __name__ == "__main__":
    main()
