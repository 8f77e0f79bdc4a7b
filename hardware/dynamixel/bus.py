"""The servo bus through the vendor's SDK; the only file that imports it.

Every call that asks for an answer repeats the question a few times, of those only that
are still missing, and then raises `BusError`. What a servo says of its own state comes
with the answers and is for the driver to judge.

Where we differ from the SDK (4.1): packets whose content holds the header are sent
stuffed (the SDK computes the stuffed packet and sends the other one); time-outs by the
monotonic clock (the SDK's go by the wall clock); two programs cannot have one port;
group reads keep the error byte, and one silent servo does not lose the others' answers.
Hence SYNC READ, not FAST SYNC READ: the latter is one packet that breaks as a whole.
"""

from __future__ import annotations

import contextlib
import glob
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import dynamixel_sdk as sdk
import serial

from .registers import ALERT, REFUSALS, Register

TRIES = 3
PATIENCE_S = 0.02  # for an answer, beyond its bytes: adapters hold bytes for 16 ms
_WRITE_S = 0.1
_FRAME = 11  # [byte] of a status packet without data
_ID, _LENGTH, _ERROR, _DATA = 4, 5, 8, 9  # where they are in a status packet


class BusError(OSError):
    """The bus does not do what it should: port, wire, power or checksum."""


class Answer(NamedTuple):
    """What a servo said."""

    data: bytes
    alert: bool  # it has a hardware error


class _Port(sdk.PortHandler):  # type: ignore[misc]  # the SDK has no types
    """The SDK's port, with another clock and a time-out for writes."""

    patience_ms = 1e3 * PATIENCE_S

    def setupPort(self, cflag_baud: int) -> bool:  # noqa: N802
        self.ser = serial.Serial(
            self.port_name,
            cflag_baud,
            timeout=0.001,
            write_timeout=_WRITE_S,
            exclusive=True,
        )
        self.is_open = True
        self.ser.reset_input_buffer()
        self.tx_time_per_byte = 10_000.0 / cflag_baud  # [ms]
        return True

    def getCurrentTime(self) -> float:  # noqa: N802
        return time.monotonic() * 1000.0

    def setPacketTimeout(self, packet_length: int) -> None:  # noqa: N802
        self.setPacketTimeoutMillis(
            self.tx_time_per_byte * packet_length + self.patience_ms
        )


class _Protocol(sdk.Protocol2PacketHandler):  # type: ignore[misc]
    """The SDK's packets, stuffed."""

    def addStuffing(self, packet: list[int]) -> list[int]:  # noqa: N802
        packet[:] = super().addStuffing(packet)
        return packet


