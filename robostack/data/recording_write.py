"""Writing a recording: one MCAP file of one episode, streamed while the robot moves.

    metadata "episode"        Head: robot spec, labels, address, seed, versions
    /observation/<name>       Sample: seq, stamp_s, value
    /truth/<name>             Sample
    /action                   Applied: a Sample, with clamped, age_s, intervention
    /action/requested         Sample
    /ages                     Sample: of the sensors whose driver tells their age
    /image/<camera>           foxglove.CompressedImage, JPEG; sequence is the step
    /events                   Happening: stamp_s, kind, text
    metadata "closed"         Tail: how it ended, counts; absent where a recorder died

All messages are JSON with a schema, so that Foxglove, Rerun and the mcap tool open the
file. It is `<name>.mcap.partial`, locked, until it is whole; chunks are small and
flushed often, and each is whole by itself, so that a dead recorder loses a moment.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import os
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from mcap.writer import CompressionType, Writer

import robostack
from robostack.data import jpeg
from robostack.data.atomic import sync
from robostack.messages import Closed, Event, Frame, Opened, Step, Tensor
from robostack.spec import ArraySpec

VERSION = 1  # raise on any change of the layout
PARTIAL = ".partial"
CHUNK_BYTES = 64 * 1024


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is known when an episode begins; strings, or JSON in them."""

    version: str
    robostack: str
    robot: str  # RobotSpec as JSON
    spec_digest: str
    address: str
    client: str
    artefact: str
    seed: str  # "" without
    labels: str  # dict[str, str] as JSON
    generation: str
    stamp_s: str
    wall_ns: str


