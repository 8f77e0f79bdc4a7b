"""The servo bus through the vendor's SDK; the only file that imports it."""

from __future__ import annotations

from collections.abc import Mapping

import scservo_sdk as sdk

from .. import _servo_bus as shared
from .._servo_bus import PATIENCE_S, SUCCESS, Answer, Heard
from . import registers as r

BAUD = 1_000_000
_FRAME = 6  # [byte] of a status packet without data
_ID, _ERRORS, _DATA = 2, 4, 5  # where they are in a status packet


class _Port(shared.Port, sdk.PortHandler):  # type: ignore[misc]  # the SDK has no types
    pass


class Bus(shared.ServoBus):
    """An open port with STS servos on it."""

    silent, corrupt = sdk.COMM_RX_TIMEOUT, sdk.COMM_RX_CORRUPT
    check = "plugs and servo power"
    torque, force = r.TORQUE_ENABLE, r.TORQUE_LIMIT

    def __init__(
        self, path: str, names: Mapping[int, str], patience_s: float = PATIENCE_S
    ) -> None:
        """Open `path`; `names` says what to call the servo of an id."""
        handler = sdk.PacketHandler(0)
        super().__init__(_Port(path), handler, BAUD, names, patience_s)

    def count(self, servo: int, wait_s: float) -> int:
        """Ask for a servo's id; return how many answer that within `wait_s`."""
        port, answers = self._port, 0
        with self._wire():
            asked = self._protocol.readTx(port, servo, r.ID.address, r.ID.size)
            port.setPacketTimeoutMillis(1e3 * wait_s)
            while asked == SUCCESS and not port.isPacketTimeout():
                heard = self._receive(r.ID.size)
                answers += heard.servo == servo and heard.result in (
                    SUCCESS,
                    self.corrupt,
                )
        return answers

    def _request(self, servos: list[int], start: int, size: int) -> int:
        port, count = self._port, len(servos)
        return int(self._protocol.syncReadTx(port, start, size, servos, count))

    def _receive(self, size: int) -> Heard:
        packet, result = self._protocol.rxPacket(self._port)
        if len(packet) <= _ID:
            return Heard(-1, result, None)
        fits = result == SUCCESS and len(packet) == _FRAME + size
        answer = Answer(bytes(packet[_DATA:-1]), packet[_ERRORS]) if fits else None
        return Heard(packet[_ID], result, answer)
