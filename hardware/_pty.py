"""A bus of emulated servos on a pseudo-terminal: what an SDK opens as its port.

    thread:  wait for bytes, not long -> move the servos to now -> obey -> answer

A subclass knows the protocol. Faults are switched on by setting attributes; they are
taken off the same way.
"""

from __future__ import annotations

import math
import os
import select
import threading
import time
import tty
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar, Generic, NamedTuple, Protocol, Self, TypeVar

from robostack.clock import Clock, MonotonicClock

from ._shaft import STEP_S

_LOOK_MS = 10  # how often servos move on while nobody talks
_LONGEST_S = 5.0  # of a silence that is simulated step by step
_REMEMBERED = 100_000  # packets


class Packet(NamedTuple):
    """An instruction packet."""

    servo: int
    instruction: int
    parameters: bytes


class Servo(Protocol):
    """What the bus itself knows of a servo."""

    def power_up(self) -> None:
        """Get power."""

    def power_down(self) -> None:
        """Lose it."""

    def advance(self, seconds: float) -> None:
        """Let time pass, as if it were the only one."""


AnyServo = TypeVar("AnyServo", bound=Servo)


def alone(servos: Sequence[Servo], seconds: float) -> None:
    """Move each servo as if it were the only one."""
    for servo in servos:
        servo.advance(seconds)


class PtyBus(ABC, Generic[AnyServo]):
    """Servos on a pseudo-terminal, served by a thread of this process."""

    questions: ClassVar[tuple[int, ...]]  # instructions that change nothing

    def __init__(
        self,
        servos: Sequence[AnyServo],
        clock: Clock | None = None,
        mechanics: Callable[[Sequence[AnyServo], float], None] = alone,
        portion_s: float = _LONGEST_S,
    ) -> None:
        """Open a pseudo-terminal and answer on it until `close`.

        Args:
            servos: on the bus.
            clock: by which they move.
            mechanics: moves them by so long [s].
            portion_s: of their time at most between two looks at the bus, so that
                servos which are behind the clock do not keep it waiting.
        """
        self.servos = list(servos)
        self.corrupt = 0  # fault: so many answers to come have a wrong checksum
        self.lost = 0  # fault: so many answers to come do not come
        self.latency_s = 0.0  # fault: every answer comes so late
        self.unplugged: set[int] = set()  # fault: ids without a plug; they keep power
        self.replays = False  # fault: the adapter keeps what comes without power
        self.written: list[Packet] = []  # all that was not just a question
        self.written_s: list[float] = []  # when, by the clock
        self.used_s = -math.inf  # when somebody last had it open, monotonic
        self._clock = clock or MonotonicClock()
        self._mechanics = mechanics
        self._portion_s = portion_s
        self._stamp_s = self._clock.now()
        self._powered = True
        self._buffer = bytearray()
        self.lock = threading.RLock()  # for whoever looks at servos from outside
        self._master, slave = os.openpty()
        tty.setraw(slave)
        self.path = os.ttyname(slave)
        os.close(slave)  # so that one sees whether anybody has it open
        os.set_blocking(self._master, False)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """End the thread and the terminal. Idempotent."""
        if self._over.is_set():
            return
        self._over.set()
        self._thread.join()
        os.close(self._master)

    def power(self, *, on: bool) -> None:
        """Switch the servos' supply; the adapter lives on the USB's."""
        with self.lock:
            self._advance()
            self._powered = on
            for servo in self.servos:
                servo.power_up() if on else servo.power_down()

    def settle(self) -> None:
        """Let the servos catch up with the clock."""
        with self.lock:
            self._advance()

    @abstractmethod
    def _split(self, buffer: bytearray) -> Iterator[Packet]:
        """Take all whole packets with a right checksum out of `buffer`."""

    @abstractmethod
    def _obey(self, packet: Packet) -> Iterator[bytes]:
        """Do what a packet says; return what comes back."""

    def _serve(self) -> None:
        poll = select.poll()
        poll.register(self._master, select.POLLIN)
        while not self._over.is_set():
            events = dict(poll.poll(_LOOK_MS)).get(self._master, 0)
            if events & select.POLLHUP:
                time.sleep(_LOOK_MS / 1000)  # nobody has it open: poll does not wait
            else:
                self.used_s = time.monotonic()
            self._attend(heard=bool(events & select.POLLIN))

    def _attend(self, *, heard: bool) -> None:
        with self.lock:
            self._advance()
            if heard:
                self._buffer += _receive(self._master)
            if not self._powered and not self.replays:
                self._buffer.clear()
            answers = b"".join(self._answers()) if self._powered else b""
        if answers:
            self._send(answers)

    def _answers(self) -> Iterator[bytes]:
        for packet in self._split(self._buffer):
            if packet.instruction not in self.questions:
                self._note(packet)
            yield from map(self._spoil, self._obey(packet))

    def _note(self, packet: Packet) -> None:
        if len(self.written) >= _REMEMBERED:
            del self.written[: _REMEMBERED // 2], self.written_s[: _REMEMBERED // 2]
        self.written.append(packet)
        self.written_s.append(self._clock.now())

    def _spoil(self, answer: bytes) -> bytes:
        if self.lost:
            self.lost -= 1
            return b""
        if self.corrupt:
            self.corrupt -= 1
            return answer[:-1] + bytes((answer[-1] ^ 0x55,))
        return answer

    def _send(self, answers: bytes) -> None:
        if self.latency_s:
            time.sleep(self.latency_s)
        try:
            os.write(self._master, answers)
        except OSError:
            return  # nobody listens: as on a wire

    def _advance(self) -> None:
        passed_s = self._clock.now() - self._stamp_s
        if passed_s >= STEP_S * (1 - 1e-6):
            whole_s = int(passed_s / STEP_S + 1e-6) * STEP_S
            part_s = min(whole_s, self._portion_s)
            self._stamp_s += max(part_s, whole_s - _LONGEST_S)  # the rest comes later
            self._mechanics(self.servos, part_s)


def _receive(master: int) -> bytes:
    try:
        return os.read(master, 4096)
    except (BlockingIOError, OSError):
        return b""
