"""Scores of algorithms here against their twins in d3rlpy.

    python -m venv d3 && d3/bin/pip install d3rlpy==2.8.1 torch==2.13.0 mujoco imageio
    python benchmarks/offline.py all --d3rlpy d3/bin/python --data DATA

Both sides get the same transitions, with the same rewards, sizes (2 x 256), batch
(256), number of updates and settings (`TWINS`, and `make` in offline_theirs.py), and
one thread each. The policies after each of the last `--checkpoints` tenths of the
updates are tried in Gymnasium's world by the same code, deterministically, from the
same seeds. A score is their mean: whether one policy falls at once or later is close to
chance. A part whose result is there already is left out, so the command can be stopped
and given again.

With `--online N`, those that have a recipe for it go on for N steps of the robot, an
update each, on the dataset and what they live through; the score is as before, of the
policies after the last of those steps.

    all = arrays, theirs, ours, scores, table; updates per second: offline_pace.py
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np

from robostack import plugins
from robostack.data import d4rl
from robostack.data.dataset import Dataset, create, open_dataset
from robostack.learner import Batch
from robostack.spec import RobotSpec, concatenate
from robostack.training import checkpoint, offline, online, recipe
from robostack.training.evaluate import Policy, deterministic, evaluate, open_arena
from robostack.training.run import CHECKPOINTS, heritage, make_learner, read
from robostack.training.setting import Setting

SETS = {  # name -> world and files, of which all transitions are taken
    "random": ("Hopper-v5", ("hopper-random-like",)),
    "medium": ("Hopper-v5", ("hopper-medium-like",)),
    "expert": ("Hopper-v5", ("hopper-expert-like",)),
    "random-expert": ("Hopper-v5", ("hopper-random-like", "hopper-expert-like")),
    "medium-expert": ("Hopper-v5", ("hopper-medium-like", "hopper-expert-like")),
    "halfcheetah": ("HalfCheetah-v5", ("halfcheetah-medium-like",)),
}
TWINS = {  # ours, and what is set beside its recipe for locomotion
    "iql": (),
    "td3_bc": (),
    "awac": ("weights=batch", "inverse_temperature=1.0"),
    "cql": (),
    "cal_ql": (),
}
ALONE = {  # ours that d3rlpy has not, and what is set beside their recipes
    "famo2o": (),
    "ro2o": (),
    "rlpd": (),
}
UNSCALED = ("td3_bc",)  # the other twins learn from rewards scaled by the range
THEIRS = Path(__file__).with_name("offline_theirs.py")
EVALUATION_SEED = 50_000
SELDOM = "evaluate_every=1_000_000_000"  # only the tenths leave policies
TENTHS = 10  # of the updates: policies are kept after each of the last


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


def load_spec(name: str) -> RobotSpec:
    """Return the robot of the set `name`."""
    return plugins.load("sim", "gym").spec(SETS[name][0])


def train_theirs(args: argparse.Namespace) -> None:
    """Train d3rlpy's twins, one seed after the other."""
    twins = [name for name in args.algorithms if has_twin(args, name)]
    for seed, name, algorithm in runs(args, twins):
        folder = args.work / "runs" / f"d3rlpy-{algorithm}" / name / str(seed)
        numbers = [str(args.steps), str(args.checkpoints), str(seed)]
        told = [algorithm, args.work / f"{name}.npz", *numbers, folder]
        if not (folder / "speed.txt").exists():
            subprocess.run([args.d3rlpy, THEIRS, "train", *told], check=True)
        after = Path(f"{folder}-online-{args.online}")
        if not goes_on(args, algorithm) or (after / "speed.txt").exists():
            continue
        told[2], told[5] = str(args.online), after
        more = [folder, SETS[name][0]]
        subprocess.run([args.d3rlpy, THEIRS, "online", *told, *more], check=True)


def has_twin(args: argparse.Namespace, algorithm: str) -> bool:
    """Return whether d3rlpy has `algorithm`, and is there."""
    return algorithm in TWINS and args.d3rlpy is not None


def goes_on(args: argparse.Namespace, algorithm: str) -> bool:
    """Return whether `algorithm` is to go on online, and its paper does."""
    return args.online > 0 and "online" in recipe.names(algorithm)


def train_ours(args: argparse.Namespace) -> None:
    """Train ours, and BC, on the same transitions."""
    for seed, name, algorithm in runs(args, ["bc", *args.algorithms]):
        folder = args.work / "runs" / ours(args, algorithm) / name / str(seed)
        after = Path(f"{folder}-online-{args.online}")
        last = after if goes_on(args, algorithm) else folder
        if not results(args, last).exists():
            train_one(args, algorithm, name, seed)


def runs(args: argparse.Namespace, kinds: list[str]) -> Iterator[tuple[int, str, str]]:
    """Return every seed, set and kind; whole seeds first."""
    return itertools.product(range(args.seeds), args.sets, kinds)


def train_one(args: argparse.Namespace, algorithm: str, name: str, seed: int) -> None:
    arrays = np.load(args.work / f"{name}.npz")
    changes = [f"steps={args.steps}", *settings(args, algorithm), SELDOM]
    scaled = algorithm in TWINS and algorithm not in UNSCALED
    if scaled:
        changes.append(f"reward_scale={arrays['scale']!s}")
    plan = recipe.read(algorithm, "locomotion", changes)
    folder = args.work / "runs" / ours(args, algorithm) / name / str(seed)
    dataset = open_dataset(args.work / "sets" / name)
    if scaled:
        require_same(offline.load_replay(dataset, plan).transitions(), arrays)
    every, keep = args.steps // TENTHS, args.checkpoints
    options = offline.Options(seed=seed, resume=True, checkpoint_every=every, keep=keep)

    def show(progress: offline.Progress) -> None:
        if progress.step % 5000 == 0:
            print(
                algorithm, name, seed, progress.step, f"{progress.updates_per_s:.0f}/s"
            )

    finish(folder, offline.train(dataset, folder, plan, options, show))
    if goes_on(args, algorithm):
        go_on(args, folder, dataset, SETS[name][0])


