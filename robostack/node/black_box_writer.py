"""A process that makes one MCAP file of a black box, and keeps the newest 20.

    python -m robostack.node.black_box_writer FOLDER < messages

It reads a msgpack array of encoded messages: an `Opened`, then `Step` and `Event`. One
box holds several episodes and what was sensed between them; in the file their steps are
numbered through, with a gap wherever one row does not follow from the one before. Its
name is on stdout; what went wrong, in one sentence, on stderr.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from robostack.data.recording_write import PARTIAL, RecordingWriter
from robostack.messages import Event, Opened, Step, Watch, decode_watch
from robostack.node.black_box import SPAN_S

KEEP = 20  # files

_IDLE = -1  # seq of a reading between episodes


def write(folder: Path, messages: list[Watch]) -> Path:
    """Write `messages` as one file in `folder`, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    opened, *rest = messages
    assert isinstance(opened, Opened)
    folder.mkdir(parents=True, exist_ok=True)
    writer = RecordingWriter(folder, opened)
    try:
        for message in number(_recent(rest)):
            if isinstance(message, Step):
                writer.step(message)
            else:
                writer.event(message)
        path = writer.close(None, f"black box: {opened.labels['black_box']}")
    except BaseException:
        writer.abandon()
        with contextlib.suppress(OSError):
            writer.path.with_name(writer.path.name + PARTIAL).unlink()
        raise
    _prune(path)
    return path


def number(messages: Iterable[Step | Event]) -> Iterator[Step | Event]:
    """Number steps through; an event tells at which row an episode begins."""
    row, last = -2, None
    for message in messages:
        if not isinstance(message, Step):
            yield message
            continue
        ahead = message.seq - last.seq if last is not None else 0
        idle = message.seq == _IDLE
        if last is None or message.generation != last.generation or ahead < 0:
            ahead = 0  # another episode, or the end of one
        row += 1 if idle and last is not None and last.seq == _IDLE else ahead or 2
        if not idle and not ahead:
            text = f"row {row} is step {message.seq} of generation {message.generation}"
            yield Event(message.generation, message.stamp_s, "episode", text)
        last = message
        yield msgspec.structs.replace(message, seq=row)


def _recent(messages: list[Watch]) -> list[Step | Event]:
    """Return what is not older than the span; a world's clock may have gone back."""
    kept = [m for m in messages if isinstance(m, Step | Event)]
    newest_s = kept[-1].stamp_s if kept else 0.0
    return [m for m in kept if m.stamp_s >= newest_s - SPAN_S]


def _prune(newest: Path) -> None:
    """Delete the oldest files beside `newest`, whatever the wall clock says of it."""
    others = [path for path in newest.parent.glob("*.mcap") if path != newest]
    others.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for old in others[KEEP - 1 :]:
        old.unlink(missing_ok=True)


def main() -> int:
    """Write what comes on stdin; return the exit status."""
    os.nice(10)
    folder = Path(sys.argv[1])
    frames = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=list[bytes])
    try:
        path = write(folder, [decode_watch(frame) for frame in frames])
    except OSError as error:
        sys.stderr.write(f"cannot write into {folder}: {error.strerror or error}\n")
        return 1
    sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
