"""What dead writers left: recordings are recovered, the rest is set aside, not deleted.

    x.mcap.partial       -> x.mcap with all whole chunks, and x.mcap.partial.recovered
    .partial-*           -> set-aside/.partial-*
    a broken segment     -> set-aside/<segment>

What a living writer has locked is left alone.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import msgspec
from mcap.records import Channel, McapRecord, Message, Metadata, Schema
from mcap.writer import CompressionType, Writer

from robostack.data.atomic import ASIDE, leftovers, sync
from robostack.data.dataset import read_head
from robostack.data.formats import Note, ignore
from robostack.data.recording import records
from robostack.data.recording_write import CHUNK_BYTES, PARTIAL, Tail
from robostack.data.segment import Segment, SegmentError

RECOVERED = ".recovered"


def repair(path: Path, *, note: Note = ignore) -> int:
    """Repair the dataset or the folder of recordings at `path`; return what was done.

    `note` hears a sentence for each.
    """
    done = 0
    for partial in sorted(path.rglob(f"*.mcap{PARTIAL}")):
        done += recover(partial, note)
    if (path / "dataset.json").exists():
        done += _set_aside(path, leftovers(path), "left by a writer that died", note)
        done += _set_broken_aside(path, note)
    return done


def recover(partial: Path, note: Note = ignore) -> bool:
    """Make a finished recording of what a recorder that died has left."""
    if in_use(partial):
        note(f"{partial.name} is being recorded, and left alone")
        return False
    final = partial.with_name(partial.name.removesuffix(PARTIAL))
    kept = [record for record in records(partial) if record is not None]
    messages = sum(isinstance(record, Message) for record in kept)
    if messages and not final.exists():
        _rewrite(kept, final)
    partial.rename(partial.with_name(partial.name + RECOVERED))
    note(f"{partial.name}: {messages} messages recovered")
    return True


def in_use(path: Path) -> bool:
    """Return whether a living writer has `path` locked."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _rewrite(kept: list[McapRecord], final: Path) -> None:
    """Write the records as a whole file."""
    temporary = final.with_name(final.name + ".recovering")
    with temporary.open("wb") as file:
        writer = Writer(file, chunk_size=CHUNK_BYTES, compression=CompressionType.ZSTD)
        writer.start()
        _copy(kept, writer)
        writer.finish()  # type: ignore[no-untyped-call]
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(final)
    sync(final.parent)


def _copy(kept: list[McapRecord], writer: Writer) -> None:
    schemas, channels, closed = {0: 0}, {}, False
    for record in kept:
        if isinstance(record, Schema) and record.id not in schemas:
            schemas[record.id] = writer.register_schema(
                record.name, record.encoding, record.data
            )
        elif isinstance(record, Channel) and record.id not in channels:
            channels[record.id] = writer.register_channel(
                record.topic,
                record.message_encoding,
                schemas[record.schema_id],
                record.metadata,
            )
        elif isinstance(record, Message) and record.channel_id in channels:
            writer.add_message(
                channels[record.channel_id],
                record.log_time,
                record.data,
                record.publish_time,
                record.sequence,
            )
        elif isinstance(record, Metadata):
            closed |= record.name == "closed"
            writer.add_metadata(record.name, record.metadata)
    if not closed:
        tail = Tail(
            terminated="false",
            reason="the recorder died",
            incomplete="the recorder died",
            steps=str(_acted(kept)),
            overruns="0",
            clamps="0",
            refused="{}",
            missed="0",
        )
        writer.add_metadata("closed", msgspec.to_builtins(tail))


def _acted(kept: list[McapRecord]) -> int:
    """Return the number of actions among the records."""
    channels = {r.id for r in kept if isinstance(r, Channel) and r.topic == "/action"}
    return sum(isinstance(r, Message) and r.channel_id in channels for r in kept)


def _set_broken_aside(root: Path, note: Note) -> int:
    spec = read_head(root).robot
    broken = []
    for folder in sorted((root / "segments").glob("[0-9]*-*")):
        try:
            Segment(folder).check(spec)
        except SegmentError as error:
            broken.append(folder)
            note(str(error))
    return _set_aside(root, broken, "broken", note)


def _set_aside(root: Path, paths: list[Path], why: str, note: Note) -> int:
    moved = 0
    for path in paths:
        if in_use(path):
            note(f"{path.name} is being written, and left alone")
            continue
        (root / ASIDE).mkdir(exist_ok=True)
        path.rename(_free(root / ASIDE / path.name))
        note(f"{path} was {why}, and is now in {root / ASIDE}")
        moved += 1
    return moved


def _free(path: Path) -> Path:
    n, free = 0, path
    while free.exists():
        n += 1
        free = path.with_name(f"{path.name}.{n}")
    return free
