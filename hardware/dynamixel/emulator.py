"""A bus of emulated servos on a pseudo-terminal: what the SDK opens as its port.

A servo is silent at a wrong CRC, at packets for others, and at broadcasts but PING,
SYNC READ and BULK READ. A packet feeds the bus watchdog of those it is meant for: the
manual may mean all who hear it, which would be the milder case.
"""

from __future__ import annotations

from collections.abc import Iterator

from robostack.clock import Clock

from .._pty import Packet, PtyBus
from . import protocol as p
from . import registers as r
from .chain import Chain
from .emulated_servo import ACCESS, OK, EmulatedServo

_UNKNOWN = 2  # error number: no such instruction
_LOAD = 1500.0  # [tick/s^2] what gravity does to every hinge but the first
_START = 60  # [tick] from home
_DEFAULT_MODEL = "XM430-W350"  # of servos whose model is "auto"


class Emulator(PtyBus[EmulatedServo]):
    """X-series servos on a pseudo-terminal."""

    questions = (p.PING, p.READ, p.SYNC_READ, p.BULK_READ)

    def _split(self, buffer: bytearray) -> Iterator[Packet]:
        return p.split(buffer)

    def _obey(self, packet: Packet) -> Iterator[bytes]:
        there = {s.id: s for s in self.servos if s.id not in self.unplugged}
        group = _GROUPS.get(packet.instruction)
        if group is not None:
            yield from group(there, packet.parameters)
            return
        for servo in there.values():
            if packet.servo in (servo.id, p.BROADCAST):
                servo.hear()
                yield from _one(servo, packet)


def _one(servo: EmulatedServo, packet: Packet) -> Iterator[bytes]:
    """Do a packet that is meant for one servo; return what it answers, if it does."""
    number, instruction = servo.id, packet.instruction
    level = r.STATUS_LEVEL.get(servo.memory)
    error, data = _do(servo, packet)
    least = {p.PING: 0, p.READ: 1}.get(instruction, 2)
    spoken_to = packet.servo != p.BROADCAST or instruction == p.PING
    if spoken_to and level >= least:
        yield p.status(number, error | servo.alert, data)


def _do(servo: EmulatedServo, packet: Packet) -> tuple[int, bytes]:
    parameters = packet.parameters
    address, data = int.from_bytes(parameters[:2], "little"), parameters[2:]
    match packet.instruction:
        case p.PING:
            return OK, servo.read(0, 2)[1] + servo.read(r.FIRMWARE.address, 1)[1]
        case p.READ if len(data) == 2:
            return servo.read(address, int.from_bytes(data, "little"))
        case p.WRITE if data:
            return servo.write(address, data), b""
        case p.REG_WRITE if data:
            return servo.register(address, data), b""
        case _:
            return _manage(servo, packet), b""


def _manage(servo: EmulatedServo, packet: Packet) -> int:
    match packet.instruction, list(packet.parameters):
        case p.ACTION, []:
            return servo.act()
        case p.REBOOT, []:
            servo.power_up()
            return OK
        case p.FACTORY_RESET, [option]:
            if packet.servo == p.BROADCAST and option == 0xFF:
                return ACCESS  # firmware 42 and above: not all at once, ids included
            return servo.factory_reset(option)
    return _UNKNOWN


def _sync_read(servos: dict[int, EmulatedServo], parameters: bytes) -> Iterator[bytes]:
    address, size = _words(parameters)
    for number in parameters[4:]:
        if number in servos:
            yield from _tell(servos[number], address, size)


def _sync_write(servos: dict[int, EmulatedServo], parameters: bytes) -> Iterator[bytes]:
    (address, size), rows = _words(parameters), parameters[4:]
    for at in range(0, len(rows) - size, size + 1):
        if rows[at] in servos:
            servos[rows[at]].hear()
            servos[rows[at]].write(address, rows[at + 1 : at + 1 + size])
    yield from ()


def _bulk_read(servos: dict[int, EmulatedServo], parameters: bytes) -> Iterator[bytes]:
    for at in range(0, len(parameters) - 4, 5):
        if parameters[at] in servos:
            address, size = _words(parameters[at + 1 :])
            yield from _tell(servos[parameters[at]], address, size)


def _bulk_write(servos: dict[int, EmulatedServo], parameters: bytes) -> Iterator[bytes]:
    at = 0
    while at + 5 < len(parameters):
        address, size = _words(parameters[at + 1 :])
        if parameters[at] in servos:
            servos[parameters[at]].hear()
            servos[parameters[at]].write(address, parameters[at + 5 : at + 5 + size])
        at += 5 + size
    yield from ()


def _tell(servo: EmulatedServo, address: int, size: int) -> Iterator[bytes]:
    servo.hear()
    error, data = servo.read(address, size)
    if r.STATUS_LEVEL.get(servo.memory) >= 1:
        yield p.status(servo.id, error | servo.alert, data)


def _words(parameters: bytes) -> tuple[int, int]:
    """Return address and size."""
    return (
        int.from_bytes(parameters[:2], "little"),
        int.from_bytes(parameters[2:4], "little"),
    )


_GROUPS = {
    p.SYNC_READ: _sync_read,
    p.SYNC_WRITE: _sync_write,
    p.BULK_READ: _bulk_read,
    p.BULK_WRITE: _bulk_write,
}


def emulate(chain: Chain, clock: Clock | None = None) -> Emulator:
    """Return the servos of a chain file, set up to the letter, near home and limp."""
    home = chain.ticks([joint.home for joint in chain.joints.values()]).tolist()
    servos = []
    for i, (joint, tick) in enumerate(zip(chain.joints.values(), home, strict=True)):
        low, high = joint.ends
        servo = EmulatedServo(
            joint.id,
            float(min(max(tick + _START, low), high)),
            _LOAD if i and not joint.metres_per_turn else 0.0,
            (float(low), float(high)),
            r.BY_NAME.get(joint.model, r.BY_NAME[_DEFAULT_MODEL]).number,
        )
        servo.configure(r.OPERATING_MODE, joint.mode)
        servo.configure(r.HOMING_OFFSET, joint.homing_offset)
        servos.append(servo)
    return Emulator(servos, clock)
