"""An STS3215 that is not there: its memory, its rules, and how it moves.

In ticks, as the servo itself works. The goal is approached by a profile of bounded
speed and acceleration (the registers'): `drive`. What the shaft makes of that is told
by a world (`feel`); or, where there is none, by a spring: `advance`.
"""

from __future__ import annotations

from typing import NamedTuple

from .._shaft import QUICKEST, STEP_S, Shaft
from . import registers as r

NOMINAL_VOLTAGE = 74  # [0.1 V]
_FASTEST = 3400  # [tick/s]
_AMBIENT_C = 30.0
_HEAT_C = 25.0  # above ambient after long full effort
_HEAT_S = 180.0  # time constant
_SAG = 6.0  # [0.1 V] less at full effort

_OVERHEAT, _OVERLOAD = 0x04, 0x20


class Drive(NamedTuple):
    """What the electronics make the motor do."""

    target: float  # [tick]
    strength: float  # 0 (no torque) to 1


class EmulatedServo(Shaft):
    """One servo. Power it, talk to its memory, let time pass."""

    def __init__(
        self,
        servo: int,
        position: float,
        load: float = 0.0,
        stops: tuple[float, float] = (0.0, r.TICKS_PER_TURN - 1.0),
    ) -> None:
        """Stand still at `position` [tick] between `stops`, under `load` [tick/s^2]."""
        super().__init__(position, load, stops)
        self.temperature = 32  # [C]
        self.effort = 0.0  # -1 to 1, of all its force
        self.stuck_errors = 0  # error bits that it says it has, whatever else
        self.queued: tuple[int, bytes] | None = None  # REG_WRITE waiting for ACTION
        self._heat_c = self.temperature - _AMBIENT_C
        self._kept = bytearray(r.SIZE)  # the EEPROM
        self.memory = bytearray(r.SIZE)
        for register, value in (
            (r.FIRMWARE_MAJOR, 3),
            (r.FIRMWARE_MINOR, 10),
            (r.MODEL, r.MODEL_STS3215),
            (r.ID, servo),
            (r.STATUS_LEVEL, 1),
            (r.MAX_POSITION, r.TICKS_PER_TURN - 1),
            (r.MAX_TEMPERATURE, 70),
            (r.MAX_VOLTAGE, 80),
            (r.MIN_VOLTAGE, 40),
            (r.MAX_TORQUE, 1000),
        ):
            self._put(self._kept, register, value)
        self.power_up()

    def power_up(self) -> None:
        """Forget everything that is not in the EEPROM: torque is off."""
        self.memory[:] = self._kept
        self._put(self.memory, r.TORQUE_LIMIT, r.MAX_TORQUE.get(self._kept))
        self._put(self.memory, r.LOCK, 1)
        self.queued = None
        self._sense()

    def power_down(self) -> None:
        """Go limp; nothing is remembered."""
        self.memory[:] = bytes(r.SIZE)
        self.queued = None

    @property
    def id(self) -> int:
        """What it answers to."""
        return r.ID.get(self.memory)

    @property
    def errors(self) -> int:
        """Error bits, as in every status packet."""
        hot = self.temperature > r.MAX_TEMPERATURE.get(self.memory)
        return self.stuck_errors | (_OVERHEAT if hot else 0)

    @property
    def torque(self) -> bool:
        """Whether it drives."""
        return r.TORQUE_ENABLE.get(self.memory) == 1

    def read(self, address: int, size: int) -> bytes:
        """Return a piece of memory; zeros beyond its end."""
        self._sense()
        return bytes(self.memory[address : address + size]).ljust(size, b"\0")

    def write(self, address: int, data: bytes) -> None:
        """Write where one may; EEPROM cells last only while LOCK is 0."""
        unlocked = r.LOCK.get(self.memory) == 0
        for at, byte in enumerate(data, address):
            if at >= r.SIZE or any(at in cells for cells in r.READ_ONLY):
                continue
            self.memory[at] = byte
            if at < r.EEPROM_END and unlocked:
                self._kept[at] = byte
        touched = range(address, address + len(data))
        if r.GOAL_POSITION.address in touched:  # the firmware's own idea
            self._put(self.memory, r.TORQUE_ENABLE, 1)

    def drive(self, h: float) -> Drive:
        """Let `h` [s] pass in the electronics; return what the motor is made to do."""
        if self.stuck_errors & _OVERLOAD:
            self._put(self.memory, r.TORQUE_ENABLE, 0)  # it protects itself
        if not self.torque:
            self._rest()
            return Drive(self.position, 0.0)
        self._pursue(h)
        return Drive(self._profile, min(1.0, r.TORQUE_LIMIT.get(self.memory) / 1000))

    def feel(self, position: float, velocity: float, effort: float, h: float) -> None:
        """Be told by a world where the shaft is after `h` [s], and its effort."""
        self.position, self.velocity, self.effort = position, velocity, effort
        before = round(self._heat_c)
        self._heat_c += h / _HEAT_S * (_HEAT_C * effort * effort - self._heat_c)
        self.temperature += round(self._heat_c) - before  # a fault may have set it

    def advance(self, seconds: float) -> None:
        """Let time pass for a servo that is in no world."""
        for _ in range(round(seconds / STEP_S)):
            _, strength = self.drive(STEP_S)
            self._turn(STEP_S, strength if self.torque else None)

    def _pursue(self, h: float) -> None:
        """Move the profile towards the goal."""
        low, high = r.MIN_POSITION.get(self.memory), r.MAX_POSITION.get(self.memory)
        gap = max(low, min(high, r.GOAL_POSITION.get(self.memory))) - self._profile
        speed = abs(r.GOAL_VELOCITY.get(self.memory)) or _FASTEST
        quick = r.ACCELERATION.get(self.memory) * 100 or QUICKEST
        self._follow(h, gap, min(speed, _FASTEST), quick)

    def _sense(self) -> None:
        moving = abs(self.velocity) > 1.0
        for register, value in (
            (r.PRESENT_POSITION, round(self.position)),
            (r.PRESENT_VELOCITY, round(self.velocity)),
            (r.PRESENT_LOAD, round(1000 * self.effort)),
            (r.PRESENT_VOLTAGE, NOMINAL_VOLTAGE - round(_SAG * abs(self.effort))),
            (r.PRESENT_TEMPERATURE, self.temperature),
            (r.STATUS, self.errors),
            (r.MOVING, int(moving)),
        ):
            self._put(self.memory, register, value)

    @staticmethod
    def _put(memory: bytearray, register: r.Register, value: int) -> None:
        at = register.address
        memory[at : at + register.size] = register.pack(value)