def go_on(args: argparse.Namespace, parent: Path, dataset: Dataset, world: str) -> None:
    """Train on from `parent`, acting."""
    about = read(parent)
    name, told = about.recipe.algorithm, [f"steps={args.online}", SELDOM]
    inherited = heritage(about, name)
    plan = recipe.read(name, "online", told, inherited)
    setting = Setting(f"sim:gym/{world}", "", dataset, parent)
    every, keep = args.online // TENTHS, args.checkpoints
    options = offline.Options(
        seed=about.seed, resume=True, checkpoint_every=every, keep=keep
    )
    folder = Path(f"{parent}-online-{args.online}")
    finish(folder, online.train(setting, folder, plan, options))
    print(name, parent.parent.name, about.seed, "online", args.online)


def finish(folder: Path, outcome: offline.Outcome) -> None:
    """Stop where the run in `folder` was stopped."""
    if not outcome.finished:
        raise SystemExit(f"{folder} was interrupted; give the command again")


def require_same(batch: Batch, arrays: np.lib.npyio.NpzFile) -> None:
    """Raise unless what we learn from is what they learn from."""
    for field in ("observation", "action", "reward", "next_observation"):
        np.testing.assert_allclose(getattr(batch, field), arrays[field], rtol=1e-6)
    assert ((batch.discount == 0) == arrays["terminated"]).all()


def score(args: argparse.Namespace) -> None:
    """Try every policy in the world; one file of returns for each run."""
    for seed, name, kind in runs(args, kinds(args)):
        folder = args.work / "runs" / kind / name / str(seed)
        score_one(args, folder, args.steps)
        after = Path(f"{folder}-online-{args.online}")
        if goes_on(args, kind.removeprefix("d3rlpy-").partition("-")[0]):
            score_one(args, after, args.online)


def score_one(args: argparse.Namespace, folder: Path, steps: int) -> None:
    """Try the last policies of the run in `folder`, of so many `steps`."""
    path, name = results(args, folder), folder.parent.name
    if path.exists():
        return
    returns, arena = {}, open_arena(f"sim:gym/{SETS[name][0]}")
    for step in marks(args, steps):
        policy = load(folder, step)
        tried = evaluate(policy, arena, episodes=args.episodes, seed=EVALUATION_SEED)
        returns[step] = tried.returns.tolist()
    arena.world.close()
    path.write_text(json.dumps(returns))
    print(*folder.parts[-3:], f"{average(path):.0f}", flush=True)


def marks(args: argparse.Namespace, steps: int) -> list[int]:
    """Return the numbers of updates after which policies are tried; the last is all."""
    first = TENTHS - args.checkpoints + 1
    return [steps // TENTHS * tenth for tenth in range(first, TENTHS + 1)]


def results(args: argparse.Namespace, folder: Path) -> Path:
    """Return the file of the returns of the run in `folder`."""
    return folder / f"returns-{args.checkpoints}x{args.episodes}.json"


def average(path: Path) -> float:
    """Return the mean over checkpoints and episodes."""
    returns = json.loads(path.read_text()).values()
    return statistics.mean(itertools.chain.from_iterable(returns))


def kinds(args: argparse.Namespace) -> list[str]:
    """Return the folders of all that is compared."""
    pairs = (
        [f"d3rlpy-{name}"] * has_twin(args, name) + [ours(args, name)]
        for name in args.algorithms
    )
    return [ours(args, "bc"), *itertools.chain.from_iterable(pairs)]


def ours(args: argparse.Namespace, algorithm: str) -> str:
    """Return the folder of our `algorithm`."""
    return algorithm if args.precision == "fp32" else f"{algorithm}-{args.precision}"


def settings(args: argparse.Namespace, algorithm: str) -> list[str]:
    """Return what is set beside the recipe of our `algorithm`."""
    return [f"precision={args.precision}", *(TWINS | ALONE).get(algorithm, ())]


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
    """Return mean and standard deviation over seeds, and the seeds, that there are."""
    folder = args.work / "runs" / kind / name
    paths = [results(args, folder / f"{seed}{tail}") for seed in range(args.seeds)]
    means = [average(path) for path in paths if path.exists()]
    if not means:
        return ""
    each = ", ".join(f"{mean:.0f}" for mean in means)
    return f"{statistics.mean(means):.0f} ± {statistics.pstdev(means):.0f} ({each})"


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
    known = [*TWINS, *ALONE]
    parser.add_argument("--algorithms", nargs="+", choices=known, default=list(TWINS))
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--steps", type=int, default=20_000, help="a multiple of 10")
    parser.add_argument("--online", type=int, default=0, help="steps after those")
    parser.add_argument("--checkpoints", type=int, choices=range(1, 11), default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    args = parser.parse_args()
    for number in (args.steps, args.online):
        if number % TENTHS:
            parser.error(f"expected a multiple of {TENTHS} steps, got {number}")
    args.work.mkdir(parents=True, exist_ok=True)
    for part in PARTS if args.part == "all" else [args.part]:
        PARTS[part](args)


if __name__ == "__main__":
    main()
