"""Rewards of a world's task, written beside episodes that were logged without."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from robostack import plugins
from robostack.data.dataset import Dataset, DatasetError
from robostack.data.episode import Episode, columns
from robostack.plugins import unknown
from robostack.robot import Task
from robostack.spec import Array, float32

Tell = Callable[[int, int], None]


def task_of(address: str, name: str) -> Task:
    """Return the task `name` of the world at `address`, such as sim:pendulum."""
    where = plugins.parse(address)
    tasks: dict[str, Task] = plugins.load(where.kind, where.name).tasks(where.argument)
    if name not in tasks:
        raise DatasetError(unknown(f"task of {address}", name, list(tasks)))
    return tasks[name]


def label(
    dataset: Dataset,
    address: str,
    task_name: str,
    *,
    overwrite: bool = False,
    tell: Tell = lambda *_: None,
) -> str:
    """Write the rewards of a task beside `dataset`; return the labeller's name.

    That is `<world>/<task>`. `tell(done, total)` hears of every episode.
    """
    task = task_of(address, task_name)
    where = plugins.parse(address)
    rewards = []
    for i, episode in enumerate(dataset):
        rewards.append(_rewards(task, episode, i, address))
        tell(i + 1, len(dataset))
    parts = (where.name, where.argument, task_name)
    labeller = "/".join(part for part in parts if part)
    provenance = {"address": address, "task": task_name}
    dataset.write_rewards(labeller, rewards, provenance, overwrite=overwrite)
    return labeller


def _rewards(task: Task, episode: Episode, i: int, address: str) -> Array:
    try:
        rewards = float32(task.reward(columns(episode)))
    except KeyError as error:
        raise DatasetError(
            f"the task of {address} needs the column {error}, which episode {i} lacks; "
            f"it has {', '.join(columns(episode))}"
        ) from error
    known = np.isfinite(episode.action).all(axis=1)
    if rewards.shape != (episode.length,) or not np.isfinite(rewards[known]).all():
        raise DatasetError(
            f"expected {episode.length} finite rewards of the task of {address} for "
            f"episode {i}, got shape {rewards.shape} with "
            f"{np.count_nonzero(~np.isfinite(rewards))} that are not finite"
        )
    return np.where(known, rewards, np.float32(np.nan))
