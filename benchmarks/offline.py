"""Algorithms here against their twins in d3rlpy: scores, and updates per second.

    python -m venv d3 && d3/bin/pip install d3rlpy==2.8.1 torch==2.13.0
    python benchmarks/offline.py all --d3rlpy d3/bin/python --data DATA

Both sides get the same transitions, with the same rewards, sizes (2 x 256), batch
(256), number of updates and settings (`TWINS`, and `make` in offline_theirs.py), and
one thread each. The policies after each of the last `--checkpoints` tenths of the
updates are tried in Gymnasium's Hopper-v5 by the same code, deterministically, from the
same seeds. A score is their mean: whether one policy falls at once or later is close to
chance. A part whose result is there already is left out, so the command can be stopped
and given again.

    all = arrays, theirs, ours, scores, pace, table
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np

from robostack import plugins
from robostack.data import d4rl
from robostack.data.dataset import create, open_dataset
from robostack.learner import Batch
from robostack.spec import concatenate
from robostack.training import checkpoint, offline, recipe
from robostack.training.evaluate import Policy, deterministic, evaluate, open_arena
from robostack.training.process import prepare
from robostack.training.run import CHECKPOINTS, make_learner, read

WORLD = "sim:gym/Hopper-v5"
SETS = {  # name -> files, of which all transitions are taken
    "medium": ("hopper-medium-like",),
    "medium-expert": ("hopper-medium-like", "hopper-expert-like"),
}
TWINS = {  # ours, and what is set beside its recipe for locomotion
    "iql": (),
    "td3_bc": (),
    "awac": ("weights=batch", "inverse_temperature=1.0"),
    "cql": (),
    "cal_ql": (),
}
UNSCALED = ("bc", "td3_bc")  # the others learn from rewards scaled by the range
THEIRS = Path(__file__).with_name("offline_theirs.py")
EVALUATION_SEED = 50_000
TENTHS = 10  # of the updates: policies are kept after each of the last


def make_arrays(args: argparse.Namespace) -> None:
    """Make a dataset of every set for us, and its transitions as arrays for them."""
    spec = plugins.load("sim", "gym").spec("Hopper-v5")
    for name, files in SETS.items():
        if (args.work / f"{name}.npz").exists():
            continue
        dataset = create(args.work / "sets" / name, spec)
        for file in files:
            path = args.data / "gym_rollouts" / f"{file}.hdf5"
            dataset.append(d4rl.read(path, spec), {"source": path.name})
        save_arrays(args.work / f"{name}.npz", list(dataset))


def save_arrays(path: Path, episodes: list) -> None:
    """Write the episodes end to end; rewards scaled as the authors' code does.

    That is by 1000 / (largest - smallest return), over all trajectories, also the one
    that the file breaks off.
    """
    returns = [episode.reward.sum(dtype=np.float64) for episode in episodes]
    scale = 1000.0 / (max(returns) - min(returns))
    last = [np.arange(e.length) == e.length - 1 for e in episodes]
    stops = [np.full(e.length, e.end.value == "terminated") for e in episodes]
    ends, stops = np.concatenate(last), np.concatenate(stops)
    rows = [concatenate(load_spec(), e.observation) for e in episodes]
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


def load_spec() -> object:
    return plugins.load("sim", "gym").spec("Hopper-v5")


def train_theirs(args: argparse.Namespace) -> None:
    """Train d3rlpy's twins, one seed after the other."""
    for seed, name, algorithm in runs(args, args.algorithms):
        folder = args.work / "runs" / f"d3rlpy-{algorithm}" / name / str(seed)
        if (folder / "speed.txt").exists():
            continue
        command = [args.d3rlpy, THEIRS, "train", algorithm, args.work / f"{name}.npz"]
        numbers = map(str, (args.steps, args.checkpoints, seed))
        subprocess.run([*command, *numbers, folder], check=True)


def train_ours(args: argparse.Namespace) -> None:
    """Train ours, and BC, on the same transitions."""
    for seed, name, algorithm in runs(args, ["bc", *args.algorithms]):
        train_one(args, algorithm, name, seed)


def runs(args: argparse.Namespace, kinds: list[str]) -> Iterator[tuple[int, str, str]]:
    """Return every seed, set and kind; whole seeds first."""
    return itertools.product(range(args.seeds), args.sets, kinds)


def train_one(args: argparse.Namespace, algorithm: str, name: str, seed: int) -> None:
    arrays = np.load(args.work / f"{name}.npz")
    changes = [f"steps={args.steps}", *settings(args, algorithm)]
    if algorithm not in UNSCALED:
        changes.append(f"reward_scale={arrays['scale']!s}")
    plan = recipe.read(algorithm, "locomotion", changes)
    folder = args.work / "runs" / ours(args, algorithm) / name / str(seed)
    dataset = open_dataset(args.work / "sets" / name)
    if algorithm not in UNSCALED:
        require_same(offline.load_replay(dataset, plan).transitions(), arrays)
    every, keep = args.steps // TENTHS, args.checkpoints
    options = offline.Options(seed=seed, resume=True, checkpoint_every=every, keep=keep)

    def show(progress: offline.Progress) -> None:
        if progress.step % 5000 == 0:
            print(
                algorithm, name, seed, progress.step, f"{progress.updates_per_s:.0f}/s"
            )

    if not offline.train(dataset, folder, plan, options, show).finished:
        raise SystemExit(f"{folder} was interrupted; give the command again")


def require_same(batch: Batch, arrays: np.lib.npyio.NpzFile) -> None:
    """Raise unless what we learn from is what they learn from."""
    for field in ("observation", "action", "reward", "next_observation"):
        np.testing.assert_allclose(getattr(batch, field), arrays[field], rtol=1e-6)
    assert ((batch.discount == 0) == arrays["terminated"]).all()


