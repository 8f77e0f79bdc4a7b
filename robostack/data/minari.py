"""Minari datasets, read by Minari: local ones, or fetched where there is a network.

    minari:D4RL/pen/human-v2         an id, in Minari's own folder or on its server
    .../D4RL/pen/human-v2            the folder of a dataset

Observations have T+1 rows, all else T; terminations and truncations are apart, so that
nothing has to be guessed. A dictionary or tuple of observations becomes one array each,
named or numbered as there; images are left out. An episode without either flag at its
end is incomplete.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import minari
import numpy as np

from robostack.data.episode import INCOMPLETE, End, Episode
from robostack.data.formats import FormatError, Note, ignore
from robostack.data.guess import numbered, robot, seen, usual
from robostack.spec import Array, ArraySpec, RobotSpec, float32

_DATA = "data"
_ONE = "state"  # name of observations that are no dictionary
_ACTION = ""  # beside the names of observations


def sniff(path: Path) -> bool:
    """Return whether `path` is the folder of a Minari dataset."""
    return (path / _DATA / "metadata.json").is_file()


def fetch(name: str) -> Path:
    """Return the folder of the dataset `name`, from Minari's server if it is not here.

    Raises:
        FormatError: there is none of that name, or no network.
    """
    try:
        with _quiet():
            dataset = minari.load_dataset(name, download=True)
    except Exception as error:  # whatever Minari, its network or the disk say
        raise FormatError(
            f"expected {name!r} to be a Minari dataset that is here or can be "
            f"downloaded, got {type(error).__name__}: {error}"
        ) from error
    return Path(dataset.storage.data_path).parent


def read(
    path: Path,
    spec: RobotSpec,
    *,
    note: Note = ignore,
) -> Iterator[Episode]:
    """Give the episodes of `path`, one at a time.

    Args:
        path: the folder of a Minari dataset.
        spec: names, units and bounds; sizes must match.
        note: hears what was left out, a sentence each.
    """
    dataset = _open(path)
    if images := _images(dataset.observation_space):
        note(f"images are left out: {', '.join(images)}")
    return _episodes(path, spec, dataset, note)


def _episodes(
    path: Path, spec: RobotSpec, dataset: minari.MinariDataset, note: Note
) -> Iterator[Episode]:
    count = 0
    for number, found in enumerate(_iterate(path, dataset)):
        observation = _arrays(path, found.observations)
        _check_sizes(path, spec, observation, found.actions)
        if not len(found.actions):
            note(f"episode {number} has no step, and is left out")
            continue
        count += 1
        yield _episode(path, spec, observation, found)
    if not count:
        raise FormatError(f"{path}: expected an episode of at least one step")


def guess(
    path: Path, *, note: Note = ignore, control_period_s: float = 0.02
) -> RobotSpec:
    """Return a spec with names such as state_0, and the bounds that the data has."""
    dataset = _open(path)
    extremes: dict[str, Array] = {}  # (2, n) each: of all episodes so far
    for found in _iterate(path, dataset):
        arrays = _arrays(path, found.observations) | {_ACTION: _rows(found.actions)}
        for name, rows in arrays.items():
            known = [extremes[name]] if name in extremes else []
            every = np.concatenate([*known, rows])
            if len(every):
                extremes[name] = np.stack([every.min(axis=0), every.max(axis=0)])
    if _ACTION not in extremes:
        raise FormatError(f"{path}: expected an episode of a step, found none")
    actions = extremes.pop(_ACTION)
    note(
        f"{dataset.spec.dataset_id} says nothing of names, units and rate: names are "
        f"numbered, and the control period is taken as {control_period_s} s (--robot, "
        f"or control_period_s=, says better)"
    )
    return robot(
        dataset.spec.dataset_id,
        {name: _described(name, rows) for name, rows in extremes.items()},
        _bounded(dataset.action_space, actions),
        control_period_s,
        f"guessed from the Minari dataset {dataset.spec.dataset_id}",
    )


def _open(path: Path) -> minari.MinariDataset:
    try:
        with _quiet():
            return minari.MinariDataset(path / _DATA)
    except Exception as error:  # whatever Minari makes of a damaged folder
        raise FormatError(
            f"{path} cannot be read as a Minari dataset: "
            f"{type(error).__name__}: {error}"
        ) from error


def _iterate(path: Path, dataset: minari.MinariDataset) -> Iterator[Any]:
    try:
        with _quiet():
            yield from dataset.iterate_episodes()
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        raise FormatError(f"{path} is damaged, or was cut short: {error}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what Minari warns of to itself: it is about writing datasets."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _arrays(path: Path, observations: Any) -> dict[str, Array]:
    """Return the arrays (T+1, n) of an episode by name, without images."""
    if not isinstance(observations, dict | tuple):
        observations = {_ONE: observations}
    flat = dict(_leaves(observations, ""))
    kept = {n: a for n, a in flat.items() if not _is_image(a)}
    if bad := [n for n, a in kept.items() if not np.issubdtype(a.dtype, np.number)]:
        raise FormatError(
            f"{path}: expected numbers, {', '.join(bad)} are something else"
        )
    return {name: _rows(array) for name, array in kept.items()}


def _leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, tuple):
        value = {str(i): inner for i, inner in enumerate(value)}
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}_{key}" if name else key)
    else:
        yield name, np.asarray(value)


def _is_image(array: Any) -> bool:
    return bool(array.dtype == np.uint8 and array.ndim > 2)  # rows first


def _images(space: Any, name: str = "") -> list[str]:
    """Return the names of the images in an observation space."""
    if inner := getattr(space, "spaces", None):
        pairs = inner.items() if hasattr(inner, "items") else enumerate(inner)
        each = (_images(s, f"{name}_{key}" if name else str(key)) for key, s in pairs)
        return [image for images in each for image in images]
    image = space.dtype == np.uint8 and len(space.shape or ()) > 1
    return [name or _ONE] if image else []


def _rows(array: Any) -> Array:
    array = np.asarray(array)
    return float32(array.reshape(len(array), -1))


def _described(name: str, rows: Array) -> ArraySpec:
    return seen(numbered(name, rows.shape[1]), rows)


def _bounded(space: Any, rows: Array) -> ArraySpec:
    """Return the actions' array, with the bounds of their space if it has any."""
    names = numbered("action", rows.shape[1])
    low, high = getattr(space, "low", None), getattr(space, "high", None)
    if low is None or high is None or not np.isfinite([low, high]).all():
        return usual(names, rows)
    bounds = (tuple(np.ravel(edge).astype(float).tolist()) for edge in (low, high))
    return ArraySpec(names, ("",) * len(names), *bounds)


