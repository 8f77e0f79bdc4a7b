"""A client's socket: messages out, messages in, and why nothing came."""

from __future__ import annotations

import secrets
import time

import msgspec
import zmq

from robostack.link import sockets
from robostack.link.errors import LinkError
from robostack.link.keys import ClientKeys
from robostack.link.monitor import Monitor
from robostack.messages import PROTOCOL, Control, Message, decode_control, encode

_NOW = int(zmq.DONTWAIT)  # a number: what is done with enums shows at this rate
_FAREWELL_MS = 100


class Mailbox:
    """A connection to one node that knows itself again after it broke."""

    def __init__(self, address: str, keys: ClientKeys | None) -> None:
        self.stale = False  # an answer may still come that nobody waits for
        self.closed = False
        self._address = address
        self._keys = keys
        self._timeout_s = -1.0  # of the socket, as it is set
        self._identity = secrets.token_bytes(16)
        self._context: sockets.Context = zmq.Context()
        self._open()

    def send(self, message: Message) -> None:
        """Send without waiting.

        Raises:
            LinkError: the mailbox is closed or stale, or its queue is full.
        """
        if self.stale or self.closed:
            raise self._unusable()
        try:
            self._socket.send(encode(message), _NOW)
        except zmq.Again as error:
            raise self.silence() from error

    def receive(self, timeout_s: float) -> Control | None:
        """Return the next message, or None: after `timeout_s`, or before."""
        if timeout_s != self._timeout_s:
            self._socket.setsockopt(zmq.RCVTIMEO, max(1, int(timeout_s * 1000)))
            self._timeout_s = timeout_s
        return self._receive(0)

    def poll(self) -> Control | None:
        """Return the next message that is here already, or None."""
        return self._receive(_NOW)

    def wait(self, timeout_s: float) -> Control | None:
        """Return the next message, or None after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        message = self.receive(timeout_s)
        while message is None and (left_s := deadline - time.monotonic()) > 0:
            message = self.receive(left_s)
        return message

    def silence(self) -> LinkError:
        """Return why no answer came."""
        return LinkError(self._monitor.explain(self._address))

    def renew(self) -> None:
        """Leave behind whatever was under way, if something was."""
        if self.closed:
            raise self._unusable()
        if self.stale:
            self._shut(linger_ms=0)
            self._open()

    def close(self, farewell: Message | None) -> None:
        """Disconnect, with a last message. Idempotent."""
        if self.closed:
            return
        if farewell is not None and not self.stale:
            self.send(farewell)
        self._shut(_FAREWELL_MS if farewell is not None else 0)
        self.closed = True
        self._context.term()

    def _open(self) -> None:
        self._socket = sockets.make(self._context, zmq.DEALER)
        self._socket.setsockopt(zmq.ROUTING_ID, self._identity)
        self._monitor = Monitor(self._socket)
        self._timeout_s = -1.0
        self.stale = False
        sockets.connect(self._socket, self._address, self._keys)

    def _shut(self, linger_ms: int) -> None:
        self._monitor.close()
        self._socket.close(linger=linger_ms)

    def _receive(self, flags: int) -> Control | None:
        try:
            frame = self._socket.recv(flags)
            if frame:
                return decode_control(frame)
        except zmq.Again:
            return None
        except msgspec.MsgspecError as error:
            self.stale = True
            raise LinkError(
                f"expected a message of protocol {PROTOCOL} from {self._address}, got "
                f"something else: {error}"
            ) from error
        return None  # an empty frame: the node asks the sockets whether we are here

    def _unusable(self) -> LinkError:
        if self.closed:
            return LinkError("expected an open client, and it was closed")
        return LinkError(
            "expected a new hello: an earlier call failed, and its answer may still "
            "be under way"
        )
