"""Protocol 2.0, byte by byte, as the servos see it; the emulator's side of the wire.

    FF FF FD 00  id  length  instruction  parameter ...  CRC      to the servos
    FF FF FD 00  id  length  55  error    parameter ...  CRC      from one of them

`length` (2 bytes, as all numbers little endian) counts from the byte after it to the
CRC-16 (polynomial 8005), which is over everything before itself. Where FF FF FD occurs
between length and CRC, another FD follows it: so a header is a header.
"""

from __future__ import annotations

from collections.abc import Iterator

from .._pty import Packet

PING, READ, WRITE, REG_WRITE, ACTION, FACTORY_RESET, REBOOT = 1, 2, 3, 4, 5, 6, 8
STATUS, SYNC_READ, SYNC_WRITE, BULK_READ, BULK_WRITE = 0x55, 0x82, 0x83, 0x92, 0x93
BROADCAST = 0xFE
HEADER = b"\xff\xff\xfd\x00"
_MARK, _STUFFED = b"\xff\xff\xfd", b"\xff\xff\xfd\xfd"
_START = 7  # [byte] of header, id and length


def _table() -> tuple[int, ...]:
    rows = []
    for byte in range(256):
        value = byte << 8
        for _ in range(8):
            value = value << 1 ^ (0x8005 if value & 0x8000 else 0)
        rows.append(value & 0xFFFF)
    return tuple(rows)


_CRC = _table()


def crc(data: bytes | bytearray) -> int:
    """Return the CRC-16 of `data`."""
    value = 0
    for byte in data:
        value = (value << 8 ^ _CRC[value >> 8 ^ byte]) & 0xFFFF
    return value


def pack(servo: int, body: bytes) -> bytes:
    """Return a packet; `body` is what is between length and CRC, not yet stuffed."""
    stuffed = body.replace(_MARK, _STUFFED)
    head = HEADER + bytes((servo,)) + (len(stuffed) + 2).to_bytes(2, "little")
    whole = head + stuffed
    return whole + crc(whole).to_bytes(2, "little")


def status(servo: int, error: int, data: bytes = b"") -> bytes:
    """Return a status packet."""
    return pack(servo, bytes((STATUS, error)) + data)


def split(buffer: bytearray) -> Iterator[Packet]:
    """Take all whole packets with a right CRC out of `buffer`; skip all else."""
    while (start := buffer.find(HEADER)) >= 0:
        del buffer[:start]
        if len(buffer) < _START:
            return
        length = int.from_bytes(buffer[5:_START], "little")
        end = _START + length
        if length < 3 or length > 1024:
            del buffer[:3]
            continue
        if len(buffer) < end:
            return
        if crc(buffer[: end - 2]) != int.from_bytes(buffer[end - 2 : end], "little"):
            del buffer[:3]
            continue
        if (inner := buffer.find(HEADER, 1, end - 2)) > 0:  # not stuffed: a new packet
            del buffer[:inner]
            continue
        body = bytes(buffer[_START : end - 2]).replace(_STUFFED, _MARK)
        servo = buffer[4]
        del buffer[:end]
        yield Packet(servo, body[0], body[1:])
