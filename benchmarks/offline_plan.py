"""What offline.py compares: sets, algorithms, and where a run and its scores lie."""

from __future__ import annotations

import argparse
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from robostack import plugins
from robostack.spec import RobotSpec
from robostack.training import recipe

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
    "ro2o": ("critics=5", "least_of=5"),
    "uni_o4": (
        "batch_size=256",
        "improvement_share=0.2",
        "gate_period=50",
        "target_rate=0.005",
        *(f"{net}_hidden=[]" for net in ("critic", "value", "dynamics")),
    ),
}
ACTING = ("rlpd", "h2o")  # ours that learn beside the data, all while they act
FORGETTING = ("ro2o", "uni_o4")  # go on online without the data
UNSCALED = ("td3_bc",)  # the other twins learn from rewards scaled by the range
THEIRS = Path(__file__).with_name("offline_theirs.py")
TENTHS = 10  # of the updates: policies are kept after each of the last


class Stage(NamedTuple):
    """A run, of so many updates."""

    folder: Path
    updates: int


def load_spec(name: str) -> RobotSpec:
    """Return the robot of the set `name`."""
    return plugins.load("sim", "gym").spec(SETS[name][0])


def world(name: str) -> str:
    """Return the address of the world of the set `name`."""
    return f"sim:gym/{SETS[name][0]}"


def runs(args: argparse.Namespace, kinds: list[str]) -> Iterator[tuple[int, str, str]]:
    """Return every seed, set and kind; whole seeds first."""
    return itertools.product(range(args.seeds), args.sets, kinds)


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


def has_twin(args: argparse.Namespace, algorithm: str) -> bool:
    """Return whether d3rlpy has `algorithm`, and is there."""
    return algorithm in TWINS and args.d3rlpy is not None


def goes_on(args: argparse.Namespace, algorithm: str) -> bool:
    """Return whether `algorithm` is to go on online, and its paper does."""
    return args.online > 0 and "online" in recipe.names(algorithm)


def settings(args: argparse.Namespace, algorithm: str) -> list[str]:
    """Return what is set beside the recipe of our `algorithm`."""
    told = [f"precision={args.precision}", *(TWINS | ALONE).get(algorithm, ())]
    if args.hidden:
        told.append(f"hidden={args.hidden}")
    if algorithm != "bc":
        told += args.set
    if algorithm in ACTING:
        rate = args.steps / args.online
        told += [f"updates_per_step={rate}", f"random_steps={args.online // TENTHS}"]
    return told


def settings_online(args: argparse.Namespace, algorithm: str) -> list[str]:
    """Return what is set beside the recipe `online` of our `algorithm`."""
    updates, tenth = updates_online(args, algorithm), args.online // TENTHS
    told = {"ro2o": [f"warmup_steps={tenth}"], "uni_o4": [f"batch_size={tenth}"]}
    return [f"steps={updates}", *told.get(algorithm, [])]


def updates_online(args: argparse.Namespace, algorithm: str) -> int:
    """Return how many updates the steps online are; of PPO each is a rollout."""
    return TENTHS if algorithm == "uni_o4" else args.online


def stages(args: argparse.Namespace, kind: str, name: str, seed: int) -> list[Stage]:
    """Return the runs that are one `kind` on the set `name`, from logs and online."""
    algorithm = kind.removeprefix("d3rlpy-").partition("-")[0]
    folder = args.work / "runs" / kind / name / str(seed)
    after = Path(f"{folder}-online-{args.online}")
    if algorithm in ACTING:
        return [Stage(after, args.steps)]
    first = [Stage(folder, args.steps)]
    if not goes_on(args, algorithm):
        return first
    return [*first, Stage(after, updates_online(args, algorithm))]


def marks(args: argparse.Namespace, steps: int) -> list[int]:
    """Return the numbers of updates after which policies are tried; the last is all."""
    first = TENTHS - args.checkpoints + 1
    return [steps // TENTHS * tenth for tenth in range(first, TENTHS + 1)]


def results(args: argparse.Namespace, folder: Path) -> Path:
    """Return the file of the returns of the run in `folder`."""
    return folder / f"returns-{args.checkpoints}x{args.episodes}.json"
