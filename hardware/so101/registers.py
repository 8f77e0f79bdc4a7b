"""The STS3215's memory: where things are, how wide, in which units.

Addresses and units after Feetech's memory table of the STS series; words are little
endian; signed words carry their sign in one bit, not as a complement.

    0 ... 39   EEPROM: kept over a power cycle, if written while LOCK is 0
    40 ... 55  SRAM: what to do
    56 ... 70  SRAM: what is so
"""

from __future__ import annotations

from typing import NamedTuple

MODEL_STS3215 = 777
TICKS_PER_TURN = 4096
SIZE = 71  # [byte] of the part described here


class Register(NamedTuple):
    """A number in a servo's memory."""

    address: int
    size: int = 1  # [byte]
    sign_bit: int | None = None

    def get(self, memory: bytes | bytearray, start: int = 0) -> int:
        """Return the number from `memory`, a copy from address `start` on."""
        at = self.address - start
        raw = int.from_bytes(memory[at : at + self.size], "little")
        if self.sign_bit is None or not raw >> self.sign_bit & 1:
            return raw
        return -(raw & ~(1 << self.sign_bit))

    def pack(self, value: int) -> bytes:
        """Return `value` as it stands in memory."""
        if self.sign_bit is not None and value < 0:
            value = -value | 1 << self.sign_bit
        return value.to_bytes(self.size, "little")


FIRMWARE_MAJOR = Register(0)
FIRMWARE_MINOR = Register(1)
MODEL = Register(3, 2)
ID = Register(5)
RETURN_DELAY = Register(7)  # [2 us]
STATUS_LEVEL = Register(8)  # 0: only PING and READ are answered; 1: WRITE, too
MIN_POSITION = Register(9, 2)  # [tick]
MAX_POSITION = Register(11, 2)  # [tick]
MAX_TEMPERATURE = Register(13)  # [C]
MAX_VOLTAGE = Register(14)  # [0.1 V]
MIN_VOLTAGE = Register(15)  # [0.1 V]
MAX_TORQUE = Register(16, 2)  # [0.1 %]; what TORQUE_LIMIT is after power came
HOMING_OFFSET = Register(31, 2, 11)  # [tick]
OPERATING_MODE = Register(33)  # 0: position
TORQUE_ENABLE = Register(40)
ACCELERATION = Register(41)  # [100 tick/s^2]; 0: as fast as it can
GOAL_POSITION = Register(42, 2, 15)  # [tick]; a write also enables torque
GOAL_TIME = Register(44, 2)
GOAL_VELOCITY = Register(46, 2, 15)  # [tick/s]; 0: as fast as it can
TORQUE_LIMIT = Register(48, 2)  # [0.1 %]
LOCK = Register(55)
PRESENT_POSITION = Register(56, 2, 15)  # [tick]
PRESENT_VELOCITY = Register(58, 2, 15)  # [tick/s]
PRESENT_LOAD = Register(60, 2, 10)  # [0.1 %]
PRESENT_VOLTAGE = Register(62)  # [0.1 V]
PRESENT_TEMPERATURE = Register(63)  # [C]
STATUS = Register(65)  # error bits
MOVING = Register(66)

EEPROM_END = 40
READ_ONLY = (range(5), range(56, SIZE))

ERRORS = {
    0x01: "voltage out of range",
    0x02: "position sensor error",
    0x04: "overheated",
    0x08: "overcurrent",
    0x10: "angle out of range",
    0x20: "overloaded",
}


def describe(bits: int) -> str:
    """Return error bits in words, "" if there are none."""
    words = [text for bit, text in ERRORS.items() if bits & bit]
    if bits & ~sum(ERRORS):
        words.append(f"unknown error bits {bits & ~sum(ERRORS):#04x}")
    return " and ".join(words)
