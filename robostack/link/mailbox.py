"""A client's socket: messages out, messages in, and why nothing came."""

from __future__ import annotations

import secrets
import time
import weakref

import zmq

from robostack.link import sockets
from robostack.link.errors import LinkError
from robostack.link.keys import ClientKeys
from robostack.link.monitor import Monitor
from robostack.messages import (
    PROTOCOL,
    UNREADABLE,
    Control,
    Message,
    decode_control,
    encode,
)

_NOW = int(zmq.DONTWAIT)  # a number: what is done with enums shows at this rate
_FAREWELL_MS = 100


class Mailbox:
    """A connection to one node that knows itself again after it broke."""

    def __init__(self, address: str, keys: ClientKeys | None) -> None:
        self.stale = False  # an answer may still come that nobody waits for
        self.closed = False
        self._address = address
        self._wire = _Wire(address, keys)
        self._socket = self._wire.open()
        self._timeout_s = -1.0  # of the socket, as it is set
        weakref.finalize(self, self._wire.close, 0)  # for owners who forget to close

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
            raise LinkError(
                f"the node at {self._address} takes messages more slowly than they "
                f"are sent, or is not there"
            ) from error

    def receive(self, timeout_s: float) -> Control | None:
        """Return the next message, or None: after `timeout_s`, or before."""
        if timeout_s != self._timeout_s:
            self._socket.setsockopt(zmq.RCVTIMEO, max(1, int(timeout_s * 1000)))
            self._timeout_s = timeout_s
        try:
            frame = self._socket.recv()
        except zmq.Again:
            return None
        return self._open(frame)

    def poll(self) -> Control | None:
        """Return the next message that is here already, or None."""
        try:
            frame = self._socket.recv(_NOW)
        except zmq.Again:
            return None
        return self._open(frame)

    def wait(self, timeout_s: float) -> Control | None:
        """Return the next message, or None after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        message = self.receive(timeout_s)
        while message is None and (left_s := deadline - time.monotonic()) > 0:
            message = self.receive(left_s)
        return message

    def silence(self) -> LinkError:
        """Return why no answer came."""
        return LinkError(self._wire.monitor.explain(self._address))

    def renew(self) -> None:
        """Leave behind whatever was under way, if something was."""
        if self.closed:
            raise self._unusable()
        if self.stale:
            self._wire.shut(0)
            self._socket = self._wire.open()
            self._timeout_s = -1.0
            self.stale = False

    def close(self, farewell: Message | None) -> None:
        """Disconnect, with a last message. Idempotent."""
        if self.closed:
            return
        if farewell is not None and not self.stale:
            self.send(farewell)
        self.closed = True
        self._wire.close(_FAREWELL_MS if farewell is not None else 0)

    def _open(self, frame: bytes) -> Control | None:
        if not frame:  # the node asks the sockets whether we are still here
            return None
        try:
            return decode_control(frame)
        except UNREADABLE as error:
            self.stale = True
            raise LinkError(
                f"expected a message of protocol {PROTOCOL} from {self._address}, got "
                f"something else: {error}"
            ) from error

    def _unusable(self) -> LinkError:
        if self.closed:
            return LinkError("expected an open client, and it was closed")
        return LinkError(
            "expected a new hello: an earlier call failed, and its answer may still "
            "be under way"
        )


class _Wire:
    """What ZMQ holds for a mailbox; knows nothing of it, and so can outlive it.

    A context that is collected with an open socket waits for it, for ever.
    """

    def __init__(self, address: str, keys: ClientKeys | None) -> None:
        self._address = address
        self._keys = keys
        self._identity = secrets.token_bytes(16)  # the same after `shut` and `open`
        self._context: sockets.Context = zmq.Context()

    def open(self) -> sockets.Socket:
        """Connect."""
        self._socket = sockets.make(self._context, zmq.DEALER)
        self._socket.setsockopt(zmq.ROUTING_ID, self._identity)
        self.monitor = Monitor(self._socket)
        sockets.connect(self._socket, self._address, self._keys)
        return self._socket

    def shut(self, linger_ms: int) -> None:
        """Disconnect, `linger_ms` after the last message at the latest."""
        if not self._socket.closed:
            self.monitor.close()
            self._socket.close(linger=linger_ms)

    def close(self, linger_ms: int) -> None:
        """Disconnect for good. Idempotent."""
        self.shut(linger_ms)
        self._context.term()
