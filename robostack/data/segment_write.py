"""Writing one segment: columns streamed to disk, hashed, renamed when whole."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from robostack.data.atomic import SyncedFile, new_folder, publish, remove
from robostack.data.episode import Episode, unknown_conduct
from robostack.data.segment import (
    INDEX,
    VERSION,
    Column,
    Entry,
    Index,
    SegmentError,
    short,
)
from robostack.spec import Array, RobotSpec


class _Source(NamedTuple):
    """A column to be written: blocks of rows, episode after episode."""

    width: tuple[int, ...]
    dtype: type
    blocks: Iterable[npt.NDArray[np.generic]]


def write(
    parent: Path,
    spec: RobotSpec,
    episodes: Sequence[Episode],
    provenance: dict[str, str],
    place: Callable[[str], Path | None],
) -> str:
    """Write `episodes` as one segment below `parent`; return its digest.

    `place` maps the digest to the final folder, or to None if it is already there.
    """
    with new_folder(parent) as folder:
        columns = {}
        for name, source in _sources(episodes, spec):
            rows = sum(episode.length + 1 for episode in episodes)
            columns[f"{name}.npy"] = _write_column(folder / f"{name}.npy", rows, source)
        for camera in sorted({c for episode in episodes for c in episode.frames}):
            columns |= _write_frames(folder, camera, episodes)
        index = Index(
            version=VERSION,
            robot=spec.name,
            spec_digest=spec.digest,
            provenance=provenance,
            columns=columns,
            episodes=tuple(_entries(episodes)),
        )
        content = msgspec.json.encode(index)
        _write_blob(folder / INDEX, [content])
        digest = short(hashlib.sha256(content).hexdigest())
        final = place(digest)
        if final is not None:
            publish(folder, final)
    if final is None:
        remove(folder)
    return digest


def _entries(episodes: Sequence[Episode]) -> Iterator[Entry]:
    start = 0
    for episode in episodes:
        yield Entry(
            start=start,
            length=episode.length,
            end=episode.end,
            labels=dict(episode.labels),
            rewarded=episode.reward is not None,
            truths=tuple(episode.truth),
            cameras=tuple(episode.frames),
            conducted=episode.conduct is not None,
        )
        start += episode.length + 1


def _sources(
    episodes: Sequence[Episode], spec: RobotSpec
) -> Iterator[tuple[str, _Source]]:
    for name, array in spec.observation.items():
        blocks = [e.observation[name] for e in episodes]
        yield f"observation.{name}", _Source((array.size,), np.float32, blocks)
    width = (spec.action.size,)
    actions = (_padded(e.action) for e in episodes)
    yield "action", _Source(width, np.float32, actions)
    requested = (_padded(e.requested) for e in episodes)
    yield "action.requested", _Source(width, np.float32, requested)
    yield "time_s", _Source((), np.float64, (e.time_s for e in episodes))
    if any(e.reward is not None for e in episodes):
        rewards = (_padded(_reward(e)) for e in episodes)
        yield "next.reward", _Source((), np.float32, rewards)
    if any(e.conduct is not None for e in episodes):
        yield from _conduct_sources(episodes, spec.action.size)
    yield from _truth_sources(episodes)


def _conduct_sources(
    episodes: Sequence[Episode], size: int
) -> Iterator[tuple[str, _Source]]:
    """Return how actions came to be, with False and NaN where that is not known."""
    conducts = [e.conduct or unknown_conduct(e.length, size) for e in episodes]
    for name, width in (("intervention", ()), ("clamped", (size,))):
        blocks = [_padded(getattr(c, name), False) for c in conducts]
        yield name, _Source(width, np.bool_, blocks)
    yield "age_s", _Source((), np.float32, [_padded(c.age_s) for c in conducts])


def _truth_sources(episodes: Sequence[Episode]) -> Iterator[tuple[str, _Source]]:
    widths: dict[str, tuple[int, ...]] = {}
    for episode in episodes:
        for name, array in episode.truth.items():
            if widths.setdefault(name, array.shape[1:]) != array.shape[1:]:
                raise SegmentError(
                    f"expected truth {name} of one width in all episodes, got "
                    f"{widths[name]} and {array.shape[1:]}"
                )
    for name, width in widths.items():
        blocks = [_truth(e, name, width) for e in episodes]
        yield f"truth.{name}", _Source(width, np.float32, blocks)


def _padded(
    steps: npt.NDArray[Any], padding: float | bool = np.nan
) -> npt.NDArray[Any]:
    """Return (T, ...) with a last row of `padding`."""
    row = np.full((1, *steps.shape[1:]), padding, steps.dtype)
    return np.concatenate([steps, row])


def _reward(episode: Episode) -> Array:
    nothing = np.full(episode.length, np.nan, np.float32)
    return nothing if episode.reward is None else episode.reward


def _truth(episode: Episode, name: str, width: tuple[int, ...]) -> Array:
    if name in episode.truth:
        return episode.truth[name]
    return np.full((episode.length + 1, *width), np.nan, np.float32)


def _write_frames(
    folder: Path, camera: str, episodes: Sequence[Episode]
) -> dict[str, Column]:
    rows, sizes, images = [], [0], []
    for episode, entry in zip(episodes, _entries(episodes), strict=True):
        frames = episode.frames.get(camera)
        if frames is not None:
            rows.extend((frames.step + entry.start).tolist())
            sizes.extend(len(image) for image in frames.jpeg)
            images.append(frames.jpeg)
    stem = f"frames.{camera}"
    jpegs = (image for block in images for image in block)
    offsets, kind = np.cumsum(sizes, dtype=np.int64), np.int64
    row = np.asarray(rows, kind)
    return {
        f"{stem}.jpeg": _write_blob(folder / f"{stem}.jpeg", jpegs),
        f"{stem}.offset.npy": _write_column(
            folder / f"{stem}.offset.npy", len(offsets), _Source((), kind, [offsets])
        ),
        f"{stem}.row.npy": _write_column(
            folder / f"{stem}.row.npy", len(row), _Source((), kind, [row])
        ),
    }


def _write_column(path: Path, rows: int, source: _Source) -> Column:
    """Stream a .npy, so that a column need never be in memory as a whole."""
    shape, dtype = (rows, *source.width), np.dtype(source.dtype)
    header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    with SyncedFile(path) as file:
        np.lib.format.write_array_header_1_0(file, header)
        for block in source.blocks:
            flat = np.ascontiguousarray(block, dtype).reshape(-1)
            file.write(flat.view(np.uint8).data)
    return Column(dtype.str, shape, file.size, file.sha256)


def _write_blob(path: Path, pieces: Iterable[bytes]) -> Column:
    with SyncedFile(path) as file:
        for piece in pieces:
            file.write(piece)
    return Column("", (file.size,), file.size, file.sha256)
