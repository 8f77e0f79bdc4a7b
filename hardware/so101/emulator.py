"""A bus of emulated servos on a pseudo-terminal: what the SDK opens as its port.

    FF FF  id  length  instruction  parameter ...  checksum      to the servos
    FF FF  id  length  error bits   parameter ...  checksum      from one of them

`length` counts from the byte after it to the checksum, which is the complement of the
sum of all between header and itself. A servo is silent at a wrong checksum, at an
instruction it does not know, and at broadcasts but SYNC_READ.

Faults are switched on by setting attributes; they are taken off the same way.
"""

from __future__ import annotations

import os
import select
import threading
import time
import tty
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from robostack.clock import Clock, MonotonicClock
from robostack.spec import float32

from . import arm, calibration
from .emulated_servo import EmulatedServo

PING, READ, WRITE, REG_WRITE, ACTION, SYNC_READ, SYNC_WRITE = 1, 2, 3, 4, 5, 0x82, 0x83
BROADCAST = 0xFE
_HEADER = b"\xff\xff"
_LOOK_S = 0.01  # how often servos move on while nobody talks
_LOADS = (0.0, 1500.0, 1500.0, 500.0, 0.0, 0.0)  # [tick/s^2] what gravity does
_START = (0.1, 0.1, -0.1, -0.1, 0.1, 0.1)  # [rad] from home


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


class Emulator:
    """Servos on a pseudo-terminal, served by a thread of this process."""

    def __init__(
        self, servos: Sequence[EmulatedServo], clock: Clock | None = None
    ) -> None:
        """Open a pseudo-terminal and answer on it until `close`."""
        self.servos = list(servos)
        self.corrupt = 0  # fault: so many status packets to come have a wrong checksum
        self.lost = 0  # fault: so many status packets to come do not come
        self.latency_s = 0.0  # fault: every status packet comes so late
        self.unplugged: set[int] = set()  # fault: ids without a plug; they keep power
        self.replays = False  # fault: the adapter keeps what comes without power
        self.written: list[Packet] = []  # all that was not just a question
        self._clock = clock or MonotonicClock()
        self._stamp_s = self._clock.now()
        self._powered = True
        self._buffer = bytearray()
        self._lock = threading.RLock()
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.path = os.ttyname(self._slave)
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
        os.close(self._slave)

    def power(self, *, on: bool) -> None:
        """Switch the servos' supply; the adapter lives on the USB's."""
        with self._lock:
            self._advance()
            self._powered = on
            for servo in self.servos:
                servo.power_up() if on else servo.power_down()

    def settle(self) -> None:
        """Let the servos catch up with the clock."""
        with self._lock:
            self._advance()

    def _serve(self) -> None:
        while not self._over.is_set():
            ready, _, _ = select.select([self._master], [], [], _LOOK_S)
            with self._lock:
                self._advance()
                if ready:
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
        except BlockingIOError:
            return  # nobody listens: as on a wire

    def _advance(self) -> None:
        now_s = self._clock.now()
        whole_s = now_s - self._stamp_s
        if whole_s >= 0.0025:
            self._stamp_s = now_s
            for servo in self.servos:
                servo.advance(whole_s)

    def _obey(self, packet: Packet) -> Iterator[bytes]:
        """Do what a packet says; return what comes back."""
        if packet.instruction not in (PING, READ, SYNC_READ):
            self.written.append(packet)
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
    """Return an emulated arm, calibrated to the letter, near home and limp."""
    nominal = calibration.nominal()
    start = [h + d for h, d in zip(arm.HOME, _START, strict=True)]
    places = nominal.ticks(float32(start)).tolist()
    joints = zip(nominal.joints.values(), places, _LOADS, strict=True)
    servos = [
        EmulatedServo(joint.id, float(place), load, (joint.low, joint.high))
        for joint, place, load in joints
    ]
    return Emulator(servos, clock)
