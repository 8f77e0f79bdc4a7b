"""A bus of emulated servos on a pseudo-terminal: what the SDK opens as its port.

A servo is silent at a wrong CRC, at packets for others, and at broadcasts but PING,
SYNC READ and BULK READ. A packet feeds the bus watchdog of those it is meant for: the
manual may mean all who hear it, which would be the milder case.

Faults are switched on by setting attributes; they are taken off the same way.
"""

from __future__ import annotations

import os
import select
import threading
import time
import tty
from collections.abc import Iterator, Sequence

from robostack.clock import Clock, MonotonicClock

from . import protocol as p
from . import registers as r
from .chain import Chain
from .emulated_servo import ACCESS, OK, EmulatedServo
from .protocol import Packet

_LOOK_S = 0.01  # how often servos move on while nobody talks
_UNKNOWN = 2  # error number: no such instruction
_LOAD = 1500.0  # [tick/s^2] what gravity does to every hinge but the first
_START = 60  # [tick] from home
_DEFAULT_MODEL = "XM430-W350"  # of servos whose model is "auto"


class Emulator:
    """Servos on a pseudo-terminal, served by a thread of this process."""

    def __init__(
        self, servos: Sequence[EmulatedServo], clock: Clock | None = None
    ) -> None:
        """Open a pseudo-terminal and answer on it until `close`."""
        self.servos = list(servos)
        self.corrupt = 0  # fault: so many status packets to come have a wrong CRC
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
            for packet in p.split(self._buffer)
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
        if packet.instruction not in (p.PING, p.READ, p.SYNC_READ, p.BULK_READ):
            self.written.append(packet)
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


def _receive(master: int) -> bytes:
    try:
        return os.read(master, 4096)
    except (BlockingIOError, OSError):
        return b""


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
