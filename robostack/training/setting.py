"""What an online run begins with: a world, and maybe a dataset and another run."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import msgspec

from robostack.data.dataset import Dataset
from robostack.data.replay import Replay
from robostack.training import run
from robostack.training.acting import survey
from robostack.training.evaluate import Arena, require
from robostack.training.fitting import require_acting
from robostack.training.offline import load_replay
from robostack.training.recipe import Recipe, RecipeError
from robostack.training.run import Data, Online, Parent, Run


class Setting(NamedTuple):
    """What a run learns in, and from."""

    world: str  # address, such as sim:gym/Hopper-v5
    task: str = ""  # of the world; "": its first
    dataset: Dataset | None = None
    parent: Path | None = None  # folder of the run whose learner it begins with


class Plan(NamedTuple):
    """What a run follows from, loaded."""

    about: Run
    replay: Replay | None
    begin: bytes | None  # state of the learner to begin with


def simulator(dataset: Dataset) -> str:
    """Return the address of the one world that the dataset says it is of.

    An import says it by `robot`, a demonstration by `world`.
    """
    about = [segment.index.provenance for segment in dataset.segments]
    named = {p.get("world") or p.get("robot") or "" for p in about}
    worlds = sorted(name for name in named if name.startswith("sim:"))
    if len(worlds) != 1:
        raise RecipeError(
            f"expected --online sim:WORLD: {dataset.path} is of no world that it "
            f"names, or of several ({', '.join(worlds) or 'none'})"
        )
    return worlds[0]


def make_plan(setting: Setting, recipe: Recipe, seed: int, arena: Arena) -> Plan:
    """Gather what the run follows from."""
    dataset, replay, data = setting.dataset, None, None
    require_acting(recipe, beside_data=dataset is not None)
    parent = begin = None
    if setting.parent:
        there, newest = run.read_newest(setting.parent)
        require(arena, there.robot, setting.world)
        begin, data = newest.learner, _rescaled(there.data, recipe)
        parent = Parent(
            path=str(setting.parent.resolve()),
            algorithm=there.recipe.algorithm,
            step=newest.step,
            digest=hashlib.sha256(begin).hexdigest(),
        )
    if dataset is not None:
        require(arena, dataset.spec, setting.world)
        replay = load_replay(dataset, recipe)
        data = run.describe_data(dataset, replay)
    online = Online(setting.world, setting.task, dataset is not None, parent)
    data = data or _rescaled(run.no_data(survey(arena, seed)), recipe)
    about = run.compose(recipe, seed, arena.world.spec, data, online)
    return Plan(about, replay, begin)


def _rescaled(data: Data, recipe: Recipe) -> Data:
    """Return `data` with what `recipe` does to rewards."""
    scale = recipe.reward_scale
    if scale == "return_range":
        raise RecipeError(
            "expected a number as reward_scale to learn without a dataset, got "
            "'return_range', which is the spread of a dataset's returns"
        )
    return msgspec.structs.replace(
        data, reward_scale=scale, reward_shift=recipe.reward_shift
    )
