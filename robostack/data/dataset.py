"""A dataset: a folder of immutable segments, one robot spec, and labels beside.

    hopper-medium/
        dataset.json                      schema version, RobotSpec, its digest
        segments/
            000000-9f0c41d2a7b35e68/      number in order of arrival, digest of content;
                segment.json              see segment.py
                observation.state.npy ...
            .partial-x1y2/                a writer that is at work, or died: ignored
        rewards/
            pendulum/swing_up/            a labeller
                000000-9f0c41d2a7b35e68.npy    (R,) float32, NaN where no step is
                000000-9f0c41d2a7b35e68.json   who wrote it from what, and its sha256

Adding a segment is one rename, so a dataset is whole at every moment, whoever is
killed; adding the same segment twice changes nothing. Nothing is ever written over.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from robostack.data import labels, segment_write
from robostack.data.atomic import leftovers, sync, write_file
from robostack.data.episode import End, Episode, EpisodeError, Mask, check
from robostack.data.segment import Entry, Segment, SegmentError, short
from robostack.spec import Array, RobotSpec, SpecError, difference

VERSION = 1  # raise on any change of the layout
LOGGED = "logged"  # the labeller whose rewards came with the episodes


class DatasetError(ValueError):
    """A dataset that cannot be read or added to; it is left as it was."""


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `dataset.json` holds."""

    version: int
    robot: RobotSpec
    digest: str  # of the robot spec


class Item(NamedTuple):
    """One episode in the index of a dataset."""

    length: int  # T
    end: End
    labels: dict[str, str]
    segment: Segment
    entry: Entry

    @property
    def transitions(self) -> Mask:
        """Which of its T steps have an action, and so are transitions; (T,)."""
        return self.segment.transitions(self.entry)


def create(path: Path | str, spec: RobotSpec) -> Dataset:
    """Make an empty dataset at `path`, or open the one of the same robot there."""
    path = Path(path)
    if (path / "dataset.json").exists():
        dataset = open_dataset(path)
        dataset.require(spec)
        return dataset
    if path.exists() and any(path.iterdir()):
        raise DatasetError(
            f"expected a new or empty folder for a dataset, {path} holds other things"
        )
    for name in (*spec.observation, *spec.cameras):
        if not name.replace("_", "").replace("-", "").replace(".", "").isalnum():
            raise DatasetError(f"expected letters, digits and _ in {name!r}")
    try:
        (path / "segments").mkdir(parents=True, exist_ok=True)
        head = Head(VERSION, spec, spec.digest)
        content = msgspec.json.format(msgspec.json.encode(head))
        write_file(path / "dataset.json", content)
    except OSError as error:
        raise DatasetError(f"cannot make a dataset at {path}: {error}") from error
    return Dataset(path, spec)


def withdraw(dataset: Dataset) -> None:
    """Take back `create`, where nothing was added since."""
    if any((dataset.path / "segments").iterdir()):
        return
    (dataset.path / "dataset.json").unlink()
    (dataset.path / "segments").rmdir()
    if not any(dataset.path.iterdir()):
        dataset.path.rmdir()


def open_dataset(path: Path | str) -> Dataset:
    """Open the dataset at `path`; sizes are checked, contents by `Dataset.verify`."""
    path = Path(path)
    return Dataset(path, read_head(path).robot)


def read_head(path: Path) -> Head:
    """Return what `dataset.json` of the dataset at `path` says."""
    try:
        content = (path / "dataset.json").read_bytes()
        head = msgspec.json.decode(content, type=Head)
    except FileNotFoundError as error:
        raise DatasetError(
            f"expected a dataset at {path}, found no {path / 'dataset.json'}; make one "
            f"with robostack data import"
        ) from error
    except (msgspec.MsgspecError, SpecError, OSError) as error:
        raise DatasetError(
            f"{path / 'dataset.json'} cannot be read: {error}"
        ) from error
    if head.version != VERSION or head.digest != head.robot.digest:
        raise DatasetError(
            f"{path / 'dataset.json'}: expected version {VERSION} and spec digest "
            f"{head.robot.digest}, found {head.version} and {head.digest}"
        )
    return head


