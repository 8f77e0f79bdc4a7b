"""One run, as it was asked for: what `robostack train` and every run of a sweep are.

Nothing is read or made until it is begun, so a job can be written down, sent to another
process, and begun again after that one was killed.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from robostack.data.dataset import Dataset, open_dataset
from robostack.training import checkpoint, offline, online, recipe, run
from robostack.training.journal import OnProgress, Options, Outcome
from robostack.training.process import load_algorithm, prepare
from robostack.training.recipe import Recipe
from robostack.training.run import CHECKPOINTS
from robostack.training.setting import Setting, simulator


class JobError(ValueError):
    """Wishes that do not go together."""


class Job(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to learn, from what, and where to."""

    algorithm: str
    folder: Path  # of the run
    dataset: Path | None = None
    online: str = ""  # world to act in
    source: Path | None = None  # run to go on from
    recipe: str = ""  # name, .toml file, or "" for plain defaults
    changes: tuple[str, ...] = ()  # of the recipe, KEY=VALUE
    labeller: str = ""  # "": the recipe's, or the only one there
    options: Options = Options()


def perform(job: Job, on_progress: OnProgress = lambda _: None) -> Outcome:
    """Begin the job, or resume it, and go on to its end."""
    prepare(job.options.threads)
    dataset = open_dataset(job.dataset) if job.dataset else None
    recipe = plan(job, dataset)
    if world := acts_in(job, dataset):
        setting = Setting(world, job.options.task, dataset, job.source)
        return online.train(setting, job.folder, recipe, job.options, on_progress)
    if dataset is None:
        raise JobError(
            "expected --dataset FOLDER to learn from logs, or --online sim:WORLD to "
            "learn by acting, got neither"
        )
    return offline.train(dataset, job.folder, recipe, job.options, on_progress)


def acts_in(job: Job, dataset: Dataset | None) -> str:
    """Return the world that the job acts in, also where its algorithm wants one."""
    hybrid = getattr(load_algorithm(job.algorithm), "HYBRID", False)
    if not job.online and hybrid and dataset is not None:
        return simulator(dataset)
    return job.online


def plan(job: Job, dataset: Dataset | None = None) -> Recipe:
    """Return the recipe that the job asks for, of `dataset` where it is known."""
    changes = list(job.changes)
    labellers = dataset.labellers() if dataset else []
    if labeller := job.labeller or only(labellers):
        changes.append(f"labeller={labeller}")
    if not job.source:
        return recipe.read(job.algorithm, job.recipe, changes)
    own = "online" if "online" in recipe.names(job.algorithm) else ""
    inherited = run.heritage(run.read(job.source), job.algorithm)
    return recipe.read(job.algorithm, job.recipe or own, changes, inherited)


def finished(job: Job) -> bool:
    """Return whether the job's folder holds that very run, to its last update.

    Where its data is no longer there, the run is taken to be of it.
    """
    if not (job.folder / "run.json").exists():
        return False
    there = run.read(job.folder)
    newest = checkpoint.newest(job.folder / CHECKPOINTS)
    if newest is None or newest.step != there.recipe.steps:
        return False
    if there.seed != job.options.seed:
        return False
    if job.dataset is None:
        return plan(job) == there.recipe
    if not (job.dataset / "dataset.json").exists():
        return True
    dataset = open_dataset(job.dataset)
    return dataset.digest == there.data.digest and plan(job, dataset) == there.recipe


def only(labellers: list[str]) -> str:
    """Return the labeller if there is one alone, else "": the recipe decides."""
    return labellers[0] if len(labellers) == 1 else ""
