"""What a run reports over time: metrics.jsonl, and TensorBoard beside it.

Each line of metrics.jsonl is one step: {"step": 1000, "loss/value": 0.01, ...}. A run
that resumes cuts off the lines after its checkpoint, and tells TensorBoard to.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter


class Curves:
    """Writes both; use as a context."""

    def __init__(self, run: Path, step: int, size: int) -> None:
        """Go on after `step`, where metrics.jsonl had `size` bytes."""
        self._path = run / "metrics.jsonl"
        self._file = self._path.open("ab")
        os.truncate(self._path, min(size, self._path.stat().st_size))
        self._events = EventFileWriter(str(run), filename_suffix=f".{step}")
        start = SessionLog(status=SessionLog.START)
        self._add(step + 1, session_log=start)  # later points, if any, are void

    def __enter__(self) -> Curves:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish both files."""
        self._file.close()
        self._events.close()

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add the metrics of `step`."""
        line = msgspec.json.encode({"step": step, **metrics})
        self._file.write(line + b"\n")
        self._file.flush()
        values = [
            Summary.Value(tag=tag, simple_value=value) for tag, value in metrics.items()
        ]
        self._add(step, summary=Summary(value=values))

    def sync(self) -> int:
        """Bring everything to disk; return the size of metrics.jsonl [byte]."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._events.flush()
        return self._path.stat().st_size

    def _add(self, step: int, **content: Any) -> None:
        self._events.add_event(Event(wall_time=time.time(), step=step, **content))


def read(run: Path) -> list[dict[str, Any]]:
    """Return the lines of metrics.jsonl; a last one that was cut short is left out."""
    path = run / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    return [msgspec.json.decode(line) for line in lines if line.endswith(b"\n")]
