"""An X-series servo that is not there: its control table, its rules, how it moves.

In ticks, as the servo itself works. The goal is approached by a profile of bounded
speed and acceleration (the registers'), which the shaft follows as a spring. Where the
manual leaves a question open we take the worse case: a cleared bus watchdog goes on to
the old goal.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from .._shaft import QUICKEST, STEP_S, Shaft
from . import registers as r

FIRMWARE = 46
NOMINAL_VOLTAGE = 120  # [0.1 V]
OK, FAILED, RANGE, LENGTH, LIMIT, ACCESS = 0, 1, 4, 5, 6, 7  # error numbers
_TICKS = r.TICKS_PER_TURN / (2 * math.pi)  # per radian
_FASTEST = 4000.0  # [tick/s]
_LONGEST_S = 5.0  # of a silence that is simulated step by step

_WRITABLE = {
    register.address: register
    for register in (
        *(r.ID, r.BAUD, r.RETURN_DELAY, r.DRIVE_MODE, r.OPERATING_MODE, r.SHADOW_ID),
        *(r.HOMING_OFFSET, r.MAX_TEMPERATURE, r.MAX_VOLTAGE, r.MIN_VOLTAGE),
        *(r.PWM_LIMIT, r.CURRENT_LIMIT, r.VELOCITY_LIMIT, r.MAX_POSITION),
        *(r.MIN_POSITION, r.STARTUP, r.SHUTDOWN),
        *(r.TORQUE_ENABLE, r.STATUS_LEVEL, r.BUS_WATCHDOG, r.GOAL_PWM),
        *(r.GOAL_CURRENT, r.GOAL_VELOCITY, r.PROFILE_ACCELERATION),
        *(r.PROFILE_VELOCITY, r.GOAL_POSITION),
    )
}
_GOALS = (r.GOAL_PWM, r.GOAL_CURRENT, r.GOAL_VELOCITY, r.GOAL_POSITION)
_FACTORY = (
    (r.FIRMWARE, FIRMWARE),
    (r.BAUD, 1),
    (r.RETURN_DELAY, 250),
    (r.OPERATING_MODE, r.POSITION_MODE),
    (r.SHADOW_ID, 255),
    (r.MAX_TEMPERATURE, 80),
    (r.MAX_VOLTAGE, 160),
    (r.MIN_VOLTAGE, 60),
    (r.PWM_LIMIT, r.PWM_FULL),
    (r.CURRENT_LIMIT, 1193),
    (r.VELOCITY_LIMIT, 200),
    (r.MAX_POSITION, r.TICKS_PER_TURN - 1),
    (r.SHUTDOWN, 0x34),
    (r.ID, 1),
)


class _Orders(NamedTuple):
    goal: int | None  # [tick]; None: brake
    speed: float  # [tick/s]
    quick: float  # [tick/s^2]
    strength: float  # 0 to 1


def _pieces(address: int, data: bytes) -> list[tuple[r.Register, int]] | int:
    """Return which values `data` holds for which registers, or an error number."""
    found, at = list[tuple[r.Register, int]](), 0
    while at < len(data):
        register = _WRITABLE.get(address + at)
        if register is None:
            return ACCESS
        if at + register.size > len(data):
            return LENGTH
        found.append((register, register.get(data[at:], register.address)))
        at += register.size
    return found


class EmulatedServo(Shaft):
    """One servo. Power it, talk to its memory, let time pass."""

    def __init__(
        self,
        servo: int,
        position: float,
        load: float = 0.0,
        stops: tuple[float, float] = (0.0, r.TICKS_PER_TURN - 1.0),
        model: int = 1030,
    ) -> None:
        """Stand still at `position` [tick] between `stops`, under `load` [tick/s^2]."""
        super().__init__(position, load, stops)
        self.temperature = 32  # [C]
        self.stuck_errors = 0  # hardware error bits that return whatever one does
        self.queued: tuple[int, bytes] | None = None  # REG_WRITE waiting for ACTION
        self._silence_s = 0.0
        self.memory = bytearray(r.SIZE)
        self._kept = bytearray(r.EEPROM_END)
        for register, value in ((r.MODEL, model), *_FACTORY, (r.ID, servo)):
            self._kept[register.address : register.end] = register.pack(value)
        self.power_up()

    def power_up(self) -> None:
        """Forget everything that is not in the EEPROM: torque is off."""
        self.memory[:] = self._kept.ljust(r.SIZE, b"\0")
        self._put(r.STATUS_LEVEL, 2)
        self._put(r.GOAL_PWM, self._get(r.PWM_LIMIT))
        self._put(r.GOAL_CURRENT, self._get(r.CURRENT_LIMIT))
        self._put(r.GOAL_POSITION, round(self.position))
        self.queued, self._silence_s = None, 0.0

    def power_down(self) -> None:
        """Go limp; nothing is remembered."""
        self.memory[:] = bytes(r.SIZE)
        self.queued = None

    def factory_reset(self, option: int) -> int:
        """Forget the EEPROM, but for the id (1, 2) and the baud rate (2)."""
        if option not in (1, 2, 0xFF):
            return RANGE
        for register, value in _FACTORY:
            kept = {1: (r.ID,), 2: (r.ID, r.BAUD)}.get(option, ())
            if register not in kept:
                self._kept[register.address : register.end] = register.pack(value)
        self.power_up()
        return OK

    def configure(self, register: r.Register, value: int) -> None:
        """Write into the EEPROM, as a person does before the arm is used."""
        self._kept[register.address : register.end] = register.pack(value)
        self._put(register, value)

    @property
    def id(self) -> int:
        """What it answers to."""
        return self._get(r.ID)

    @property
    def torque(self) -> bool:
        """Whether it drives."""
        return self._get(r.TORQUE_ENABLE) == 1

    @property
    def alert(self) -> int:
        """The bit that every status packet has while there is a hardware error."""
        return r.ALERT if self._get(r.HARDWARE_ERROR) else 0

    @property
    def tripped(self) -> bool:
        """Whether the bus watchdog stopped it."""
        return self._get(r.BUS_WATCHDOG) > r.WATCHDOG_LAST

    def hear(self) -> None:
        """Take notice of a packet: it feeds the bus watchdog."""
        self._silence_s = 0.0

    def read(self, address: int, size: int) -> tuple[int, bytes]:
        """Return an error number and a piece of memory."""
        if address + size > r.SIZE:
            return ACCESS, b""
        self._sense()
        return OK, bytes(self.memory[address : address + size])

    def write(self, address: int, data: bytes) -> int:
        """Write all of `data` or nothing; return an error number."""
        pieces = _pieces(address, data)
        if isinstance(pieces, int):
            return pieces
        for register, value in pieces:
            if error := self._objection(register, value):
                return error
        for register, value in pieces:
            self._put(register, value)
            if register.end <= r.EEPROM_END:
                self._kept[register.address : register.end] = register.pack(value)
            if register == r.TORQUE_ENABLE:
                self._rest()
        return OK

    def register(self, address: int, data: bytes) -> int:
        """Keep a write until `act`."""
        self.queued = address, data
        self._put(r.REGISTERED, 1)
        return OK

    def act(self) -> int:
        """Do the write that waits."""
        queued, self.queued = self.queued, None
        self._put(r.REGISTERED, 0)
        return self.write(*queued) if queued is not None else 2

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._protect()
        orders, left_s = self._orders(), self._patience_s()
        for _ in range(round(min(seconds, _LONGEST_S) / STEP_S)):
            self._silence_s += STEP_S
            if self._silence_s > left_s:
                self._put(r.BUS_WATCHDOG, r.WATCHDOG_TRIPPED)
                orders, left_s = self._orders(), math.inf
            self._step(STEP_S, orders)

    def _objection(self, register: r.Register, value: int) -> int:
        """Return why `value` cannot be written now: an error number, or OK."""
        if register.end <= r.EEPROM_END and self.torque:
            return ACCESS
        if register in _GOALS and self.tripped:
            return RANGE
        if register == r.TORQUE_ENABLE and value and self._shut:
            return FAILED
        low, high, error = self._range(register)
        return OK if low <= value <= high else error

    def _range(self, register: r.Register) -> tuple[int, int, int]:
        if register == r.GOAL_POSITION:
            return self._get(r.MIN_POSITION), self._get(r.MAX_POSITION), LIMIT
        limits = {r.GOAL_PWM: r.PWM_LIMIT, r.GOAL_CURRENT: r.CURRENT_LIMIT}
        if register in limits:
            most = self._get(limits[register])
            return -most, most, LIMIT
        most = {
            r.TORQUE_ENABLE: 1,
            r.STATUS_LEVEL: 2,
            r.BUS_WATCHDOG: r.WATCHDOG_LAST,
            r.PROFILE_VELOCITY: 32767,
            r.PROFILE_ACCELERATION: 32767,
        }.get(register, 2**31)
        return -most if register.signed else 0, most, RANGE

    @property
    def _shut(self) -> bool:
        return bool(self._get(r.HARDWARE_ERROR) & self._get(r.SHUTDOWN))

    def _patience_s(self) -> float:
        """Return after how much silence [s] the bus watchdog trips."""
        patience = self._get(r.BUS_WATCHDOG)
        on = self.torque and 0 < patience <= r.WATCHDOG_LAST
        return patience * r.WATCHDOG_UNIT_S if on else math.inf

    def _protect(self) -> None:
        """Latch hardware errors, and take the torque off for those of SHUTDOWN."""
        hot = self.temperature > self._get(r.MAX_TEMPERATURE) > 0
        bits = self.stuck_errors | (r.OVERHEATED if hot else 0)
        self._put(r.HARDWARE_ERROR, self._get(r.HARDWARE_ERROR) | bits)
        if self._shut:
            self._put(r.TORQUE_ENABLE, 0)

    def _orders(self) -> _Orders | None:
        """Return what drives the shaft; None without torque."""
        if not self.torque:
            return None
        speed = self._get(r.PROFILE_VELOCITY) * r.VELOCITY_UNIT * _TICKS
        quick = self._get(r.PROFILE_ACCELERATION) * r.ACCELERATION_UNIT * _TICKS
        return _Orders(
            None if self.tripped else self._get(r.GOAL_POSITION),
            min(speed or _FASTEST, _FASTEST),
            quick or QUICKEST,
            abs(self._get(r.GOAL_PWM)) / r.PWM_FULL,
        )

    def _step(self, h: float, orders: _Orders | None) -> None:
        if orders is None:
            self._rest()
            self._turn(h, None)
            return
        gap = 0.0 if orders.goal is None else orders.goal - self._profile
        self._follow(h, gap, orders.speed, orders.quick)
        self._turn(h, orders.strength)

    def _sense(self) -> None:
        self._protect()
        for register, value in (
            (r.PRESENT_POSITION, round(self.position)),
            (r.PRESENT_VELOCITY, round(self.velocity / _TICKS / r.VELOCITY_UNIT)),
            (r.PRESENT_VOLTAGE, NOMINAL_VOLTAGE),
            (r.PRESENT_TEMPERATURE, self.temperature),
            (r.MOVING, int(abs(self.velocity) > 1.0)),
        ):
            self._put(register, value)

    def _get(self, register: r.Register) -> int:
        return register.get(self.memory)

    def _put(self, register: r.Register, value: int) -> None:
        self.memory[register.address : register.end] = register.pack(value)
