"""The servo bus through the vendor's SDK; the only file that imports it.

Every call that asks for an answer repeats the question a few times, of those only that
are still missing, and then raises `BusError`. What a servo says of its own state (error
bits) comes with the answers and is for the driver to judge.

Where we differ from the SDK: time-outs by the monotonic clock (the SDK's go by the wall
clock, and never end when that is set back); late answers are dropped before a question
(`clearPort` of the SDK waits for the output to drain instead, for ever on an adapter
that stalled); two programs cannot have one port; group reads keep the error bits.
"""

from __future__ import annotations

import contextlib
import glob
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import scservo_sdk as sdk
import serial

from .registers import ID, Register

BAUD = 1_000_000
TRIES = 3
PATIENCE_MS = 20.0  # for an answer, beyond its bytes: adapters hold bytes for 16 ms
_WRITE_S = 0.1
_SUCCESS, _CORRUPT = 0, -7


class BusError(OSError):
    """The bus does not do what it should: port, wire, power or checksum."""


class Answer(NamedTuple):
    """What a servo said."""

    data: bytes
    errors: int  # bits


class _Port(sdk.PortHandler):  # type: ignore[misc]  # the SDK has no types
    """The SDK's port, with another clock and without its waits."""

    patience_ms = PATIENCE_MS

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

    def clearPort(self) -> None:  # noqa: N802
        self.ser.reset_input_buffer()

    def getCurrentTime(self) -> float:  # noqa: N802
        return time.monotonic() * 1000.0

    def setPacketTimeout(self, packet_length: int) -> None:  # noqa: N802
        self.setPacketTimeoutMillis(
            self.tx_time_per_byte * packet_length + self.patience_ms
        )


class Bus:
    """An open port with servos on it. Not for two threads at once."""

    def __init__(
        self, path: str, names: Mapping[int, str], patience_ms: float = PATIENCE_MS
    ) -> None:
        """Open `path`.

        Args:
            path: of the port.
            names: what to call the servo of an id.
            patience_ms: for an answer, beyond its bytes.
        """
        self._names = names
        self._port = _Port(path)
        self._port.patience_ms = patience_ms
        self._protocol = sdk.PacketHandler(0)
        try:
            self._port.setBaudRate(BAUD)
        except (OSError, ValueError) as error:
            raise BusError(_why_closed(path, error)) from error

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
            if result == _SUCCESS:
                return int(model)
        raise BusError(self._silence({servo: result}))

    def read(self, servos: Sequence[int], start: int, size: int) -> dict[int, Answer]:
        """Return `size` bytes from address `start` of every servo, in their order."""
        found, bad = self.poll(servos, start, size)
        if bad:
            raise BusError(self._silence(bad))
        return {servo: found[servo] for servo in servos}

    def poll(
        self, servos: Sequence[int], start: int, size: int
    ) -> tuple[dict[int, Answer], dict[int, int]]:
        """Return what `read` would, and why others are missing (SDK result)."""
        found: dict[int, Answer] = {}
        bad = dict.fromkeys(servos, -6)
        for _ in range(TRIES):
            with self._wire():
                bad = self._ask(list(bad), start, size, found)
            if not bad:
                break
        return found, bad

    def ask(
        self, servos: Sequence[int], start: int, size: int
    ) -> tuple[dict[int, Answer], dict[int, int]]:
        """Do as `poll`, but ask once only: for whoever counts what goes wrong."""
        found: dict[int, Answer] = {}
        with self._wire():
            bad = self._ask(list(servos), start, size, found)
        return found, bad

    def count(self, servo: int, wait_s: float) -> int:
        """Ask for a servo's id; return how many answer that within `wait_s`."""
        port, protocol, answers = self._port, self._protocol, 0
        with self._wire():
            if protocol.readTx(port, servo, ID.address, ID.size) != _SUCCESS:
                return 0
            port.setPacketTimeoutMillis(1e3 * wait_s)
            while not port.isPacketTimeout():
                packet, result = protocol.rxPacket(port)
                came = result in (_SUCCESS, _CORRUPT) and len(packet) > 2
                answers += came and packet[2] == servo
        return answers

    def write(self, servo: int, register: Register, value: int) -> int:
        """Write one register; return the error bits with which it was acknowledged."""
        data = list(register.pack(value))
        for _ in range(TRIES):
            with self._wire():
                result, errors = self._protocol.writeTxRx(
                    self._port, servo, register.address, register.size, data
                )
            if result == _SUCCESS:
                return int(errors)
        raise BusError(self._silence({servo: result}))

    def write_all(self, start: int, rows: Mapping[int, bytes]) -> None:
        """Write bytes from address `start` on to many servos at once: no answer."""
        size = len(next(iter(rows.values())))
        block = [byte for servo, row in rows.items() for byte in (servo, *row)]
        with self._wire():
            result = self._protocol.syncWriteTxOnly(
                self._port, start, size, block, len(block)
            )
        if result != _SUCCESS:
            raise BusError(f"the port did not take a write: SDK result {result}")

    def _ask(
        self, servos: list[int], start: int, size: int, found: dict[int, Answer]
    ) -> dict[int, int]:
        """Ask once; put what comes into `found`; return why the others are missing."""
        port, protocol = self._port, self._protocol
        bad = dict.fromkeys(servos, -6)
        if protocol.syncReadTx(port, start, size, servos, len(servos)) != _SUCCESS:
            return bad
        while bad and not port.isPacketTimeout():
            packet, result = protocol.rxPacket(port)
            if result == _CORRUPT and len(packet) > 2 and packet[2] in bad:
                bad[packet[2]] = _CORRUPT
            elif result == _SUCCESS and packet[2] in bad and len(packet) == size + 6:
                found[packet[2]] = Answer(bytes(packet[5:-1]), packet[4])
                del bad[packet[2]]
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
        groups = {
            "no answer from": [s for s, why in bad.items() if why != _CORRUPT],
            "corrupt answers from": [s for s, why in bad.items() if why == _CORRUPT],
        }
        told = [
            f"{words} {', '.join(map(self._name, ids))}"
            for words, ids in groups.items()
            if ids
        ]
        return f"{' and '.join(told)} in {TRIES} tries: check plugs and servo power"


def _why_closed(path: str, error: Exception) -> str:
    if not os.path.exists(path):
        here = sorted(glob.glob("/dev/ttyACM*") + glob.glob("/dev/ttyUSB*"))
        return f"no port {path}; there are: {', '.join(here) or 'none'}"
    if not os.access(path, os.R_OK | os.W_OK):
        return f"no permission for {path}: sudo usermod -aG dialout $USER, log in again"
    return f"cannot open {path} (another program may have it): {error}"
