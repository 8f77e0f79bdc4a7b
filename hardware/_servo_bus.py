"""A bus of servos on a serial port, whatever their vendor's SDK.

Every call that asks for an answer repeats the question a few times, of those only that
are still missing, and then raises `BusError`. What a servo says of its own state (error
bits) comes with the answers and is for the driver to judge.

Where we differ from the SDKs, which have one ancestor: time-outs by the monotonic clock
(theirs go by the wall clock, and never end when that is set back); late answers are
dropped before a question (one SDK waits for the output to drain instead, for ever on an
adapter that stalled); two programs cannot have one port; group reads keep the error
bits, and one silent servo does not lose the others' answers.
"""

from __future__ import annotations

import contextlib
import glob
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import serial

TRIES = 3
PATIENCE_S = 0.02  # for an answer, beyond its bytes: adapters hold bytes for 16 ms
SUCCESS = 0  # result of either SDK
_WRITE_S = 0.1


class BusError(OSError):
    """The bus does not do what it should: port, wire, power or checksum."""


class ServoError(RuntimeError):
    """A servo is, or says that it is, not fit to move the arm."""


class Answer(NamedTuple):
    """What a servo said."""

    data: bytes
    errors: int  # bits


class Heard(NamedTuple):
    """A packet from the wire."""

    servo: int  # -1: it ended before it said from whom it is
    result: int  # of the SDK
    answer: Answer | None  # to what was asked, if it is one


class Register(Protocol):
    """A number in a servo's memory."""

    @property
    def address(self) -> int:
        """Where it begins."""

    @property
    def size(self) -> int:
        """Its bytes."""

    def pack(self, value: int) -> bytes:
        """Return `value` as it stands in memory."""


class Port:
    """To stand before an SDK's PortHandler: another clock, and none of its waits."""

    port_name: str
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

    def clearPort(self) -> None:  # noqa: N802
        self.ser.reset_input_buffer()

    def getCurrentTime(self) -> float:  # noqa: N802
        return time.monotonic() * 1000.0

    def setPacketTimeout(self, packet_length: int) -> None:  # noqa: N802
        self.packet_start_time = self.getCurrentTime()
        self.packet_timeout = self.tx_time_per_byte * packet_length + self.patience_ms


class ServoBus(ABC):
    """An open port with servos on it. Not for two threads at once."""

    silent: ClassVar[int]  # the SDK's result where no answer came
    corrupt: ClassVar[int]  # and where garbage did
    check: ClassVar[str]  # what to look at when servos are silent
    torque: ClassVar[Register]  # 0: none
    force: ClassVar[Register]  # the most that a servo may use

    def __init__(
        self,
        port: Any,
        protocol: Any,
        baud: int,
        names: Mapping[int, str],
        patience_s: float,
    ) -> None:
        """Open a port.

        Args:
            port: the SDK's, with `Port` before it.
            protocol: the SDK's packet handler.
            baud: rate of the bus.
            names: what to call the servo of an id.
            patience_s: for an answer, beyond its bytes.
        """
        self._port = port
        self._protocol = protocol
        self._names = names
        port.patience_ms = 1e3 * patience_s
        try:
            opened = port.setBaudRate(baud)
        except (OSError, ValueError) as error:
            raise BusError(_why_closed(port.port_name, error)) from error
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
            if result == SUCCESS:
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
        found, bad = self.ask(servos, start, size)
        for _ in range(TRIES - 1):
            if bad:
                more, bad = self.ask(list(bad), start, size)
                found |= more
        return found, bad

    def ask(
        self, servos: Sequence[int], start: int, size: int
    ) -> tuple[dict[int, Answer], dict[int, int]]:
        """Do as `poll`, but ask once only: for whoever counts what goes wrong."""
        found: dict[int, Answer] = {}
        bad = dict.fromkeys(servos, self.silent)
        with self._wire():
            asked = self._request(list(servos), start, size) == SUCCESS
            while asked and bad and not self._port.isPacketTimeout():
                servo, result, answer = self._receive(size)
                if servo in bad and result == self.corrupt:
                    bad[servo] = result
                elif servo in bad and answer is not None:
                    found[servo] = answer
                    del bad[servo]
        return found, bad

    def write(self, servo: int, register: Register, value: int) -> int:
        """Write one register; return the error bits with which it was acknowledged."""
        data = list(register.pack(value))
        for _ in range(TRIES):
            with self._wire():
                result, errors = self._protocol.writeTxRx(
                    self._port, servo, register.address, register.size, data
                )
            if result == SUCCESS:
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
        if result != SUCCESS:
            raise BusError(f"the port did not take a write: SDK result {result}")

    @abstractmethod
    def _request(self, servos: list[int], start: int, size: int) -> int:
        """Ask all of them once for `size` bytes, set a time-out; return the result."""

    @abstractmethod
    def _receive(self, size: int) -> Heard:
        """Wait for a packet with `size` bytes of data, or for the time-out."""

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
        corrupt = [servo for servo, why in bad.items() if why == self.corrupt]
        groups = {
            "no answer from": [servo for servo in bad if servo not in corrupt],
            "corrupt answers from": corrupt,
        }
        told = [
            f"{words} {', '.join(map(self._name, ids))}"
            for words, ids in groups.items()
            if ids
        ]
        return f"{' and '.join(told)} in {TRIES} tries: check {self.check}"


def refuse(reasons: Iterable[str]) -> None:
    """Raise a fault if there is a reason to."""
    if told := "; ".join(reasons):
        raise ServoError(told)


def _why_closed(path: str, error: Exception) -> str:
    if not os.path.exists(path):
        here = sorted(glob.glob("/dev/ttyACM*") + glob.glob("/dev/ttyUSB*"))
        return f"no port {path}; there are: {', '.join(here) or 'none'}"
    if not os.access(path, os.R_OK | os.W_OK):
        return f"no permission for {path}: sudo usermod -aG dialout $USER, log in again"
    return f"cannot open {path} (another program may have it): {error}"
