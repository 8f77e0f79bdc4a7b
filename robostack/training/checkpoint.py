"""Checkpoints: everything a run needs to go on as if it had never stopped.

    checkpoints/000000020000.ckpt    msgpack of `Checkpoint`, then its sha256 (32 bytes)

Written whole or not at all; a file that is damaged all the same is passed over for the
one before it.
"""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path

import msgspec
import numpy as np

from robostack.data.atomic import leftovers, write_file
from robostack.data.experience import Saved

_LOG = logging.getLogger(__name__)
_DIGEST = 32  # [byte]


class CheckpointError(OSError):
    """A checkpoint that cannot be written or read."""

    def __str__(self) -> str:
        """Return the sentence."""
        return str(self.args[0])


class Checkpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The state of a run after `step` updates."""

    step: int
    learner: bytes  # Learner.state()
    sampler: str  # state of the generator that draws batches, JSON
    metrics_size: int = 0  # [byte] of metrics.jsonl that belong to it
    experience: Saved | None = None  # of an online run: what the robot lived through


def save(folder: Path, checkpoint: Checkpoint, keep: int) -> None:
    """Write `checkpoint` into `folder`, and delete all but the newest `keep`."""
    content = msgspec.msgpack.encode(checkpoint)
    path = folder / f"{checkpoint.step:012d}.ckpt"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_file(path, content + hashlib.sha256(content).digest())
    except OSError as error:
        newest = max((p.stem for p in folder.glob("*.ckpt")), default="none")
        raise CheckpointError(
            f"cannot write {path}: {error.strerror}; make room and resume (the newest "
            f"whole checkpoint: {newest})"
        ) from error
    for old in [*listed(folder)[keep:], *leftovers(folder)]:
        old.unlink(missing_ok=True)


def newest(folder: Path) -> Checkpoint | None:
    """Return the newest checkpoint in `folder` that is whole; None without any."""
    damaged = []
    for path in listed(folder):
        try:
            return read(path)
        except CheckpointError as error:
            _LOG.warning("%s; trying the one before", error)
            damaged.append(path)
    if damaged:
        raise CheckpointError(
            f"expected a whole checkpoint in {folder}, all {len(damaged)} are damaged"
        )
    return None


def read(path: Path) -> Checkpoint:
    """Return the checkpoint in `path`."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from error
    body, digest = content[:-_DIGEST], content[-_DIGEST:]
    if hashlib.sha256(body).digest() != digest:
        raise CheckpointError(f"{path} is damaged: its content has another digest")
    try:
        return msgspec.msgpack.decode(body, type=Checkpoint)
    except msgspec.MsgspecError as error:
        raise CheckpointError(f"{path} is of another version: {error}") from error


def listed(folder: Path) -> list[Path]:
    """Return the checkpoints in `folder`, the newest first."""
    return sorted(folder.glob("*.ckpt"), reverse=True)


def pack_generator(rng: np.random.Generator) -> str:
    """Return the state of `rng` as JSON."""
    return json.dumps(rng.bit_generator.state)


def unpack_generator(state: str) -> np.random.Generator:
    """Return a generator in `state`."""
    rng = np.random.default_rng()
    rng.bit_generator.state = json.loads(state)
    return rng
