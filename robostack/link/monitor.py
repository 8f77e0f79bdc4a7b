"""Why a connection is not there: read from ZMQ's own events, and put in words."""

from __future__ import annotations

import zmq
from zmq.utils.monitor import recv_monitor_message

from robostack.link.sockets import Socket

_AUTH = zmq.EVENT_HANDSHAKE_FAILED_AUTH
_OTHER = zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
_UP = zmq.EVENT_HANDSHAKE_SUCCEEDED
_EVENTS = _UP | _AUTH | _OTHER | zmq.EVENT_DISCONNECTED | zmq.EVENT_CONNECTED


class Monitor:
    """Follows one socket, from before it connects."""

    def __init__(self, socket: Socket) -> None:
        self._owner = socket
        self._events = socket.get_monitor_socket(_EVENTS)
        self._last = 0

    def explain(self, endpoint: str) -> str:
        """Return a sentence for why nothing came from `endpoint`."""
        while self._events.poll(0):
            self._last = int(recv_monitor_message(self._events)["event"]) or self._last
        if self._last == 0:
            return f"nobody listens at {endpoint}: start `robostack serve` there"
        if self._last & (_AUTH | _OTHER):
            return (
                f"the node at {endpoint} refused the connection: it needs CURVE keys, "
                f"and this client's public key in its clients/ folder"
            )
        if self._last == zmq.EVENT_DISCONNECTED:
            return f"the node at {endpoint} went away"
        if self._last == zmq.EVENT_CONNECTED:
            return (
                f"something listens at {endpoint} and does not speak our protocol, or "
                f"has other keys than this client expects"
            )
        return f"the node at {endpoint} is connected and did not answer"

    def close(self) -> None:
        """Stop following."""
        self._owner.disable_monitor()
        self._events.close(linger=0)
