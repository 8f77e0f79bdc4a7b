"""Bytes that no good client sends; every generator is endless and seeded."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from robostack.messages import (
    PROTOCOL,
    Begin,
    Bye,
    Command,
    End,
    Hello,
    Notice,
    Stop,
    Stopped,
    Tensor,
    encode,
)

ACTION = Tensor.pack(np.zeros(2, np.float32))
VALID = (
    encode(Hello(PROTOCOL, "fuzzer", None, "", 1, 1)),
    encode(Begin("0" * 16, 1, {"task": "fuzz"})),
    encode(Command("0" * 16, 1, 1, 0.0, 1.0, False, ACTION)),
    encode(End("0" * 16, 1, False, "fuzz")),
    encode(Bye("0" * 16)),
    encode(Notice(1, "estop", "fuzz")),
    encode(Stopped("estop")),
    b"\x01",  # a subscription
)
BOMBS = (
    b"",
    b"\x00",
    b"\x81" * 50_000,  # maps within maps
    b"\x91" * 50_000,  # arrays within arrays
    b"\xdf\xff\xff\xff\xff" + b"\x00" * 10,  # a map that claims 4 billion pairs
    b"\xdd\xff\xff\xff\xff" + b"\x00" * 10,  # an array that claims 4 billion
    b"\xc6\xff\xff\xff\xff",  # 4 GiB of bytes, none of them there
    b"\xc9\xff\xff\xff\xff\x05",  # an extension of 4 GiB
    b"\x81\xa4type\xa5Hello" * 200,
    bytes(300_000),  # larger than any socket of a node takes
)
RAW = (
    b"GET / HTTP/1.1\r\nHost: robot\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),  # TLS
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"\xff" * 64,
    b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f",  # ZMTP, as far as the signature
)


class Canary:
    """Writes a file if anybody unpickles it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return (open, (str(self._path), "w"))


def pickles(canary: Path) -> tuple[bytes, ...]:
    """Return what makes `canary` where anybody unpickles it, in several protocols."""
    return tuple(pickle.dumps(Canary(canary), protocol=n) for n in range(6))


def greeting(mechanism: bytes = b"NULL") -> bytes:
    """Return the first 64 bytes of a ZMTP 3.0 connection."""
    signature = b"\xff" + bytes(8) + b"\x7f"
    return signature + b"\x03\x00" + mechanism.ljust(20, b"\0") + bytes(32)


def ready(kind: bytes) -> bytes:
    """Return the command that ends a NULL handshake of a socket of `kind`."""
    body = b"\x05READY" + b"\x0bSocket-Type" + len(kind).to_bytes(4, "big") + kind
    return b"\x04" + bytes([len(body)]) + body


def huge_frame(size: int) -> bytes:
    """Return the head of a frame that claims `size` bytes, and a few of them."""
    return b"\x02" + size.to_bytes(8, "big") + b"xxxx"


def frames(rng: np.random.Generator, canary: Path) -> Iterator[bytes]:
    """Yield random, mutated, truncated and explosive frames; none asks to stop."""
    fixed = BOMBS + pickles(canary)
    while True:
        match rng.integers(4):
            case 0:
                yield rng.bytes(int(rng.integers(1, 2000)))
            case 1:
                yield fixed[rng.integers(len(fixed))]
            case 2:
                frame = VALID[rng.integers(len(VALID))]
                yield frame[: rng.integers(len(frame) + 1)]
            case _:
                yield mutated(rng, VALID[rng.integers(len(VALID))])


def mutated(rng: np.random.Generator, frame: bytes) -> bytes:
    """Return `frame` with one to four bytes changed, removed or put in."""
    changed = bytearray(frame)
    for _ in range(int(rng.integers(1, 5))):
        at = int(rng.integers(len(changed) + 1))
        how = rng.integers(3)
        changed[at : at + (how > 0)] = rng.bytes(1) if how < 2 else b""
    return bytes(changed)


def asks_to_stop(frame: bytes) -> bool:
    """Return whether a node would rightly stop for `frame`."""
    return encode(Stop(""))[:11] in frame
