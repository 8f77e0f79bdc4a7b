"""One immutable segment: many episodes as columns end to end, with their digests.

000002-9f0c41d2a7b35e68/
    segment.json                    what is where; written last, hashed into the name
    observation.joint_position.npy  (R, n) float32; R = sum of T + 1 over episodes
    action.npy                      (R, A) float32; the last row of an episode is NaN
    action.requested.npy            (R, A) float32
    time_s.npy                      (R,) float64
    intervention.npy                (R,) bool, where a node recorded who acted
    clamped.npy                     (R, A) bool, the same: what its limiter changed
    age_s.npy                       (R,) float32, the same: of commands when applied
    truth.object_position.npy       (R, n) float32, where a world logged it
    next.reward.npy                 (R,) float32, where somebody logged it
    frames.front.jpeg               all JPEGs of a camera end to end
    frames.front.offset.npy         (F+1,) int64, where each begins
    frames.front.row.npy            (F,) int64, the row each belongs to
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import resource
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from robostack.data.episode import Conduct, End, Episode, Frames, Mask
from robostack.spec import RobotSpec

VERSION = 2  # raise on any change of the layout
_READABLE = (1, 2)  # 1 lacks `conducted` and its columns
INDEX = "segment.json"


class SegmentError(ValueError):
    """A segment that is not what its index says."""


class Column(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of a segment."""

    dtype: str  # of a .npy; "" for a blob of JPEGs
    shape: tuple[int, ...]  # (bytes,) for a blob
    size: int  # of the file [byte]
    sha256: str  # of the file


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One episode in the index of a segment."""

    start: int  # its first row
    length: int  # T; it has T + 1 rows
    end: End
    labels: dict[str, str]
    rewarded: bool  # whether next.reward is about it
    truths: tuple[str, ...]  # which truth columns are about it
    cameras: tuple[str, ...]  # which cameras' frames are about it
    conducted: bool = False  # whether intervention, clamped and age_s are about it

    @property
    def rows(self) -> slice:
        """Its T + 1 rows."""
        return slice(self.start, self.start + self.length + 1)

    @property
    def steps(self) -> slice:
        """Its first T rows."""
        return slice(self.start, self.start + self.length)


class Index(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `segment.json` holds."""

    version: int
    robot: str  # name in the spec
    spec_digest: str
    provenance: dict[str, str]  # where the episodes came from, by whose hand
    columns: dict[str, Column]  # by file name
    episodes: tuple[Entry, ...]

    @property
    def row_count(self) -> int:
        """Number of rows R of every column."""
        return sum(entry.length + 1 for entry in self.episodes)


