"""Reading recordings: MCAP files of one episode each, whole, cut short or damaged.

    read(path, spec)        format `recording`: all finished recordings in a folder
    load(path)              one file, as far as it goes
    whole_records(path)     how much of a file that a killed recorder left is of use

The layout is in recording_write.py. A step that never came, or whose chunk is damaged,
is a gap: the row before it has no action, so no transition leaps over it.
"""

from __future__ import annotations

import base64
import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from mcap.exceptions import McapError
from mcap.records import Channel, Chunk, McapRecord, Message, Metadata
from mcap.stream_reader import CRCValidationError, StreamReader, breakup_chunk
from zstandard import ZstdError

from robostack.data.episode import (
    INCOMPLETE,
    Conduct,
    End,
    Episode,
    Frames,
    unknown_conduct,
)
from robostack.data.formats import FormatError, Note, ignore
from robostack.data.recording_write import PARTIAL, VERSION, Applied, Head, Sample, Tail
from robostack.spec import Array, RobotSpec, SpecError, difference

MAGIC = b"\x89MCAP0\r\n"
LARGEST_OPCODE = 0x0F
FOOTER = 0x02


class Recording(NamedTuple):
    """What one file holds."""

    spec: RobotSpec
    episode: Episode | None  # None: there is no whole transition in it
    notes: list[str]


class Raw(NamedTuple):
    """The records of one file that are of use."""

    head: Head | None
    tail: Tail | None
    samples: dict[str, dict[int, Sample]]  # by topic, then by seq
    frames: dict[str, list[tuple[int, bytes]]]  # by camera: seq, JPEG
    damaged: int  # chunks that are not what was written


def sniff(path: Path) -> bool:
    """Return whether `path` is a recording, or a folder with recordings."""
    files = _files(path) + _partial(path)
    return any(_starts_right(file) for file in files)


def read(path: Path, spec: RobotSpec, *, note: Note = ignore) -> Iterator[Episode]:
    """Give the episodes of the finished recordings at `path`, one at a time."""
    if partial := _partial(path):
        note(
            f"{len(partial)} recordings were never finished, such as "
            f"{partial[0].name}: robostack data repair {path} recovers them"
        )
    count = 0
    for file in _files(path):
        recording = _try(file, note)
        if recording is None:
            continue
        if recording.spec.digest != spec.digest:
            lines = "\n  ".join(difference(spec, recording.spec))
            raise FormatError(
                f"{file} is of another robot spec (here: expected, there: the file):\n"
                f"  {lines}"
            )
        for sentence in recording.notes:
            note(sentence)
        if recording.episode is not None:
            count += 1
            yield recording.episode
    if not count:
        raise FormatError(f"expected a recording with a whole step in {path}")


def guess(path: Path, *, note: Note = ignore) -> RobotSpec:
    """Return the spec in the first recording at `path` that can be read."""
    for file in _files(path):
        recording = _try(file, note)
        if recording is not None:
            return recording.spec
    raise FormatError(f"expected a recording that can be read in {path}")


def load(path: Path) -> Recording:
    """Return the episode in `path`, as far as it was recorded.

    Raises:
        FormatError: not even its beginning can be read.
    """
    try:
        raw = _collect(path)
    except msgspec.MsgspecError as error:
        raise FormatError(
            f"{path}: it is a recording by other rules: {error}"
        ) from error
    if raw.head is None:
        raise FormatError(
            f"{path}: expected a recording, found no record of an episode"
        )
    if raw.head.version != str(VERSION):
        raise FormatError(
            f"{path}: expected recording version {VERSION}, got {raw.head.version}"
        )
    try:
        spec = msgspec.json.decode(raw.head.robot, type=RobotSpec)
    except (msgspec.MsgspecError, SpecError) as error:
        raise FormatError(f"{path}: its robot spec cannot be read: {error}") from error
    notes = []
    if raw.damaged:
        notes.append(f"{path.name}: {raw.damaged} chunks are damaged, and left out")
    rows = _rows(raw, spec)
    if len(rows) < 2:
        notes.append(f"{path.name}: it holds no whole transition")
        return Recording(spec, None, notes)
    episode, gaps = _episode(path, raw, raw.head, spec, rows)
    if gaps:
        notes.append(f"{path.name}: steps are missing at {gaps} places")
    return Recording(spec, episode, notes)


