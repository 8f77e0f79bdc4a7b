"""The folder of one training run.

run/
run.json                 `Run`: everything the run follows from
checkpoints/*.ckpt       see checkpoint.py
metrics.jsonl            a line per report
events.out.tfevents.*    the same for TensorBoard
"""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from robostack import __version__
from robostack.data.atomic import write_file
from robostack.data.dataset import Dataset
from robostack.data.replay import Replay
from robostack.learner import Learner, Statistics
from robostack.spec import RobotSpec, SpecError, float32
from robostack.training import checkpoint
from robostack.training.checkpoint import Checkpoint
from robostack.training.process import load_algorithm
from robostack.training.recipe import Recipe, configure

VERSION = 2  # raise on any change of `Run`
_READABLE = (1, 2)  # runs of version 1 are offline ones
CHECKPOINTS = "checkpoints"


class RunError(ValueError):
    """A run that is not there, is there already, or does not fit."""


class Data(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a run learned from: its own dataset, or that of its parent."""

    path: str  # "" without any
    digest: str
    transitions: int
    labeller: str  # "" without rewards
    reward_scale: float  # reward as learned = scale * logged + shift
    reward_shift: float
    mean: tuple[float, ...]  # (O,) of the observations
    std: tuple[float, ...]  # (O,)
    return_low: float  # of rewards as learned
    return_high: float


class Parent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The run whose learner a run began with."""

    path: str
    algorithm: str
    step: int  # of its checkpoint
    digest: str  # sha256 of the learner's state


class Online(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a run learned by acting."""

    world: str  # address
    task: str  # "": the world's first
    dataset: bool  # `Run.data` was part of the batches
    parent: Parent | None = None


class Run(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything a run follows from."""

    version: int
    recipe: Recipe
    config: dict[str, Any]  # the algorithm's settings in full, defaults included
    seed: int
    data: Data
    robot: RobotSpec
    versions: dict[str, str]  # of robostack and what it stands on
    commit: str  # of robostack's source, if it is a checkout; else ""
    created: str  # UTC, ISO 8601
    online: Online | None = None  # None: from logs alone


def describe(recipe: Recipe, seed: int, dataset: Dataset, replay: Replay) -> Run:
    """Return what is going to be `run.json` of a run from logs."""
    return compose(recipe, seed, dataset.spec, describe_data(dataset, replay))


def describe_data(dataset: Dataset, replay: Replay) -> Data:
    """Return what there is to be said of a dataset."""
    statistics, rewarding = replay.statistics, replay.rewarding
    return Data(
        path=str(dataset.path.resolve()),
        digest=dataset.digest,
        transitions=len(replay),
        labeller=rewarding.labeller or "",
        reward_scale=rewarding.scale,
        reward_shift=rewarding.shift,
        mean=tuple(map(float, statistics.mean)),
        std=tuple(map(float, statistics.std)),
        return_low=_number(statistics.return_low),
        return_high=_number(statistics.return_high),
    )


def no_data(statistics: Statistics) -> Data:
    """Return what there is to be said without a dataset."""
    return Data(
        path="",
        digest="",
        transitions=0,
        labeller="",
        reward_scale=1.0,
        reward_shift=0.0,
        mean=tuple(map(float, statistics.mean)),
        std=tuple(map(float, statistics.std)),
        return_low=statistics.return_low,
        return_high=statistics.return_high,
    )


def compose(
    recipe: Recipe,
    seed: int,
    robot: RobotSpec,
    data: Data,
    online: Online | None = None,
) -> Run:
    """Return what is going to be `run.json`."""
    return Run(
        version=VERSION,
        recipe=recipe,
        config=msgspec.json.decode(msgspec.json.encode(configure(recipe))),
        seed=seed,
        data=data,
        robot=robot,
        versions=_versions(),
        commit=_commit(),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        online=online,
    )


def heritage(parent: Run, algorithm: str) -> dict[str, Any]:
    """Return what a recipe of `algorithm` leaves as it was in `parent`.

    Rewards are scaled as they were there, by number, since that is what its critics
    speak of; so are the settings that both algorithms have, since some of them are the
    sizes of its networks.
    """
    settings = msgspec.structs.fields(load_algorithm(algorithm).Config)
    known = {field.name for field in settings}
    recipe, data = parent.recipe, parent.data
    return {
        "batch_size": recipe.batch_size,
        "gamma": recipe.gamma,
        "labeller": recipe.labeller,
        "reward_scale": data.reward_scale,
        "reward_shift": data.reward_shift,
        "evaluate_episodes": recipe.evaluate_episodes,
        "config": {k: v for k, v in parent.config.items() if k in known},
    }


def start(folder: Path, run: Run) -> None:
    """Make the folder of a new run."""
    if (folder / "run.json").exists():
        raise RunError(
            f"expected a new folder for a run, {folder} holds one already: resume it "
            f"(--resume), or choose another"
        )
    try:
        (folder / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
        content = msgspec.json.format(msgspec.json.encode(run))
        write_file(folder / "run.json", content)
    except OSError as error:
        raise RunError(f"cannot make a run at {folder}: {error.strerror}") from error


def match(folder: Path, run: Run) -> None:
    """Raise RunError, with the differences, unless `folder` holds this very run."""
    there = read(folder)
    fields = [f"recipe.{name}" for name in Recipe.__struct_fields__ if name != "config"]
    fields += [f"config.{name}" for name in sorted(run.config | there.config)]
    fields += ["seed", "data.digest", "data.transitions", "data.labeller"]
    fields += ["online.world", "online.task", "online.parent"]
    lines = [
        f"{name} was {_get(there, name)!r}, now {_get(run, name)!r}"
        for name in fields
        if _get(there, name) != _get(run, name)
    ]
    if lines:
        raise RunError(
            f"expected the settings that {folder} was started with: {'; '.join(lines)}"
        )


def read(folder: Path | str) -> Run:
    """Return the description of the run in `folder`."""
    path = Path(folder) / "run.json"
    try:
        run = msgspec.json.decode(path.read_bytes(), type=Run)
    except FileNotFoundError as error:
        raise RunError(
            f"expected a run at {folder}, found no {path}; robostack train makes one"
        ) from error
    except (msgspec.MsgspecError, SpecError, ValueError, OSError) as error:
        raise RunError(f"{path} cannot be read: {error}") from error
    if run.version not in _READABLE:
        raise RunError(f"{path}: expected version {VERSION}, found {run.version}")
    return run


def make_learner(run: Run) -> Learner:
    """Return the learner of `run` before its first update."""
    data, recipe = run.data, run.recipe
    statistics = Statistics(
        float32(data.mean), float32(data.std), data.return_low, data.return_high
    )
    learner: Learner = load_algorithm(recipe.algorithm).Learner(
        run.robot,
        configure(recipe),
        statistics=statistics,
        steps=recipe.steps,
        seed=run.seed,
    )
    return learner


def load_run(folder: Path | str) -> Learner:
    """Return the learner of the run in `folder`, as of its newest whole checkpoint."""
    run, newest = read_newest(folder)
    learner = make_learner(run)
    learner.load(newest.learner)
    return learner


def read_newest(folder: Path | str) -> tuple[Run, Checkpoint]:
    """Return the run in `folder`, and its newest whole checkpoint."""
    run = read(folder)
    newest = checkpoint.newest(Path(folder) / CHECKPOINTS)
    if newest is None:
        raise RunError(f"expected a checkpoint in {folder}, found none yet")
    return run, newest


def _get(run: Run, name: str) -> object:
    part, _, key = name.partition(".")
    if part == "config":
        return run.config.get(key)
    value = getattr(run, part)
    return getattr(value, key) if key and value else value


def _number(value: float) -> float:
    """Return `value`, or 0 where there are no rewards to sum."""
    return float(value) if np.isfinite(value) else 0.0


def _versions() -> dict[str, str]:
    names = ("numpy", "torch", "msgspec")
    found = {name: _version(name) for name in names}
    return {"robostack": __version__, "python": platform.python_version(), **found}


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _commit() -> str:
    """Return the commit of robostack's source, where that is a git checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return ""
    command = ["git", "-C", str(root), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()