class Dataset:
    """Episodes of one robot; made by `create` and `open_dataset`."""

    def __init__(self, path: Path, spec: RobotSpec) -> None:
        self.path = path
        self.spec = spec
        self.segments: tuple[Segment, ...] = ()
        self.episodes: tuple[Item, ...] = ()
        self._refresh()

    @property
    def digest(self) -> str:
        """Identity of spec and episodes, in order; rewards beside do not count."""
        parts = [self.spec.digest, *(segment.digest for segment in self.segments)]
        return short(hashlib.sha256(" ".join(parts).encode()).hexdigest())

    def __len__(self) -> int:
        """Return the number of episodes."""
        return len(self.episodes)

    def __iter__(self) -> Iterator[Episode]:
        """Give every episode in turn."""
        return (self.episode(i) for i in range(len(self)))

    def episode(self, i: int) -> Episode:
        """Return episode number `i`; its arrays are read-only views of the files."""
        item = self.episodes[i]
        return item.segment.episode(item.entry)

    def append(self, episodes: Iterable[Episode], provenance: dict[str, str]) -> str:
        """Add `episodes` as one segment, all or none; return its digest.

        They are taken one by one and not kept, so that a generator may give more than
        memory holds. `provenance` says where they came from. Nothing changes when the
        very same segment is there already.
        """
        checked = _checked(episodes, self.spec)
        try:
            digest = segment_write.write(
                self.path / "segments", self.spec, checked, provenance, self._place
            )
        except OSError as error:
            raise DatasetError(
                f"cannot write to {self.path}: {error.strerror}; nothing was added"
            ) from error
        self._refresh()
        return digest

    def require(self, spec: RobotSpec) -> None:
        """Raise DatasetError, with the differences, unless `spec` is the dataset's."""
        if spec.digest != self.spec.digest:
            lines = "\n  ".join(difference(self.spec, spec))
            raise DatasetError(
                f"expected episodes of the spec of {self.path}, got those of another "
                f"(here: the dataset, there: what is added):\n  {lines}"
            )

    def labellers(self) -> list[str]:
        """Return who has written rewards."""
        logged = any(item.entry.rewarded for item in self.episodes)
        return [LOGGED] * logged + labels.labellers(self.path)

    def rewards(self, labeller: str = LOGGED) -> list[Array | None]:
        """Return the rewards (T,) of every episode by `labeller`; None without."""
        columns = self.reward_columns(labeller)
        names = (segment.name for segment in self.segments)
        mapped = dict(zip(names, columns, strict=True))
        told = [labeller != LOGGED or item.entry.rewarded for item in self.episodes]
        return [
            _part(mapped[item.segment.name], item.entry) if known else None
            for item, known in zip(self.episodes, told, strict=True)
        ]

    def reward_columns(self, labeller: str = LOGGED) -> list[Array | None]:
        """Return the rewards (R,) of every segment by `labeller`, as they lie on disk.

        None where a segment has none, NaN where a row has none.
        """
        if labeller == LOGGED:
            return [
                s.column("next.reward") if s.has("next.reward") else None
                for s in self.segments
            ]
        try:
            columns = [labels.read(self.path, labeller, s) for s in self.segments]
        except labels.LabelError as error:
            raise DatasetError(str(error)) from error
        if not any(array is not None for array in columns):
            known = ", ".join(self.labellers()) or "nobody"
            raise DatasetError(
                f"expected rewards by {labeller!r} in {self.path}, found those of "
                f"{known}"
            )
        return columns

    def write_rewards(
        self,
        labeller: str,
        rewards: Sequence[Array],
        provenance: dict[str, str],
        *,
        overwrite: bool = False,
    ) -> None:
        """Write the rewards (T,) of every episode beside the segments."""
        if len(rewards) != len(self):
            raise DatasetError(
                f"expected rewards of {len(self)} episodes, got {len(rewards)}"
            )
        if labeller == LOGGED:
            raise DatasetError(f"{LOGGED!r} is the name of what came with the episodes")
        rest = iter(rewards)
        try:
            for segment in self.segments:
                own = [next(rest) for _ in segment.index.episodes]
                labels.write(
                    self.path, labeller, segment, own, provenance, overwrite=overwrite
                )
        except labels.LabelError as error:
            raise DatasetError(str(error)) from error
        except OSError as error:
            raise DatasetError(
                f"cannot write rewards to {self.path}: {error.strerror}"
            ) from error

    def verify(self, tell: Callable[[int, int], None] = lambda *_: None) -> list[str]:
        """Return what differs from the digests, a sentence each; reads every byte.

        `tell(done, total)` hears of every segment.
        """
        problems = []
        for i, segment in enumerate(self.segments):
            problems += segment.verify()
            problems += labels.verify(self.path, segment)
            tell(i + 1, len(self.segments))
        return problems

    def leftovers(self) -> list[Path]:
        """Return what writers that died, or are at work, have left."""
        return leftovers(self.path)

    def _refresh(self) -> None:
        found = sorted((self.path / "segments").glob("[0-9]*-*"), key=_number)
        known = {segment.name: segment for segment in self.segments}
        segments = [known.get(folder.name) or Segment(folder) for folder in found]
        for segment in segments:
            if segment.name not in known:
                self._check(segment)
        self.segments = tuple(segments)
        self.episodes = tuple(
            Item(entry.length, entry.end, entry.labels, segment, entry)
            for segment in segments
            for entry in segment.index.episodes
        )

    def _check(self, segment: Segment) -> None:
        try:
            segment.check(self.spec)
        except SegmentError as error:
            raise DatasetError(
                f"{error}; robostack data repair {self.path} sets it aside"
            ) from error

    def _place(self, digest: str) -> Path | None:
        folder = self.path / "segments"
        found = sorted(folder.glob("[0-9]*-*"), key=_number)
        if any(other.name.endswith(f"-{digest}") for other in found):
            return None
        number = _number(found[-1])[0] + 1 if found else 0
        sync(folder)
        return folder / f"{number:06d}-{digest}"


def _checked(episodes: Iterable[Episode], spec: RobotSpec) -> Iterator[Episode]:
    """Give `episodes`, at least one, each of them sound."""
    number = -1
    for number, episode in enumerate(episodes):
        try:
            check(episode, spec)
        except EpisodeError as error:
            raise DatasetError(
                f"episode {number}: {error}; nothing was added"
            ) from error
        yield episode
    if number < 0:
        raise DatasetError("expected at least one episode to add, got none")


def _number(folder: Path) -> tuple[int, str]:
    number, _, digest = folder.name.partition("-")
    return int(number), digest


def _part(rows: Array | None, entry: Entry) -> Array | None:
    return None if rows is None else rows[entry.steps]
