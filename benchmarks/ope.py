"""Off-policy evaluation against the truth: does it rank policies of Hopper rightly?

    python benchmarks/ope.py all --data DATA

The judged policies (`ope_families.py`) were fixed before any estimate was looked at.
The logs that estimators see are half medium and half expert. The truth is what the
policies earn in Gymnasium's Hopper-v5 itself. A part whose result is there already is
left out. Settings of an estimator are its defaults, changed by `--set NAME=VALUE`.

    all = sets, policies, truth, estimates, table
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import gymnasium
import msgspec
import numpy as np
from ope_families import FAMILIES, Candidate

from robostack import plugins
from robostack.data import d4rl
from robostack.data.dataset import create, open_dataset
from robostack.training import checkpoint, offline, ope, recipe
from robostack.training.process import prepare
from robostack.training.run import CHECKPOINTS, make_learner, read

SETS = {
    "random": ("hopper-random-like",),
    "medium": ("hopper-medium-like",),
    "expert": ("hopper-expert-like",),
    "medium-expert": ("hopper-medium-like", "hopper-expert-like"),
}
SEEN = "medium-expert"  # what estimators see
RUNS = {"random": 3_000, "medium": 10_000, "expert": 10_000}  # updates of cloning
EVERY = 500  # updates between checkpoints
HORIZON = 1000  # [steps] Hopper-v5's own
TRUTH_SEED = 70_000


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
    here = "/" not in candidate.run
    folder = (args.work if here else args.offline) / "runs" / candidate.run
    learner = make_learner(read(folder))
    name = f"{candidate.updates:012d}.ckpt"
    learner.load(checkpoint.read(folder / CHECKPOINTS / name).learner)
    return learner


def actor(args: argparse.Namespace, candidate: Candidate) -> Callable:
    """Return actions (B, A) of a candidate as a function of observations (B, O)."""
    return candidate.actor(load(args, candidate).act)


def true_path(args: argparse.Namespace) -> Path:
    return args.work / f"truth-{args.family}-{args.gamma}-{args.episodes}.json"


def told_path(args: argparse.Namespace, name: str, seed: int) -> Path:
    settings = "".join(f"-{setting}" for setting in args.set)
    words = (args.family, name + settings, args.gamma, args.seeds, seed)
    return args.work / ("-".join(map(str, words)) + ".json")


def truth(args: argparse.Namespace) -> None:
    """Let every candidate act in the world itself."""
    path = true_path(args)
    if path.exists():
        return
    found = {k: roll(args, actor(args, c)) for k, c in FAMILIES[args.family].items()}
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


def estimates(args: argparse.Namespace) -> None:
    """Let every estimator judge all candidates from the mix."""
    evidence = ope.gather(open_dataset(args.work / "sets" / SEEN), gamma=args.gamma)
    judged = [
        ope.Candidate(name, asking(actor(args, c)), density(args, c))
        for name, c in FAMILIES[args.family].items()
    ]
    for name in args.estimators:
        for seed in range(args.repeats):
            path = told_path(args, name, seed)
            if path.exists():
                continue
            start_s = time.process_time()
            options = ope.Options(args.seeds, seed, resamples=args.resamples)
            found = judge(args, name, evidence, judged, options)
            print(
                name, seed, f"{time.process_time() - start_s:.0f} s of processor time"
            )
            path.write_bytes(msgspec.json.encode(found))


def judge(
    args: argparse.Namespace,
    name: str,
    evidence: ope.Evidence,
    judged: Sequence[ope.Candidate],
    options: ope.Options,
) -> list[ope.Estimate]:
    """Judge as `ope.estimate` does, with the settings of the command."""
    prepare()
    module = plugins.load(ope.KIND, name)
    changes = dict(setting.split("=") for setting in args.set)
    config = msgspec.convert(changes, module.Config, strict=False)
    return module.estimate(evidence, judged, config, options, lambda *_: None)


def asking(act: Callable) -> Callable:
    return lambda observation, _: act(observation)


def density(args: argparse.Namespace, candidate: Candidate) -> Callable | None:
    """Return the density of a candidate's draws: its own, or that of its noise."""
    learner = load(args, candidate)
    if candidate.part != 1.0 or candidate.uniform:
        return None
    if not candidate.noise:
        return learner.log_prob

    def log_prob(observation: np.ndarray, action: np.ndarray) -> np.ndarray:
        error = (action - learner.act(observation, None)) / candidate.noise
        scale = np.log(candidate.noise) + 0.5 * np.log(2 * np.pi)
        return -(0.5 * error**2 + scale).sum(1)

    return log_prob


def table(args: argparse.Namespace) -> None:
    """Print truth beside estimates, and how their ranks agree."""
    path = true_path(args)
    found = json.loads(path.read_text())
    true = {
        key: np.array([np.mean(found[name][key]) for name in FAMILIES[args.family]])
        for key in ("discounted", "returns")
    }
    for name in args.estimators:
        for seed in range(args.repeats):
            path = told_path(args, name, seed)
            told = json.loads(path.read_text())
            print(f"\n{name}, seed {seed}")
            for row, disc, whole in zip(told, *true.values(), strict=True):
                ess = "" if row["ess"] is None else f"{row['ess']:.1f}"
                print(
                    f"| {row['policy']} | {whole:.0f} | {disc:.0f} | {row['value']:.0f}"
                    f" | {row['low']:.0f} to {row['high']:.0f} | {ess} |"
                )
            values = np.array([row["value"] for row in told])
            for key, column in true.items():
                print(f"Spearman with {key}: {spearman(values, column):.2f}")


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Return the correlation of the ranks of `a` and `b` (P,)."""
    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])


def ranks(values: np.ndarray) -> np.ndarray:
    """Return twice the ranks of `values` (P,); equal ones share the mean of theirs."""
    order = np.sort(values)
    below = np.searchsorted(order, values, "left")
    return below + np.searchsorted(order, values, "right")


PARTS = {
    "sets": make_sets,
    "policies": train,
    "truth": truth,
    "estimates": estimates,
    "table": table,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("part", choices=["all", *PARTS])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, default=Path("runs/ope"))
    parser.add_argument("--offline", type=Path, default=Path("runs/offline"))
    parser.add_argument("--family", choices=[*FAMILIES], default="nine")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE")
    parser.add_argument("--gamma", type=float, default=0.99)
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--estimators", nargs="+", default=["fqe", "wis", "am_q"])
    parser.add_argument("--seeds", type=int, default=1, help="fits in one estimate")
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3, help="whole estimates")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    for part in PARTS if args.part == "all" else [args.part]:
        start_s = time.perf_counter()
        PARTS[part](args)
        print(f"{part}: {time.perf_counter() - start_s:.0f} s")


if __name__ == "__main__":
    main()
