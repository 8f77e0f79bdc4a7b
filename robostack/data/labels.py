"""Rewards beside the segments of a dataset: one array per labeller and segment.

    rewards/<labeller>/<segment>.npy     (R,) float32, as long as the segment's columns
    rewards/<labeller>/<segment>.json    Label: sha256 of the .npy, and provenance

The .json is written first: an array without one is not there yet.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from robostack.data.atomic import write_file
from robostack.data.segment import Segment, open_mapped
from robostack.spec import Array


class LabelError(ValueError):
    """Rewards that do not fit, or are there already."""


class Label(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the .json beside an array of rewards holds."""

    sha256: str
    provenance: dict[str, str]


def labellers(root: Path) -> list[str]:
    """Return the names of all who wrote rewards in the dataset at `root`."""
    folder = root / "rewards"
    found = {array.parent for array in folder.rglob("*.npy")}
    return sorted(str(path.relative_to(folder)) for path in found)


def read(root: Path, labeller: str, segment: Segment) -> Array | None:
    """Return the rewards of a segment, mapped read-only; None if there are none."""
    path = _path(root, labeller, segment)
    if not path.exists():
        return None
    try:
        array: Array = open_mapped(path)
    except (OSError, ValueError) as error:
        raise LabelError(f"{path} cannot be read: {error}; label again") from error
    if array.shape != (segment.index.row_count,) or array.dtype != np.float32:
        raise LabelError(
            f"{path}: expected {segment.index.row_count} float32 rows, found "
            f"{array.dtype} {array.shape}"
        )
    return array


def write(
    root: Path,
    labeller: str,
    segment: Segment,
    rewards: Sequence[Array],
    provenance: dict[str, str],
    *,
    overwrite: bool = False,
) -> None:
    """Write the rewards (T,) of every episode of `segment`."""
    path = _path(root, labeller, segment)
    if path.exists() and not overwrite:
        raise LabelError(
            f"rewards by {labeller!r} are there already ({path}); choose another name, "
            f"or ask to overwrite them"
        )
    rows = np.full(segment.index.row_count, np.nan, np.float32)
    for i, (entry, reward) in enumerate(
        zip(segment.index.episodes, rewards, strict=True)
    ):
        if np.shape(reward) != (entry.length,):
            raise LabelError(
                f"expected {entry.length} rewards for episode {i} of {segment.name}, "
                f"got {np.shape(reward)}"
            )
        rows[entry.steps] = reward
    content = io.BytesIO()
    np.save(content, rows)
    label = Label(hashlib.sha256(content.getvalue()).hexdigest(), provenance)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path.with_suffix(".json"), msgspec.json.encode(label))
    write_file(path, content.getvalue())


def verify(root: Path, segment: Segment) -> list[str]:
    """Return which rewards of `segment` differ from their digests, a sentence each."""
    problems = []
    for labeller in labellers(root):
        path = _path(root, labeller, segment)
        if path.exists() and not _intact(path):
            problems.append(f"{path}: its content has changed; label again")
    return problems


def _intact(path: Path) -> bool:
    try:
        content = path.with_suffix(".json").read_bytes()
        label = msgspec.json.decode(content, type=Label)
    except (OSError, msgspec.MsgspecError):
        return False
    return hashlib.sha256(path.read_bytes()).hexdigest() == label.sha256


def _path(root: Path, labeller: str, segment: Segment) -> Path:
    parts = labeller.split("/")
    if not all(parts) or any(part.startswith(".") for part in parts):
        raise LabelError(f"expected a name such as pendulum/swing_up, got {labeller!r}")
    return root / "rewards" / labeller / f"{segment.name}.npy"