class Segment:
    """A segment opened for reading; columns are mapped when first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: dict[str, npt.NDArray[Any]] = {}

    @cached_property
    def index(self) -> Index:
        """What `segment.json` says."""
        return msgspec.json.decode((self.folder / INDEX).read_bytes(), type=Index)

    @property
    def name(self) -> str:
        """Name of the folder: its number and its digest."""
        return self.folder.name

    @property
    def digest(self) -> str:
        """Identity of the content: 16 hexadecimal digits."""
        return self.name.partition("-")[2]

    def has(self, name: str) -> bool:
        """Return whether there is a column `name`."""
        return f"{name}.npy" in self.index.columns

    def column(self, name: str) -> npt.NDArray[Any]:
        """Return the column `name`, mapped read-only; (R, ...)."""
        if name not in self._open:
            self._open[name] = _map(
                self.folder / f"{name}.npy", self.index.columns[f"{name}.npy"]
            )
        return self._open[name]

    def blob(self, name: str) -> npt.NDArray[np.uint8]:
        """Return the JPEGs of a camera end to end, mapped read-only; (bytes,)."""
        path = self.folder / f"{name}.jpeg"
        if not self.index.columns[path.name].size:  # an empty file cannot be mapped
            return np.empty(0, np.uint8)
        if name not in self._open:
            self._open[name] = np.memmap(path, np.uint8, "r").view(np.ndarray)
        return self._open[name]

    def episode(self, entry: Entry) -> Episode:
        """Return one episode, its arrays read-only views of the files."""
        prefix = "observation."
        names = [n.removesuffix(".npy") for n in self.index.columns]
        observed = [n.removeprefix(prefix) for n in names if n.startswith(prefix)]
        truths = {
            name: self.column(f"truth.{name}")[entry.rows] for name in entry.truths
        }
        reward = self.column("next.reward")[entry.steps] if entry.rewarded else None
        return Episode(
            observation={n: self.column(prefix + n)[entry.rows] for n in observed},
            action=self.column("action")[entry.steps],
            requested=self.column("action.requested")[entry.steps],
            time_s=self.column("time_s")[entry.rows],
            end=entry.end,
            reward=reward,
            truth=truths,
            frames={camera: self._frames(camera, entry) for camera in entry.cameras},
            labels=dict(entry.labels),
            conduct=self._conduct(entry) if entry.conducted else None,
        )

    def transitions(self, entry: Entry) -> Mask:
        """Return which of the T steps of an episode have an action; (T,)."""
        known: Mask = np.isfinite(self.column("action")[entry.steps]).all(axis=1)
        return known

    def _conduct(self, entry: Entry) -> Conduct:
        columns = (self.column(name)[entry.steps] for name in Conduct._fields)
        return Conduct(*columns)

    def _frames(self, camera: str, entry: Entry) -> Frames:
        rows = self.column(f"frames.{camera}.row")
        first, last = np.searchsorted(rows, (entry.rows.start, entry.rows.stop))
        offsets = self.column(f"frames.{camera}.offset")[first : last + 1]
        blob = self.blob(f"frames.{camera}")
        jpeg = tuple(blob[a:b].tobytes() for a, b in itertools.pairwise(offsets))
        return Frames(rows[first:last] - entry.start, jpeg)

    def check(self, spec: RobotSpec) -> None:
        """Raise SegmentError if a file is absent or of another size, or of no use."""
        try:
            index = self.index
        except (OSError, msgspec.MsgspecError) as error:
            raise SegmentError(
                f"{self.folder / INDEX} cannot be read: {error}"
            ) from error
        if index.version not in _READABLE:
            raise SegmentError(
                f"{self.folder}: expected layout version "
                f"{' or '.join(map(str, _READABLE))}, got {index.version}"
            )
        if index.spec_digest != spec.digest:
            raise SegmentError(
                f"{self.folder}: expected the robot spec {spec.digest} of the dataset, "
                f"got {index.spec_digest}"
            )
        for name, column in index.columns.items():
            path = self.folder / name
            size = path.stat().st_size if path.exists() else "no file"
            if size != column.size:
                raise SegmentError(
                    f"{path}: expected {column.size} bytes, found {size}"
                )

    def verify(self) -> list[str]:
        """Return what differs from the digests, a sentence each; reads every byte."""
        content = (self.folder / INDEX).read_bytes()
        problems = []
        if short(hashlib.sha256(content).hexdigest()) != self.digest:
            problems.append(f"{self.folder / INDEX}: its digest is not {self.digest}")
        for name, column in self.index.columns.items():
            found = digest_file(self.folder / name)
            if found != column.sha256:
                problems.append(f"{self.folder / name}: its content has changed")
        return problems


def short(sha256: str) -> str:
    """Return the part of a digest that names things."""
    return sha256[:16]


def _map(path: Path, column: Column) -> npt.NDArray[Any]:
    array = np.load(path) if 0 in column.shape else open_mapped(path)
    if array.shape != column.shape or array.dtype.str != column.dtype:
        raise SegmentError(
            f"{path}: expected {column.dtype} {column.shape}, "
            f"found {array.dtype.str} {array.shape}"
        )
    return array


def open_mapped(path: Path) -> npt.NDArray[Any]:
    """Return the array in a .npy, mapped read-only.

    Each takes a file descriptor, of which a system often grants 1024 unless asked.
    """
    try:
        array = np.load(path, mmap_mode="r")
    except OSError as error:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if error.errno != errno.EMFILE or soft == hard:
            raise
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        array = np.load(path, mmap_mode="r")
    return array.view(np.ndarray)  # type: ignore[no-any-return]


def digest_file(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
