"""The servo bus through the vendor's SDK; the only file that imports it.

Where we differ from the SDK (4.1), beside what all our buses do: packets whose content
holds the header are sent stuffed (the SDK computes the stuffed packet and sends the
other one); SYNC READ, not FAST SYNC READ, which is one packet that breaks as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping

import dynamixel_sdk as sdk

from .. import _servo_bus as shared
from .._servo_bus import PATIENCE_S, SUCCESS, Answer, BusError, Heard, Register
from . import registers as r

_FRAME = 11  # [byte] of a status packet without data
_ID, _LENGTH, _ERROR, _DATA = 4, 5, 8, 9  # where they are in a status packet


class _Port(shared.Port, sdk.PortHandler):  # type: ignore[misc]  # the SDK has no types
    pass


class _Protocol(sdk.Protocol2PacketHandler):  # type: ignore[misc]
    """The SDK's packets, stuffed."""

    def addStuffing(self, packet: list[int]) -> list[int]:  # noqa: N802
        packet[:] = super().addStuffing(packet)
        return packet


class Bus(shared.ServoBus):
    """An open port with X-series servos on it."""

    silent, corrupt = sdk.COMM_RX_TIMEOUT, sdk.COMM_RX_CORRUPT
    check = "plugs, power and baud rate"
    torque, force = r.TORQUE_ENABLE, r.GOAL_PWM

    def __init__(
        self,
        path: str,
        baud: int,
        names: Mapping[int, str],
        patience_s: float = PATIENCE_S,
    ) -> None:
        """Open `path`; `names` says what to call the servo of an id."""
        super().__init__(_Port(path), _Protocol(), baud, names, patience_s)

    def write(self, servo: int, register: Register, value: int) -> int:
        """Write one register, acknowledged.

        Raises:
            BusError: the servo does not answer, or refuses.
        """
        error = super().write(servo, register, value)
        if number := error & ~r.ALERT:
            why = r.REFUSALS.get(number, f"says error {number}")
            raise BusError(
                f"{self._name(servo)} refused {value} at address "
                f"{register.address}: it {why}"
            )
        return error

    def _request(self, servos: list[int], start: int, size: int) -> int:
        port, count = self._port, len(servos)
        sent = self._protocol.syncReadTx(port, start, size, servos, count, False)
        port.setPacketTimeout(count * (_FRAME + size))
        return int(sent)

    def _receive(self, size: int) -> Heard:
        packet, result = self._protocol.rxPacket(self._port, False)
        if len(packet) <= _ID:
            return Heard(-1, result, None)
        answer = _answer(packet, size) if result == SUCCESS else None
        return Heard(packet[_ID], result, answer)


def _answer(packet: list[int], size: int) -> Answer | None:
    """Return what a whole packet says, if that is `size` bytes and no refusal."""
    length, error = packet[_LENGTH] | packet[_LENGTH + 1] << 8, packet[_ERROR]
    if length != size + 4 or error & ~r.ALERT:
        return None
    return Answer(bytes(packet[_DATA : _DATA + size]), error)
