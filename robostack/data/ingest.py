"""Importing: a foreign file or folder of recordings -> episodes -> one segment.

Episodes come one at a time from formats that can, and go to disk as they come; the
segment appears when the last of them is there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import robostack
from robostack import plugins
from robostack.data import formats
from robostack.data.dataset import Dataset, create, open_dataset, withdraw
from robostack.data.formats import FormatError, Note, ignore
from robostack.data.label import task_of
from robostack.spec import RobotSpec


class Source(NamedTuple):
    """What to import, and how to understand it."""

    path: Path  # or FORMAT:NAME of what can be fetched
    format: str = ""  # "": whichever it looks like
    robot: str = ""  # address whose spec it has, such as sim:gym/Hopper-v5; "": guess
    task: str = ""  # of that world, asked what ends an episode; "": nobody is asked
    options: Mapping[str, str] = {}  # of the format, as typed


class Imported(NamedTuple):
    """What came of it."""

    dataset: Dataset
    segment: str  # digest
    episodes: int  # in the segment
    already: bool  # the very same segment was there before


def ingest(
    source: Source,
    path: Path,
    *,
    note: Note = ignore,
) -> Imported:
    """Import `source` into the dataset at `path`, made if it is not there.

    A dataset that is there, and no robot named: the episodes are of the dataset's.
    `note` hears what was noticed, corrected or dropped, a sentence each. Nothing is
    added unless all of it can be.
    """
    source = source._replace(path=formats.locate(source.path))
    name = source.format or formats.sniff(source.path)
    if not source.path.exists():
        raise FormatError(
            f"expected a file or folder to import, found no {source.path}"
        )
    formats.check_options(name, source.options)  # before anything long begins
    there = (path / "dataset.json").exists() and not source.robot
    spec = open_dataset(path).spec if there else spec_of(source, name, note)
    task = task_of(source.robot, source.task) if source.task else None
    episodes = formats.read(name, source.path, spec, source.options, note, task)
    new = not (path / "dataset.json").exists()
    dataset = create(path, spec)
    before = {segment.digest for segment in dataset.segments}
    try:
        digest = dataset.append(episodes, provenance(source, name))
    except BaseException:
        if new:
            withdraw(dataset)
        raise
    added = {s.digest: len(s.index.episodes) for s in dataset.segments}[digest]
    return Imported(dataset, digest, added, digest in before)


def spec_of(source: Source, name: str, note: Note = ignore) -> RobotSpec:
    """Return the spec of `source.robot`, or what the format makes of the file."""
    if source.robot:
        return plugins.spec(source.robot)
    guess = getattr(formats.load(name), "guess", None)
    if guess is None:
        raise FormatError(
            f"expected --robot ADDRESS, such as sim:pendulum: files of format {name} "
            f"do not say what their columns are"
        )
    known = formats.keywords(guess, source.options)
    made: RobotSpec = guess(source.path, note=note, **known)
    return made


def provenance(source: Source, name: str) -> dict[str, str]:
    """Return where the episodes come from, for the segment."""
    about = {
        "format": name,
        "source": source.path.name,
        "sha256": content_digest(source.path),
        "robot": source.robot,
        "task": source.task,
        "robostack": robostack.__version__,
    }
    return about | {f"option {n}": text for n, text in source.options.items()}


def content_digest(path: Path) -> str:
    """Return the sha256 of a file, or of all files below a folder with their names."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    total = hashlib.sha256()
    for part in sorted(p for p in path.rglob("*") if p.is_file()):
        total.update(f"{part.relative_to(path)} {content_digest(part)}\n".encode())
    return total.hexdigest()