def _check_sizes(
    path: Path, spec: RobotSpec, observation: dict[str, Array], actions: Any
) -> None:
    ours = {name: array.size for name, array in spec.observation.items()}
    theirs = {name: array.shape[1] for name, array in observation.items()}
    if sorted(ours.items()) != sorted(theirs.items()):
        raise FormatError(
            f"{path}: expected observations {ours} as {spec.name} has them, found "
            f"{theirs}"
        )
    if np.issubdtype(np.asarray(actions).dtype, np.integer):
        raise FormatError(
            f"{path}: expected actions that are real numbers, found choices"
        )
    if (size := _rows(actions).shape[1]) != spec.action.size:
        raise FormatError(
            f"{path}: expected {spec.action.size} actions as {spec.name} has them, "
            f"found {size}"
        )


def _episode(
    path: Path, spec: RobotSpec, observation: dict[str, Array], found: Any
) -> Episode:
    steps = len(found.actions)
    action, reward = _rows(found.actions), float32(np.ravel(found.rewards))
    for name, array in (
        observation | {"actions": action, "rewards": reward[:, None]}
    ).items():
        if not np.isfinite(array).all():
            raise FormatError(
                f"{path}: expected finite {name}, in episode {found.id} they are not"
            )
    stops, cut = bool(found.terminations[-1]), bool(found.truncations[-1])
    labels = {"source": path.name, "episode": str(found.id)}
    if not (stops or cut):
        labels[INCOMPLETE] = "neither flag stands at its end"
    return Episode(
        observation={name: observation[name] for name in spec.observation},
        action=action,
        requested=action,
        time_s=np.arange(steps + 1, dtype=np.float64) * spec.control_period_s,
        end=End.TERMINATED if stops else End.TRUNCATED,
        reward=reward,
        truth={},
        frames={},
        labels=labels,
    )