class Tail(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is known when it ends; strings, or JSON in them."""

    terminated: str  # "true" or "false"
    reason: str
    incomplete: str  # why the end was not seen; "" if it was
    steps: str
    overruns: str
    clamps: str
    refused: str  # dict[str, int] as JSON
    missed: str  # messages that never came, by seq


class Sample(msgspec.Struct, frozen=True):
    """One array at one step."""

    seq: int
    stamp_s: float
    value: list[float | None]  # null is NaN


class Applied(Sample, frozen=True):
    """The action that was in effect."""

    clamped: tuple[str, ...]
    age_s: float
    intervention: bool


class Happening(msgspec.Struct, frozen=True):
    """A line in the log."""

    stamp_s: float
    kind: str
    text: str


def _schema_of(kind: type[Sample | Happening]) -> tuple[str, dict[str, Any]]:
    _, components = msgspec.json.schema_components([kind])
    return f"robostack.{kind.__name__}", components[kind.__name__]


SCHEMAS = {kind: _schema_of(kind) for kind in (Sample, Applied, Happening)}
IMAGE_SCHEMA = {
    "title": "foxglove.CompressedImage",
    "type": "object",
    "properties": {
        "timestamp": {
            "type": "object",
            "title": "time",
            "properties": {"sec": {"type": "integer"}, "nsec": {"type": "integer"}},
        },
        "frame_id": {"type": "string"},
        "data": {"type": "string", "contentEncoding": "base64"},
        "format": {"type": "string"},
    },
}


class RecordingWriter:
    """One recording in progress."""

    def __init__(self, folder: Path, opened: Opened) -> None:
        """Create the file; raises OSError."""
        self.path = _free(folder, opened)
        self._opened = opened
        self._file = self.path.with_name(self.path.name + PARTIAL).open("xb")
        fcntl.flock(self._file, fcntl.LOCK_EX)  # tells `repair` that we are alive
        self._writer = Writer(
            self._file, chunk_size=CHUNK_BYTES, compression=CompressionType.ZSTD
        )
        self._schemas: dict[str, int] = {}
        self._channels: dict[str, int] = {}
        self._next_seq: int | None = None
        self._age_names: tuple[str, ...] = ()
        self.steps = 0
        self.missed = 0  # steps that never came
        self._writer.start(profile="", library=f"robostack {robostack.__version__}")
        self._writer.add_metadata("episode", msgspec.to_builtins(_head(opened)))
        self.flush()

    @property
    def generation(self) -> int:
        """Which of the node's episodes this is."""
        return self._opened.generation

    def step(self, step: Step) -> None:
        """Record one control period."""
        if self._next_seq is not None:
            self.missed += max(0, step.seq - self._next_seq)
        self._next_seq = step.seq + 1
        self.steps += 1
        seq, stamp_s = step.seq, step.stamp_s
        for name, tensor in step.arrays.items():
            spec = self._opened.robot.observation.get(name)
            sample = Sample(seq, stamp_s, _numbers(tensor))
            self._write(f"/observation/{name}", sample, seq, spec)
        for name, tensor in step.truth.items():
            self._write(f"/truth/{name}", Sample(seq, stamp_s, _numbers(tensor)), seq)
        if step.ages_s:
            self._ages(step)
        action = self._opened.robot.action
        if step.requested is not None:
            sample = Sample(seq, stamp_s, _numbers(step.requested))
            self._write("/action/requested", sample, seq, action)
        if step.applied is not None:
            applied = Applied(
                seq,
                stamp_s,
                _numbers(step.applied),
                step.clamped,
                step.age_s,
                step.intervention,
            )
            self._write("/action", applied, seq, action)

    def event(self, event: Event) -> None:
        """Record a line of the log."""
        happening = Happening(event.stamp_s, event.kind, event.text)
        self._write("/events", happening, self._next_seq or 0)

    def frame(self, frame: Frame) -> None:
        """Record a camera frame, as JPEG."""
        time_ns = self._time_ns(frame.stamp_s)
        image = jpeg.encode(np.asarray(frame.pixels.unpack(), np.uint8))
        content = {
            "timestamp": {"sec": time_ns // 10**9, "nsec": time_ns % 10**9},
            "frame_id": frame.camera,
            "data": base64.b64encode(image).decode(),
            "format": "jpeg",
        }
        schema = self._schema("foxglove.CompressedImage", IMAGE_SCHEMA)
        channel = self._channel(f"/image/{frame.camera}", schema, None)
        self._add(channel, msgspec.json.encode(content), frame.seq, time_ns)

    def flush(self) -> None:
        """Bring everything so far to the disk."""
        self._writer.flush()  # type: ignore[no-untyped-call]
        os.fsync(self._file.fileno())

    def close(self, closed: Closed | None, incomplete: str = "") -> Path:
        """Finish the file under its final name.

        Without `closed`, `incomplete` says why the end was not seen.
        """
        self.flush()  # or the end would be in the file before the last steps
        tail = _tail(closed, incomplete, self.steps, self.missed)
        self._writer.add_metadata("closed", msgspec.to_builtins(tail))
        self._writer.finish()  # type: ignore[no-untyped-call]
        self._file.flush()
        os.fsync(self._file.fileno())
        Path(self._file.name).rename(self.path)
        self._file.close()
        sync(self.path.parent)
        return self.path

    def abandon(self) -> None:
        """Leave the partial file as it is, for `repair`."""
        with contextlib.suppress(OSError):  # what is buffered may not fit any more
            self._file.close()

    def _ages(self, step: Step) -> None:
        names = self._age_names = self._age_names or tuple(sorted(step.ages_s))
        ages: list[float | None] = [step.ages_s.get(name) for name in names]
        spec = ArraySpec.uniform(names, "s", 0.0, 0.0)  # for names and units
        self._write("/ages", Sample(step.seq, step.stamp_s, ages), step.seq, spec)

    def _write(
        self,
        topic: str,
        message: Sample | Happening,
        seq: int,
        spec: ArraySpec | None = None,
    ) -> None:
        name, content = SCHEMAS[type(message)]
        schema = self._schema(name, content)
        channel = self._channel(topic, schema, spec)
        time_ns = self._time_ns(message.stamp_s)
        self._add(channel, msgspec.json.encode(message), seq, time_ns)

    def _add(self, channel: int, content: bytes, seq: int, time_ns: int) -> None:
        self._writer.add_message(
            channel_id=channel,
            log_time=time_ns,
            publish_time=time_ns,
            data=content,
            sequence=seq,
        )

    def _schema(self, name: str, schema: dict[str, Any]) -> int:
        if name not in self._schemas:
            content = msgspec.json.encode(schema)
            self._schemas[name] = self._writer.register_schema(
                name, "jsonschema", content
            )
        return self._schemas[name]

    def _channel(self, topic: str, schema: int, spec: ArraySpec | None) -> int:
        if topic not in self._channels:
            about = {}
            if spec is not None:
                about = {"names": ", ".join(spec.names), "units": ", ".join(spec.units)}
            self._channels[topic] = self._writer.register_channel(
                topic, "json", schema, about
            )
        return self._channels[topic]

    def _time_ns(self, stamp_s: float) -> int:
        """Return the wall time of a stamp of the node's clock."""
        since_s = stamp_s - self._opened.stamp_s
        return max(0, self._opened.wall_ns + round(since_s * 1e9))


def _free(folder: Path, opened: Opened) -> Path:
    """Return a path that is not taken: time, robot, generation."""
    time = np.datetime64(opened.wall_ns // 1000, "us")
    stamp = str(time).replace("-", "").replace(":", "")
    robot = "".join(c if c.isalnum() else "-" for c in opened.robot.name)
    stem, n = f"{stamp}Z_{robot}_{opened.generation:06d}", 0
    while True:
        path = folder / f"{stem}{f'_{n}' if n else ''}.mcap"
        if not path.exists() and not path.with_name(path.name + PARTIAL).exists():
            return path
        n += 1


def _head(opened: Opened) -> Head:
    return Head(
        version=str(VERSION),
        robostack=robostack.__version__,
        robot=_json(opened.robot),
        spec_digest=opened.robot.digest,
        address=opened.address,
        client=opened.client,
        artefact=opened.artefact,
        seed="" if opened.seed is None else str(opened.seed),
        labels=_json(opened.labels),
        generation=str(opened.generation),
        stamp_s=repr(opened.stamp_s),
        wall_ns=str(opened.wall_ns),
    )


def _tail(closed: Closed | None, incomplete: str, steps: int, missed: int) -> Tail:
    return Tail(
        terminated=_json(closed is not None and closed.terminated),
        reason=closed.reason if closed else incomplete,
        incomplete="" if closed else incomplete,
        steps=str(closed.steps if closed else steps),
        overruns=str(closed.overruns if closed else 0),
        clamps=str(closed.clamps if closed else 0),
        refused=_json(closed.refused if closed else {}),
        missed=str(missed),
    )


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _numbers(tensor: Tensor) -> list[float | None]:
    array: npt.NDArray[Any] = tensor.unpack().reshape(-1)
    numbers: list[float | None] = array.tolist()  # msgspec writes NaN as null
    return numbers
