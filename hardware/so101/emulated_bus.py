"""A bus of emulated servos on a pseudo-terminal: what the SDK opens as its port.

What moves the servos is given to it: by default each moves alone, as numbers have it;
the process in emulator.py gives it a MuJoCo world.

    FF FF  id  length  instruction  parameter ...  checksum      to the servos
    FF FF  id  length  error bits   parameter ...  checksum      from one of them

`length` counts from the byte after it to the checksum, which is the complement of the
sum of all between header and itself. A servo is silent at a wrong checksum, at an
instruction it does not know, and at broadcasts but SYNC_READ.

Faults are switched on by setting attributes; they are taken off the same way.
"""

from __future__ import annotations

import math
import os
import select
import threading
import time
import tty
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from robostack.clock import Clock, MonotonicClock

from . import arm, calibration
from .emulated_servo import STEP_S, EmulatedServo

PING, READ, WRITE, REG_WRITE, ACTION, SYNC_READ, SYNC_WRITE = 1, 2, 3, 4, 5, 0x82, 0x83
BROADCAST = 0xFE
_HEADER = b"\xff\xff"
_LOOK_MS = 10  # how often servos move on while nobody talks
_LONGEST_S = 5.0  # of a silence that is simulated step by step
_REMEMBERED = 100_000  # packets
_LOADS = (0.0, 1500.0, 1500.0, 500.0, 0.0, 0.0)  # [tick/s^2] what gravity does
_START = (0.1, 0.1, -0.1, -0.1, 0.1, 0.1)  # [rad] from home

Mechanics = Callable[[Sequence[EmulatedServo], float], None]  # advance by so long [s]


class Packet(NamedTuple):
    """An instruction packet."""

    servo: int
    instruction: int
    parameters: bytes


def checksum(body: bytes) -> int:
    """Return the checksum of a packet's bytes between header and checksum."""
    return ~sum(body) & 0xFF


def status(servo: int, errors: int, data: bytes = b"") -> bytes:
    """Return a status packet."""
    body = bytes((servo, len(data) + 2, errors)) + data
    return _HEADER + body + bytes((checksum(body),))


def split(buffer: bytearray) -> Iterator[Packet]:
    """Take all whole packets with a right checksum out of `buffer`."""
    while (start := buffer.find(_HEADER)) >= 0:
        del buffer[:start]
        if len(buffer) < 4:
            return
        if buffer[2] == 0xFF or buffer[3] < 2:  # no id, no length: look further on
            del buffer[0]
            continue
        end = buffer[3] + 4
        if len(buffer) < end:
            return
        body, check = bytes(buffer[2 : end - 1]), buffer[end - 1]
        if checksum(body) != check:
            del buffer[:2]
            continue
        del buffer[:end]
        yield Packet(body[0], body[2], body[3:])


def alone(servos: Sequence[EmulatedServo], seconds: float) -> None:
    """Move each servo as if it were the only one."""
    for servo in servos:
        servo.advance(seconds)


class Emulator:
    """Servos on a pseudo-terminal, served by a thread of this process."""

    def __init__(
        self,
        servos: Sequence[EmulatedServo],
        clock: Clock | None = None,
        mechanics: Mechanics = alone,
        portion_s: float = _LONGEST_S,
    ) -> None:
        """Open a pseudo-terminal and answer on it until `close`.

        Args:
            servos: on the bus.
            clock: by which they move.
            mechanics: moves them.
            portion_s: of their time at most between two looks at the bus, so that
                servos which are behind the clock do not keep it waiting.
        """
        self.servos = list(servos)
        self.corrupt = 0  # fault: so many status packets to come have a wrong checksum
        self.lost = 0  # fault: so many status packets to come do not come
        self.latency_s = 0.0  # fault: every status packet comes so late
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

    def __enter__(self) -> Emulator:
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
            answers = self._answers() if self._powered else b""
        if answers:
            self._send(answers)

    def _answers(self) -> bytes:
        return b"".join(
            self._spoil(answer)
            for packet in split(self._buffer)
            for answer in self._obey(packet)
        )

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

    def _note(self, packet: Packet) -> None:
        if len(self.written) >= _REMEMBERED:
            del self.written[: _REMEMBERED // 2], self.written_s[: _REMEMBERED // 2]
        self.written.append(packet)
        self.written_s.append(self._clock.now())

    def _obey(self, packet: Packet) -> Iterator[bytes]:
        """Do what a packet says; return what comes back."""
        if packet.instruction not in (PING, READ, SYNC_READ):
            self._note(packet)
        there = [s for s in self.servos if s.id not in self.unplugged]
        group = {SYNC_READ: _sync_read, SYNC_WRITE: _sync_write}.get(packet.instruction)
        if group is not None:
            yield from group(there, packet.parameters)
            return
        for servo in there:
            if packet.servo in (servo.id, BROADCAST):
                answer = _one(servo, packet)
                if answer is not None and packet.servo != BROADCAST:
                    yield status(servo.id, servo.errors, answer)


def _one(servo: EmulatedServo, packet: Packet) -> bytes | None:
    """Do a packet that is meant for one servo; return what it answers, if it does."""
    instruction, parameters = packet.instruction, packet.parameters
    if instruction == PING:
        return b""
    if instruction == READ and len(parameters) == 2:
        return servo.read(parameters[0], parameters[1])
    if instruction == WRITE and parameters:
        servo.write(parameters[0], parameters[1:])
        return b""
    if instruction == REG_WRITE and parameters:
        servo.queued = parameters[0], parameters[1:]
        return b""
    if instruction == ACTION:
        queued, servo.queued = servo.queued, None
        if queued is not None:
            servo.write(*queued)
        return b""
    return None


def _sync_read(servos: list[EmulatedServo], parameters: bytes) -> Iterator[bytes]:
    if len(parameters) < 2:
        return
    address, size, *ids = parameters
    by_id = {servo.id: servo for servo in servos}
    for one in ids:
        if one in by_id:
            data = by_id[one].read(address, size)
            yield status(one, by_id[one].errors, data)


def _sync_write(servos: list[EmulatedServo], parameters: bytes) -> Iterator[bytes]:
    if len(parameters) >= 2:
        address, size, rows = parameters[0], parameters[1], parameters[2:]
        by_id = {servo.id: servo for servo in servos}
        for at in range(0, len(rows) - size, size + 1):
            if rows[at] in by_id:
                by_id[rows[at]].write(address, rows[at + 1 : at + 1 + size])
    yield from ()


def _receive(master: int) -> bytes:
    try:
        return os.read(master, 4096)
    except (BlockingIOError, OSError):
        return b""


def so101(clock: Clock | None = None) -> Emulator:
    """Return an emulated arm without a world, near home and limp."""
    start = [h + d for h, d in zip(arm.HOME, _START, strict=True)]
    return Emulator(servos_at(start, _LOADS), clock)


def servos_at(
    angles: Sequence[float], loads: Sequence[float] = (0.0,) * 6
) -> list[EmulatedServo]:
    """Return the servos of an arm calibrated to the letter, at `angles` (6,) [rad]."""
    nominal = calibration.nominal()
    joints = nominal.joints.values()
    return [
        EmulatedServo(joint.id, float(place), load, (joint.low, joint.high))
        for joint, place, load in zip(joints, places(angles), loads, strict=True)
    ]


def places(angles: Sequence[float]) -> list[float]:
    """Return where the shafts are [tick] at `angles` (6,) [rad], not rounded."""
    joints = calibration.nominal().joints.values()
    return [
        joint.zero + joint.sign * angle / calibration.RADIANS_PER_TICK
        for joint, angle in zip(joints, angles, strict=True)
    ]
