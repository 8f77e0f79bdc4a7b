"""The emulator's back door: what tests and its own driver ask beside the servo bus.

A socket of whole packets beside the terminal, one question and one answer at a time.
Cameras and the cube's tracker come this way, too; on a real arm they are other devices.
"""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import TypeVar

import msgspec

from robostack.spec import Image

LARGEST = 1 << 20  # [byte] of an answer: two frames of 128 x 128
TTY, SOCKET = "tty", "control"  # names in an emulator's folder


class Look(msgspec.Struct, frozen=True, tag=True):
    """Asks for the state: answered by `Seen`."""


class Draw(msgspec.Struct, frozen=True, tag=True):
    """Asks for the cameras' frames: answered by `Drawn`."""


class History(msgspec.Struct, frozen=True, tag=True):
    """Asks what was written to the bus: answered by `Written`."""

    since: int = 0  # packets that one knows already


class Spoil(msgspec.Struct, frozen=True, tag=True):
    """Switches faults on or off; what is None stays as it is. Answered by `Seen`."""

    corrupt: int | None = None  # so many status packets to come, wrong checksum
    lost: int | None = None  # so many status packets to come do not come
    latency_s: float | None = None  # every status packet comes so late
    unplugged: tuple[int, ...] | None = None  # ids without a plug; they keep power
    replays: bool | None = None  # the adapter keeps what comes without power
    power: bool | None = None  # of the servos; the adapter lives on the USB's
    servo: int = 0  # id of the servo that the following are about
    temperature: int | None = None  # [C]
    errors: int | None = None  # error bits that it says it has


class Finish(msgspec.Struct, frozen=True, tag=True):
    """Asks the emulator to end: answered by `Seen`."""


class Seen(msgspec.Struct, frozen=True, tag=True):
    """The emulated arm at one moment."""

    now_s: float  # monotonic, as of all processes of this computer
    position: tuple[float, ...]  # (6,) [tick]
    goal: tuple[int, ...]  # (6,) [tick]
    torque: tuple[bool, ...]  # (6,)
    torque_limit: tuple[int, ...]  # (6,) [0.1 %]
    cube: tuple[float, ...]  # (3,) [m], none without a world
    written: int  # packets so far that were not just questions


class Drawn(msgspec.Struct, frozen=True, tag=True):
    """Frames: pixels, and how many rows."""

    now_s: float
    frames: dict[str, tuple[int, int, bytes]]  # height, width, RGB


class Written(msgspec.Struct, frozen=True, tag=True):
    """Packets to the servos that were not just questions."""

    packets: list[tuple[float, int, int, bytes]]  # when [s], id, instruction, rest


Question = Look | Draw | History | Spoil | Finish
Answer = Seen | Drawn | Written

_Kind = TypeVar("_Kind")

_questions = msgspec.msgpack.Decoder(Question)
_answers = msgspec.msgpack.Decoder(Answer)


class Control:
    """A connection to an emulator. Safe to share between threads."""

    def __init__(self, folder: Path, timeout_s: float = 5.0) -> None:
        """Connect; raises OSError where no emulator is."""
        self._lock = threading.Lock()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(timeout_s)
        try:
            self._socket.connect(str(folder / SOCKET))
        except BaseException:
            self._socket.close()
            raise

    def ask(self, question: Question) -> Answer:
        """Return the answer; raises OSError if the emulator is gone or does not."""
        with self._lock:
            self._socket.sendall(msgspec.msgpack.encode(question))
            frame = self._socket.recv(LARGEST)
        if not frame:
            raise ConnectionError("the emulator ended")
        answer: Answer = _answers.decode(frame)
        return answer

    def look(self) -> Seen:
        """Return the state."""
        return _expect(self.ask(Look()), Seen)

    def draw(self) -> Drawn:
        """Return the cameras' frames."""
        return _expect(self.ask(Draw()), Drawn)

    def close(self) -> None:
        """Hang up. Idempotent."""
        self._socket.close()


def decode_question(frame: bytes) -> Question:
    """Return the question in a packet; raises msgspec.MsgspecError."""
    question: Question = _questions.decode(frame)
    return question


def packed(frames: dict[str, Image]) -> dict[str, tuple[int, int, bytes]]:
    """Return frames as they travel."""
    return {
        name: (frame.shape[0], frame.shape[1], frame.tobytes())
        for name, frame in frames.items()
    }


def _expect(answer: Answer, kind: type[_Kind]) -> _Kind:
    if not isinstance(answer, kind):
        raise ConnectionError(f"expected {kind.__name__}, got {type(answer).__name__}")
    return answer
