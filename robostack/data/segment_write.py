"""Writing one segment: episodes streamed to disk, hashed, renamed when whole.

An episode is written as it comes and then let go, so that a segment may be far larger
than memory. Columns that some episodes lack are filled up where they do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from robostack.data.atomic import SyncedFile, new_folder, publish, remove
from robostack.data.column_write import GrowingColumn, GrowingFrames
from robostack.data.episode import Conduct, Episode
from robostack.data.segment import (
    INDEX,
    VERSION,
    Column,
    Entry,
    Index,
    SegmentError,
    short,
)
from robostack.spec import RobotSpec

_TRUTH = "truth."
_NAMES = ("action", "action.requested", "time_s", "next.reward", *Conduct._fields)


def write(
    parent: Path,
    spec: RobotSpec,
    episodes: Iterable[Episode],
    provenance: dict[str, str],
    place: Callable[[str], Path | None],
) -> str:
    """Write `episodes` as one segment below `parent`; return its digest.

    `place` maps the digest to the final folder, or to None if it is already there.
    """
    with new_folder(parent) as folder:
        with ExitStack() as stack:
            writer = _Writer(stack, folder)
            for episode in episodes:
                writer.add(episode)
            columns = writer.finish(spec)
        index = Index(
            version=VERSION,
            robot=spec.name,
            spec_digest=spec.digest,
            provenance=provenance,
            columns=columns,
            episodes=tuple(writer.entries),
        )
        content = msgspec.json.encode(index)
        with SyncedFile(folder / INDEX) as file:
            file.write(content)
        digest = short(hashlib.sha256(content).hexdigest())
        final = place(digest)
        if final is not None:
            publish(folder, final)
    if final is None:
        remove(folder)
    return digest


class _Writer:
    """The files of a segment in the making."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.entries: list[Entry] = []
        self._stack, self._folder, self._rows = stack, folder, 0
        self._columns: dict[str, GrowingColumn] = {}
        self._cameras: dict[str, GrowingFrames] = {}

    def add(self, episode: Episode) -> None:
        """Append one episode to every column."""
        blocks = dict(_blocks(episode))
        for name, block in blocks.items():
            self._column(name, block).write(block)
        for name in self._columns.keys() - blocks.keys():
            self._columns[name].fill(episode.length + 1)
        for camera, frames in episode.frames.items():
            if camera not in self._cameras:
                found = GrowingFrames(self._stack, self._folder, camera)
                self._cameras[camera] = found
            self._cameras[camera].write(frames, self._rows)
        self.entries.append(_entry(episode, self._rows))
        self._rows += episode.length + 1

    def finish(self, spec: RobotSpec) -> dict[str, Column]:
        """Bring all to disk; return it by file name, in the order of the layout."""
        names = [*(f"observation.{name}" for name in spec.observation), *_NAMES]
        names = [name for name in names if name in self._columns]
        names += [name for name in self._columns if name.startswith(_TRUTH)]
        columns = {f"{name}.npy": self._columns[name].finish() for name in names}
        for camera in sorted(self._cameras):
            columns |= self._cameras[camera].finish()
        return columns

    def _column(self, name: str, block: npt.NDArray[Any]) -> GrowingColumn:
        if name not in self._columns:
            path = self._folder / f"{name}.npy"
            made = GrowingColumn(self._stack, path, block.shape[1:], block.dtype)
            made.fill(self._rows)
            self._columns[name] = made
        column = self._columns[name]
        if column.width != block.shape[1:]:
            raise SegmentError(
                f"expected {name.replace('.', ' ', 1)} of one width in all episodes, "
                f"got {column.width} and {block.shape[1:]}"
            )
        return column


def _blocks(episode: Episode) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    """Give what an episode has for each column; (T + 1, ...)."""
    for name, array in episode.observation.items():
        yield f"observation.{name}", array
    yield "action", _padded(episode.action)
    yield "action.requested", _padded(episode.requested)
    yield "time_s", episode.time_s
    if episode.reward is not None:
        yield "next.reward", _padded(episode.reward)
    if episode.conduct is not None:
        for name, array in episode.conduct._asdict().items():
            yield name, _padded(array)
    for name, array in episode.truth.items():
        yield f"{_TRUTH}{name}", array


def _padded(steps: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return (T, ...) with a last row of nothing: False, or NaN."""
    nothing = False if steps.dtype == np.bool_ else np.nan
    row = np.full((1, *steps.shape[1:]), nothing, steps.dtype)
    return np.concatenate([steps, row])


def _entry(episode: Episode, start: int) -> Entry:
    return Entry(
        start=start,
        length=episode.length,
        end=episode.end,
        labels=dict(episode.labels),
        rewarded=episode.reward is not None,
        truths=tuple(episode.truth),
        cameras=tuple(episode.frames),
        conducted=episode.conduct is not None,
    )