def whole_records(path: Path) -> int:
    """Return the length [byte] of the part of `path` that ends with a whole record."""
    size, end = path.stat().st_size, len(MAGIC)
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            return 0
        while True:
            start = file.read(9)
            if len(start) < 9:
                return end
            opcode, length = struct.unpack("<BQ", start)
            if not 0 < opcode <= LARGEST_OPCODE or end + 9 + length > size:
                return end
            end += 9 + length
            file.seek(end)


def records(path: Path) -> Iterator[McapRecord | None]:
    """Give every record of `path` that is whole, those in chunks too.

    None stands for a chunk that is not what was written.
    """
    with path.open("rb") as file:
        content = file.read(whole_records(path))
    reader = StreamReader(io.BytesIO(content), emit_chunks=True)
    stream = reader.records
    while True:
        try:
            record = next(stream)
        except (StopIteration, McapError, ValueError, struct.error):
            return  # the end: of the file, or of what can be read
        if not isinstance(record, Chunk):
            yield record
            continue
        try:
            yield from breakup_chunk(record, validate_crc=True)
        except (CRCValidationError, ZstdError, McapError, ValueError, struct.error):
            yield None


def _collect(path: Path) -> Raw:
    raw = Raw(None, None, {}, {}, 0)
    found = list(records(path))
    topics = {r.id: r.topic for r in found if isinstance(r, Channel)}
    for record in found:
        if record is None:
            raw = raw._replace(damaged=raw.damaged + 1)
        elif isinstance(record, Metadata) and record.name == "episode":
            raw = raw._replace(head=msgspec.convert(record.metadata, Head))
        elif isinstance(record, Metadata) and record.name == "closed":
            raw = raw._replace(tail=msgspec.convert(record.metadata, Tail))
        elif isinstance(record, Message) and record.channel_id in topics:
            _sort_in(raw, topics[record.channel_id], record)
    return raw


def _sort_in(raw: Raw, topic: str, message: Message) -> None:
    if topic.startswith("/image/"):
        content = msgspec.json.decode(message.data)
        jpeg = base64.b64decode(content["data"])
        frames = raw.frames.setdefault(topic.removeprefix("/image/"), [])
        frames.append((message.sequence, jpeg))
    elif topic != "/events":
        kind = Applied if topic == "/action" else Sample
        sample = msgspec.json.decode(message.data, type=kind)
        raw.samples.setdefault(topic, {})[sample.seq] = sample


def _rows(raw: Raw, spec: RobotSpec) -> list[int]:
    """Return the steps (seq) of which every observation array is there, in order."""
    observed = [
        raw.samples.get(f"/observation/{name}", {}).keys() for name in spec.observation
    ]
    return sorted(set.intersection(*map(set, observed)))


def _episode(
    path: Path, raw: Raw, head: Head, spec: RobotSpec, rows: list[int]
) -> tuple[Episode, int]:
    """Return the episode of two rows or more, and the number of gaps in it."""
    samples, size = raw.samples, spec.action.size
    action = _column(samples.get("/action", {}), rows, size)
    finished = bool(np.isnan(action[-1]).all())  # the last row is what was sensed last
    gaps = np.diff(rows) > 1
    action[:-1][gaps] = np.nan
    stamps = samples[f"/observation/{next(iter(spec.observation))}"]
    time_s = np.array([stamps[seq].stamp_s for seq in rows], np.float64)
    incomplete = _incomplete(raw.tail, finished)
    terminated = raw.tail is not None and raw.tail.terminated == "true"
    labels = _labels(path, head, raw.tail) | incomplete
    return Episode(
        observation={
            name: _column(samples[f"/observation/{name}"], rows, array.size)
            for name, array in spec.observation.items()
        },
        action=action[:-1],
        requested=_column(samples.get("/action/requested", {}), rows, size)[:-1],
        time_s=time_s - time_s[0],
        end=End.TERMINATED if terminated and not incomplete else End.TRUNCATED,
        reward=None,
        truth={
            topic.removeprefix("/truth/"): _column(found, rows, None)
            for topic, found in samples.items()
            if topic.startswith("/truth/")
        },
        frames={name: _frames(found, rows) for name, found in raw.frames.items()},
        labels=labels,
        conduct=_conduct(samples.get("/action", {}), rows[:-1], spec),
    ), int(gaps.sum())


