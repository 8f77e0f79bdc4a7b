"""The X-series' control table: where things are, how wide, in which units.

Addresses and units after ROBOTIS' e-manual; numbers are little endian, signed ones in
two's complement. XL330, XC330, XL430, XC430, XM430 and XM540 have these in common.

    0 ... 63   EEPROM: kept over a power cycle, locked while torque is on
    64 ...     RAM: what to do, and what is so
"""

from __future__ import annotations

import math
from typing import NamedTuple

TICKS_PER_TURN = 4096
SIZE = 147  # [byte] of the part described here
EEPROM_END = 64

PWM_FULL = 885  # [0.113 %]
VELOCITY_UNIT = 0.229 * 2 * math.pi / 60  # [rad/s]
ACCELERATION_UNIT = 214.577 * 2 * math.pi / 3600  # [rad/s^2]
WATCHDOG_UNIT_S = 0.02
WATCHDOG_LAST = 127  # the longest; what is above is an error
WATCHDOG_TRIPPED = 255  # -1: goals are read-only until 0 is written here

POSITION_MODE, CURRENT_POSITION_MODE = 3, 5


class Register(NamedTuple):
    """A number in a servo's control table."""

    address: int
    size: int = 1  # [byte]
    signed: bool = False

    def get(self, memory: bytes | bytearray, start: int = 0) -> int:
        """Return the number from `memory`, a copy from address `start` on."""
        at = self.address - start
        return int.from_bytes(memory[at : at + self.size], "little", signed=self.signed)

    def pack(self, value: int) -> bytes:
        """Return `value` as it stands in memory."""
        return value.to_bytes(self.size, "little", signed=self.signed)

    @property
    def end(self) -> int:
        """First address after it."""
        return self.address + self.size


MODEL = Register(0, 2)
FIRMWARE = Register(6)
ID = Register(7)
BAUD = Register(8)
RETURN_DELAY = Register(9)  # [2 us]
DRIVE_MODE = Register(10)  # reverse, profile by time, torque on by goal: must be 0
OPERATING_MODE = Register(11)
SHADOW_ID = Register(12)
HOMING_OFFSET = Register(20, 4, signed=True)  # [tick]
MAX_TEMPERATURE = Register(31)  # [C]
MAX_VOLTAGE = Register(32, 2)  # [0.1 V]
MIN_VOLTAGE = Register(34, 2)  # [0.1 V]
PWM_LIMIT = Register(36, 2)  # [0.113 %]
CURRENT_LIMIT = Register(38, 2)  # unit of the model
VELOCITY_LIMIT = Register(44, 4)  # [0.229 rev/min]
MAX_POSITION = Register(48, 4)  # [tick]
MIN_POSITION = Register(52, 4)  # [tick]
STARTUP = Register(60)  # bit 0: torque on with power; bit 1: restores RAM
SHUTDOWN = Register(63)  # error bits that take the torque off
TORQUE_ENABLE = Register(64)
STATUS_LEVEL = Register(68)  # 0: only PING is answered; 1: READ, too; 2: all
REGISTERED = Register(69)  # a REG_WRITE waits for ACTION
HARDWARE_ERROR = Register(70)  # bits; latched until power or REBOOT
BUS_WATCHDOG = Register(98)  # [20 ms]; 0: off
GOAL_PWM = Register(100, 2, signed=True)  # a limit, in position modes
GOAL_CURRENT = Register(102, 2, signed=True)  # a limit, in mode 5
GOAL_VELOCITY = Register(104, 4, signed=True)
PROFILE_ACCELERATION = Register(108, 4)  # [214.577 rev/min^2]; 0: at once
PROFILE_VELOCITY = Register(112, 4)  # [0.229 rev/min]; 0: as fast as it can
GOAL_POSITION = Register(116, 4, signed=True)  # [tick]
MOVING = Register(122)
PRESENT_CURRENT = Register(126, 2, signed=True)  # unit of the model; XL430: load
PRESENT_VELOCITY = Register(128, 4, signed=True)  # [0.229 rev/min]
PRESENT_POSITION = Register(132, 4, signed=True)  # [tick]
PRESENT_VOLTAGE = Register(144, 2)  # [0.1 V]
PRESENT_TEMPERATURE = Register(146)  # [C]

OVERHEATED, OVERLOADED = 0x04, 0x20
ERRORS = {
    0x01: "at a wrong voltage",
    OVERHEATED: "overheated",
    0x08: "without its encoder",
    0x10: "electrically shocked, or short of power",
    OVERLOADED: "overloaded",
}

ALERT = 0x80  # in every answer of a servo with a hardware error
REFUSALS = {
    1: "could not do it",
    2: "does not know the instruction",
    3: "heard a wrong checksum",
    4: "says the value is out of range",
    5: "says the value has another length",
    6: "says the value is beyond its limit",
    7: "does not let it be accessed",
}


class Model(NamedTuple):
    """A kind of servo."""

    name: str
    number: int
    ampere: float  # [A] per unit of current; 0: it measures none


MODELS = (
    Model("XL330-M077", 1190, 0.001),
    Model("XL330-M288", 1200, 0.001),
    Model("XC330-T181", 1210, 0.001),
    Model("XC330-T288", 1220, 0.001),
    Model("XC330-M181", 1230, 0.001),
    Model("XC330-M288", 1240, 0.001),
    Model("XL430-W250", 1060, 0.0),
    Model("XC430-W150", 1070, 0.0),
    Model("XC430-W240", 1080, 0.0),
    Model("XM430-W350", 1020, 0.00269),
    Model("XM430-W210", 1030, 0.00269),
    Model("XM540-W270", 1120, 0.00269),
    Model("XM540-W150", 1130, 0.00269),
)
BY_NAME = {model.name: model for model in MODELS}
BY_NUMBER = {model.number: model for model in MODELS}


def describe(bits: int) -> str:
    """Return hardware error bits in words, "" if there are none."""
    words = [text for bit, text in ERRORS.items() if bits & bit]
    if bits & ~sum(ERRORS):
        words.append(f"unknown error bits {bits & ~sum(ERRORS):#04x}")
    return " and ".join(words)
