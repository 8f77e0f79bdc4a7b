"""A bus of emulated servos on a pseudo-terminal: what the SDK opens as its port.

What moves the servos is given to it: by default each moves alone, as numbers have it;
the process in emulator.py gives it a MuJoCo world.

    FF FF  id  length  instruction  parameter ...  checksum      to the servos
    FF FF  id  length  error bits   parameter ...  checksum      from one of them

`length` counts from the byte after it to the checksum, which is the complement of the
sum of all between header and itself. A servo is silent at a wrong checksum, at an
instruction it does not know, and at broadcasts but SYNC_READ.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from robostack.clock import Clock

from .._pty import Packet, PtyBus
from . import arm, calibration
from .emulated_servo import EmulatedServo

PING, READ, WRITE, REG_WRITE, ACTION, SYNC_READ, SYNC_WRITE = 1, 2, 3, 4, 5, 0x82, 0x83
BROADCAST = 0xFE
_HEADER = b"\xff\xff"
_LOADS = (0.0, 1500.0, 1500.0, 500.0, 0.0, 0.0)  # [tick/s^2] what gravity does
_START = (0.1, 0.1, -0.1, -0.1, 0.1, 0.1)  # [rad] from home


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


class Emulator(PtyBus[EmulatedServo]):
    """STS3215 servos on a pseudo-terminal."""

    questions = (PING, READ, SYNC_READ)

    def _split(self, buffer: bytearray) -> Iterator[Packet]:
        return split(buffer)

    def _obey(self, packet: Packet) -> Iterator[bytes]:
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
