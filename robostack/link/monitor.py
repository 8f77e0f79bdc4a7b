"""Why a connection is not there: read from ZMQ's own events, and put in words."""

from __future__ import annotations

import zmq
from zmq.utils.monitor import recv_monitor_message

from robostack.link.sockets import Socket

_UNLIKE = zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
_EVENTS = (
    zmq.EVENT_CONNECTED
    | zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | _UNLIKE
    | zmq.EVENT_DISCONNECTED
)
_SENTENCES = {
    "": "nobody listens at {}: start `robostack serve` there",
    "reached": "something listens at {} and does not speak ZMQ: is it a node?",
    "up": "the node at {} is connected and did not answer",
    "gone": "the node at {} went away",
    "denied": "the node at {} does not know this client's keys: let it in there, with "
    "`robostack keys allow`; the node need not be restarted",
    "unlike": "the node at {} hung up: one side has CURVE keys and the other has not, "
    "or the node's keys are not the ones that this client expects",
}


class Monitor:
    """Follows one socket, from before it connects."""

    def __init__(self, socket: Socket) -> None:
        self._owner = socket
        self._events = socket.get_monitor_socket(_EVENTS)
        self._verdict = ""

    def explain(self, endpoint: str) -> str:
        """Return a sentence for why nothing came from `endpoint`."""
        while self._events.poll(0):
            event = int(recv_monitor_message(self._events)["event"])
            self._verdict = _follow(self._verdict, event)
        return _SENTENCES[self._verdict].format(endpoint)

    def close(self) -> None:
        """Stop following."""
        self._owner.disable_monitor()
        self._events.close(linger=0)


def _follow(verdict: str, event: int) -> str:
    """Return what is known after `event`; ZMQ connects again and again by itself."""
    if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
        return "up"
    if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
        return "denied"
    if event & _UNLIKE:
        return "unlike"
    if event == zmq.EVENT_DISCONNECTED and verdict == "up":
        return "gone"
    if event == zmq.EVENT_CONNECTED and verdict == "":
        return "reached"
    return verdict