def score(args: argparse.Namespace) -> None:
    """Try every policy in the world; one file of returns for each run."""
    arena = open_arena(WORLD)
    for seed, name, kind in runs(args, kinds(args)):
        folder = args.work / "runs" / kind / name / str(seed)
        path = results(args, folder)
        if path.exists():
            continue
        returns = {}
        for step in marks(args):
            policy = load(folder, step)
            tried = evaluate(
                policy, arena, episodes=args.episodes, seed=EVALUATION_SEED
            )
            returns[step] = tried.returns.tolist()
        path.write_text(json.dumps(returns))
        print(kind, name, seed, f"{average(path):.0f}")
    arena.world.close()


def marks(args: argparse.Namespace) -> list[int]:
    """Return the numbers of updates after which policies are tried; the last is all."""
    first = TENTHS - args.checkpoints + 1
    return [args.steps // TENTHS * tenth for tenth in range(first, TENTHS + 1)]


def results(args: argparse.Namespace, folder: Path) -> Path:
    """Return the file of the returns of the run in `folder`."""
    return folder / f"returns-{args.checkpoints}x{args.episodes}.json"


def average(path: Path) -> float:
    """Return the mean over checkpoints and episodes."""
    returns = json.loads(path.read_text()).values()
    return statistics.mean(itertools.chain.from_iterable(returns))


def kinds(args: argparse.Namespace) -> list[str]:
    """Return the folders of all that is compared."""
    pairs = ([f"d3rlpy-{name}", ours(args, name)] for name in args.algorithms)
    return [ours(args, "bc"), *itertools.chain.from_iterable(pairs)]


def ours(args: argparse.Namespace, algorithm: str) -> str:
    """Return the folder of our `algorithm`."""
    return algorithm if args.precision == "fp32" else f"{algorithm}-{args.precision}"


def settings(args: argparse.Namespace, algorithm: str) -> list[str]:
    """Return what is set beside the recipe of our `algorithm`."""
    return [f"precision={args.precision}", *TWINS.get(algorithm, ())]


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

    spec = load_spec()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        policy = torch.jit.load(str(folder / f"policy-{step}.pt"))

    @torch.inference_mode()
    def act(observation: np.ndarray) -> np.ndarray:
        return policy(torch.from_numpy(observation)).numpy().clip(-1.0, 1.0)

    probe = np.load(folder / f"probe-{step}.npz")
    np.testing.assert_allclose(act(probe["observation"]), probe["action"], atol=1e-5)
    return lambda reading: act(concatenate(spec, reading)[None])[0]


def pace(args: argparse.Namespace) -> None:
    """Time every pair."""
    prepare()
    for algorithm in args.algorithms:
        pace_one(args, algorithm)


def pace_one(args: argparse.Namespace, algorithm: str) -> None:
    """Time sampling and updating in turns: ours, theirs, ours, theirs, ..."""
    dataset = open_dataset(args.work / "sets" / "medium")
    plan = recipe.read(algorithm, "locomotion", settings(args, algorithm))
    replay = offline.load_replay(dataset, plan)
    module, config = plugins.load("policies", algorithm), recipe.configure(plan)
    learner = module.Learner(
        dataset.spec, config, statistics=replay.statistics, steps=10**6, seed=0
    )
    rng = np.random.default_rng(0)

    def one() -> float:
        start_s = time.perf_counter()
        for _ in range(args.updates):
            learner.update(replay.sample(rng, 256))
        return time.perf_counter() - start_s

    command = [args.d3rlpy, THEIRS, "pace", algorithm, args.work / "medium.npz"]
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


def table(args: argparse.Namespace) -> None:
    """Print the scores as a table."""
    print(f"| set | transitions | the data | {' | '.join(kinds(args))} |")
    print("|---|---|---|" + "---|" * len(kinds(args)))
    for name in args.sets:
        arrays = np.load(args.work / f"{name}.npz")
        cells = [cell(args, kind, name) for kind in kinds(args)]
        size, logged = len(arrays["reward"]), float(arrays["mean_return"])
        print(f"| {name} | {size} | {logged:.0f} | {' | '.join(cells)} |")


def cell(args: argparse.Namespace, kind: str, name: str) -> str:
    """Return mean and standard deviation over seeds, and the seeds."""
    means = []
    for seed in range(args.seeds):
        folder = args.work / "runs" / kind / name / str(seed)
        means.append(average(results(args, folder)))
    each = ", ".join(f"{mean:.0f}" for mean in means)
    return f"{statistics.mean(means):.0f} ± {statistics.pstdev(means):.0f} ({each})"


PARTS = {
    "arrays": make_arrays,
    "theirs": train_theirs,
    "ours": train_ours,
    "scores": score,
    "pace": pace,
    "table": table,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("part", choices=["all", *PARTS])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, default=Path("runs/offline"))
    parser.add_argument("--d3rlpy", type=Path, help="python that has d3rlpy")
    parser.add_argument(
        "--algorithms", nargs="+", choices=list(TWINS), default=list(TWINS)
    )
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--steps", type=int, default=20_000, help="a multiple of 10")
    parser.add_argument("--checkpoints", type=int, choices=range(1, 11), default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--rounds", type=int, default=25, help="of the paired timing")
    parser.add_argument("--updates", type=int, default=100, help="per round")
    args = parser.parse_args()
    if args.steps % TENTHS:
        parser.error(f"expected --steps to be a multiple of {TENTHS}, got {args.steps}")
    args.work.mkdir(parents=True, exist_ok=True)
    for part in PARTS if args.part == "all" else [args.part]:
        PARTS[part](args)


if __name__ == "__main__":
    main()