def _conduct(applied: dict[int, Any], rows: list[int], spec: RobotSpec) -> Conduct:
    """Return how the actions of `rows` (T,) came to be."""
    conduct = unknown_conduct(len(rows), spec.action.size)
    place = {name: i for i, name in enumerate(spec.action.names)}
    for i, seq in enumerate(rows):
        if seq in applied:
            action = applied[seq]
            conduct.intervention[i] = action.intervention
            conduct.clamped[i, [place[name] for name in action.clamped]] = True
            conduct.age_s[i] = action.age_s
    return conduct


def _column(samples: dict[int, Any], rows: list[int], size: int | None) -> Array:
    """Return the values (R, n) of `rows`; NaN where there is none."""
    if size is None:
        size = len(next(iter(samples.values())).value)
    column = np.full((len(rows), size), np.nan, np.float32)
    for i, seq in enumerate(rows):
        if seq in samples:
            column[i] = np.array(samples[seq].value, np.float32)  # null becomes NaN
    return column


def _frames(found: list[tuple[int, bytes]], rows: list[int]) -> Frames:
    """Return the frames of one camera, each with the last row that is not later."""
    seqs: npt.NDArray[np.int64] = np.array([seq for seq, _ in found], np.int64)
    steps = np.maximum(np.searchsorted(rows, seqs, side="right") - 1, 0)
    order = np.argsort(steps, kind="stable")
    return Frames(steps[order].astype(np.int64), tuple(found[i][1] for i in order))


def _incomplete(tail: Tail | None, finished: bool) -> dict[str, str]:
    if tail is None:
        return {INCOMPLETE: "the recorder died"}
    if tail.incomplete:
        return {INCOMPLETE: tail.incomplete}
    return {} if finished else {INCOMPLETE: "the last steps never came"}


def _labels(path: Path, head: Head, tail: Tail | None) -> dict[str, str]:
    about = {
        "recording": path.name.removesuffix(PARTIAL),
        "address": head.address,
        "client": head.client,
        "artefact": head.artefact,
        "seed": head.seed,
        "recorded": f"{np.datetime64(int(head.wall_ns) // 1000, 'us')}Z",
    }
    if tail is not None:
        about |= {"reason": tail.reason, "overruns": tail.overruns}
        about |= {"clamps": tail.clamps, "refused": tail.refused, "missed": tail.missed}
    given: dict[str, str] = msgspec.json.decode(head.labels, type=dict[str, str])
    return given | {name: text for name, text in about.items() if text}


def _try(file: Path, note: Note) -> Recording | None:
    try:
        return load(file)
    except (FormatError, msgspec.MsgspecError) as error:
        note(f"{file.name} is left out: {error}")
        return None


def _files(path: Path) -> list[Path]:
    return sorted(path.glob("*.mcap")) if path.is_dir() else [path]


def _partial(path: Path) -> list[Path]:
    return sorted(path.glob(f"*.mcap{PARTIAL}")) if path.is_dir() else []


def _starts_right(file: Path) -> bool:
    if not file.is_file():
        return False
    with file.open("rb") as opened:
        return opened.read(len(MAGIC)) == MAGIC