class Bus:
    """An open port with servos on it. Not for two threads at once."""

    def __init__(
        self,
        path: str,
        baud: int,
        names: Mapping[int, str],
        patience_s: float = PATIENCE_S,
    ) -> None:
        """Open `path`; `names` says what to call the servo of an id."""
        self._names = names
        self._port = _Port(path)
        self._port.patience_ms = 1e3 * patience_s
        self._protocol = _Protocol()
        try:
            opened = self._port.setBaudRate(baud)
        except (OSError, ValueError) as error:
            raise BusError(_why_closed(path, error)) from error
        if not opened:
            raise BusError(f"expected a baud rate that the SDK knows, got {baud}")

    def close(self) -> None:
        """Release the port."""
        with contextlib.suppress(OSError):
            self._port.closePort()

    def purge(self) -> None:
        """Drop what was not sent yet, and answers nobody waits for any more."""
        with contextlib.suppress(OSError):
            self._port.ser.reset_output_buffer()
            self._port.ser.reset_input_buffer()

    def ping(self, servo: int) -> int:
        """Return the model number of a servo."""
        for _ in range(TRIES):
            with self._wire():
                model, result, _errors = self._protocol.ping(self._port, servo)
            if result == sdk.COMM_SUCCESS:
                return int(model)
        raise BusError(self._silence({servo: result}))

    def read(self, servos: Sequence[int], start: int, size: int) -> list[Answer]:
        """Return `size` bytes from address `start` of every servo, in their order."""
        found, bad = self.poll(servos, start, size)
        if bad:
            raise BusError(self._silence(bad))
        return [found[servo] for servo in servos]

    def poll(
        self, servos: Sequence[int], start: int, size: int
    ) -> tuple[dict[int, Answer], dict[int, int]]:
        """Return what `read` would, by id, and why others are missing (SDK result)."""
        found: dict[int, Answer] = {}
        bad = dict.fromkeys(servos, sdk.COMM_RX_TIMEOUT)
        for _ in range(TRIES):
            with self._wire():
                bad = self._ask(list(bad), start, size, found)
            if not bad:
                break
        return found, bad

    def write(self, servo: int, register: Register, value: int) -> None:
        """Write one register, acknowledged.

        Raises:
            BusError: the servo does not answer, or refuses.
        """
        data = list(register.pack(value))
        for _ in range(TRIES):
            with self._wire():
                result, error = self._protocol.writeTxRx(
                    self._port, servo, register.address, register.size, data
                )
            if result == sdk.COMM_SUCCESS:
                break
        else:
            raise BusError(self._silence({servo: result}))
        if number := error & ~ALERT:
            why = REFUSALS.get(number, f"says error {number}")
            raise BusError(
                f"{self._name(servo)} refused {value} at address "
                f"{register.address}: it {why}"
            )

    def write_all(self, start: int, rows: Mapping[int, bytes]) -> None:
        """Write bytes from address `start` on to many servos at once: no answer."""
        size = len(next(iter(rows.values())))
        block = [byte for servo, row in rows.items() for byte in (servo, *row)]
        with self._wire():
            result = self._protocol.syncWriteTxOnly(
                self._port, start, size, block, len(block)
            )
        if result != sdk.COMM_SUCCESS:
            raise BusError(f"the port did not take a write: SDK result {result}")

    def _ask(
        self, servos: list[int], start: int, size: int, found: dict[int, Answer]
    ) -> dict[int, int]:
        """Ask once; put what comes into `found`; return why the others are missing."""
        port, protocol = self._port, self._protocol
        bad = dict.fromkeys(servos, sdk.COMM_RX_TIMEOUT)
        sent = protocol.syncReadTx(port, start, size, servos, len(servos), False)
        if sent != sdk.COMM_SUCCESS:
            return bad
        port.setPacketTimeout(len(servos) * (_FRAME + size))
        while bad and not port.isPacketTimeout():
            packet, result = protocol.rxPacket(port, False)
            if result == sdk.COMM_RX_CORRUPT and len(packet) > _ID:
                if packet[_ID] in bad:
                    bad[packet[_ID]] = result
            elif result == sdk.COMM_SUCCESS and packet[_ID] in bad:
                length = packet[_LENGTH] | packet[_LENGTH + 1] << 8
                if length == size + 4 and not packet[_ERROR] & ~ALERT:
                    data = bytes(packet[_DATA : _DATA + size])
                    found[packet[_ID]] = Answer(data, bool(packet[_ERROR] & ALERT))
                    del bad[packet[_ID]]
        return bad

    @contextlib.contextmanager
    def _wire(self) -> Iterator[None]:
        """Turn trouble with the port into a BusError, and leave the SDK usable."""
        try:
            yield
        except (OSError, TypeError) as error:  # TypeError: pyserial, of a closed port
            raise BusError(f"lost {self._port.port_name}: {error}") from error
        finally:
            self._port.is_using = False

    def _name(self, servo: int) -> str:
        return f"{self._names.get(servo, 'servo')} (id {servo})"

    def _silence(self, bad: Mapping[int, int]) -> str:
        corrupt = [s for s, why in bad.items() if why == sdk.COMM_RX_CORRUPT]
        groups = {
            "no answer from": [s for s in bad if s not in corrupt],
            "corrupt answers from": corrupt,
        }
        told = [
            f"{words} {', '.join(map(self._name, ids))}"
            for words, ids in groups.items()
            if ids
        ]
        return (
            f"{' and '.join(told)} in {TRIES} tries: check plugs, power and baud rate"
        )


def _why_closed(path: str, error: Exception) -> str:
    if not os.path.exists(path):
        here = sorted(glob.glob("/dev/ttyACM*") + glob.glob("/dev/ttyUSB*"))
        return f"no port {path}; there are: {', '.join(here) or 'none'}"
    if not os.access(path, os.R_OK | os.W_OK):
        return f"no permission for {path}: sudo usermod -aG dialout $USER, log in again"
    return f"cannot open {path} (another program may have it): {error}"
