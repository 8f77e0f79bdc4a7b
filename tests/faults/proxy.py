"""A proxy between a client and its node that does what bad networks and people do.

It drops frames, doubles them, holds them back, swaps them, cuts them short, changes
bytes, and sends again what it saw long ago. `Meddler` does that to frames, wherever
they come from; `proxied` puts one between two sockets. `complaints` judges a node by
what it published: whether it applied a command that it should have dropped.

Without keys nobody can tell a command with a changed byte from one that somebody meant,
if it is still a message: such commands are limited like all others. With keys ZMQ hangs
up on whoever changes one byte.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple, get_args

import numpy as np
import zmq

from robostack.limits import Limits
from robostack.messages import Reading, Step
from robostack.spec import Array, RobotSpec

Kind = Literal["pass", "drop", "double", "hold", "swap", "cut", "corrupt", "replay"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class Fate(NamedTuple):
    """What becomes of one frame."""

    kind: Kind = "pass"
    number: int = 0  # periods held, byte changed or cut at, frame sent again


class Meddler:
    """Passes frames on, or not; time is counted in periods."""

    def __init__(self) -> None:
        self._seen: list[bytes] = []
        self._held: list[tuple[int, bytes]] = []  # (period when due, frame)
        self._swapped: list[bytes] = []
        self._period = 0

    def take(self, frame: bytes, fate: Fate) -> list[bytes]:
        """Return what arrives now in the place of `frame`."""
        self._seen.append(frame)
        after, self._swapped = self._swapped, []
        return self._meddled(frame, fate) + after

    def tick(self) -> list[bytes]:
        """Let a period pass; return what arrives late."""
        self._period += 1
        due = [frame for when, frame in self._held if when <= self._period]
        self._held = [(when, f) for when, f in self._held if when > self._period]
        return due

    def _meddled(self, frame: bytes, fate: Fate) -> list[bytes]:
        number, size = fate.number, len(frame)
        if fate.kind == "hold":
            self._held.append((self._period + 1 + number % 8, frame))
        if fate.kind == "swap":
            self._swapped = [frame]
        changed = bytearray(frame)
        changed[number % size] ^= 1 + number % 255
        arrives: dict[Kind, list[bytes]] = {
            "pass": [frame],
            "double": [frame, frame],
            "cut": [frame[: number % size]],
            "corrupt": [bytes(changed)],
            "replay": [frame, self._seen[number % len(self._seen)]],
        }
        return arrives.get(fate.kind, [])


def signed_action(reading: Reading) -> Array:
    """Return an action that tells by its second element which reading it answers."""
    first = 0.3 * np.sin(0.3 * reading.seq)
    return np.float32([first, _mark(reading.generation, reading.seq)])


def complaints(
    steps: Iterable[Step], robot: RobotSpec, limits: Limits, *, corrupted: bool
) -> list[str]:
    """Return what a node did wrong, by the steps it published."""
    found = []
    last = (0, -1)
    low, high = np.float32(robot.action.low), np.float32(robot.action.high)
    for step in (s for s in steps if s.applied is not None):
        applied = step.applied.unpack() if step.applied else low
        if not ((low <= applied).all() and (applied <= high).all()):
            found.append(f"out of bounds: {applied}")
        if step.requested is None:
            continue
        if not 0 <= step.age_s <= limits.command_timeout_s:
            found.append(f"stale: {step.age_s} s")
        answered = _answered(float(step.requested.unpack()[1]), step.generation)
        if answered is not None:
            if (step.generation, answered) <= last:
                found.append(f"replayed or reordered: {answered} after {last}")
            last = step.generation, answered
        elif not corrupted:
            found.append(f"of no reading of generation {step.generation}: {step}")
    return found


@contextlib.contextmanager
def proxied(front: str, back: str, rng: np.random.Generator) -> Iterator[None]:
    """Meddle with what one client at `front` sends to the node at `back`."""
    over = threading.Event()
    thread = threading.Thread(target=_proxy, args=(front, back, rng, over))
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _proxy(
    front: str, back: str, rng: np.random.Generator, over: threading.Event
) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    client, node = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
    client.bind(front)
    node.connect(back)
    meddler, identity = Meddler(), b""
    poller = zmq.Poller()
    poller.register(client, zmq.POLLIN)
    poller.register(node, zmq.POLLIN)
    while not over.is_set():
        ready = dict(poller.poll(20))
        if not ready:
            for frame in meddler.tick():
                node.send(frame)
        if client in ready:
            identity, frame = client.recv_multipart()
            for out in meddler.take(frame, _random_fate(rng)):
                node.send(out)
        if node in ready:
            for frame in meddler.tick():
                node.send(frame)
            client.send_multipart([identity, node.recv()])
    context.destroy(linger=0)


def _random_fate(rng: np.random.Generator) -> Fate:
    kinds = [kind for kind in KINDS if kind != "corrupt"]
    kind = kinds[rng.integers(len(kinds))] if rng.random() < 0.5 else "pass"
    return Fate(kind, int(rng.integers(1 << 16)))


def _mark(generation: int, seq: int) -> float:
    return (generation % 97) * 1e-3 + (seq % 100) * 1e-5


def _answered(mark: float, generation: int) -> int | None:
    """Return the reading that an action with `mark` answers; None: of none here."""
    seq = round((mark - _mark(generation, 0)) / 1e-5)
    return seq if 0 <= seq < 100 and abs(_mark(generation, seq) - mark) < 2e-6 else None
