"""The node's end of the link: three sockets, each used by one thread at a time.

control   ROUTER, of the control thread alone
watch     XPUB, behind the lock of whoever publishes; never blocks in real time
stop      REP, of the stop thread alone
"""

from __future__ import annotations

import contextlib
import select
from collections.abc import Iterator

import zmq

from robostack.link import endpoints, sockets
from robostack.link.keys import NodeKeys
from robostack.messages import Message, encode

_PATIENCE_MS = 2000  # in lockstep, how long a full watcher may hold everything up
_FAREWELL_MS = 300  # for the last messages of a node that ends
# What a node takes in is small: one frame that says it is longer is hung up on.
CONTROL_BYTES, WATCH_BYTES, STOP_BYTES = 256 * 1024, 1024, 4096
_SOCKETS = (
    (zmq.ROUTER, CONTROL_BYTES),
    (zmq.XPUB, WATCH_BYTES),
    (zmq.REP, STOP_BYTES),
)
_QUEUE = 100  # messages of one client that wait for the control thread
_MOST_PARTS = 1000  # of a message that is none of ours, thrown away at a time
_MOST_EVENTS = 100  # subscriptions taken in at a time
_MOST_TOPICS = 1000  # remembered
_BACKLOG = 1000  # messages for each watcher
_NOW = int(zmq.DONTWAIT)  # as numbers: an "or" of enums costs as much as a send
_MORE_NOW = int(zmq.SNDMORE | zmq.DONTWAIT)


class Control:
    """Request socket; every client is known by the identity its socket chose."""

    def __init__(self, socket: sockets.Socket) -> None:
        self._socket = socket
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._socket.setsockopt(zmq.ROUTER_HANDOVER, 1)  # a client that reconnects
        self._timeout_s = -1.0  # of the socket, as it is set
        self._skipping = False  # in the middle of a message that is no message

    def receive(self, timeout_s: float) -> tuple[bytes, bytes] | None:
        """Return (identity, frame) of the next message, or None after `timeout_s`."""
        if timeout_s != self._timeout_s:
            self._socket.setsockopt(zmq.RCVTIMEO, int(timeout_s * 1000))
            self._timeout_s = timeout_s
        return self._receive(0)

    def poll(self) -> tuple[bytes, bytes] | None:
        """Return (identity, frame) of the next message, or None if there is none."""
        return self._receive(_NOW)

    def wait(self, timeout_s: float) -> None:
        """Return when there may be something to `poll`, at the latest at the time-out.

        ZMQ's own time-outs count whole milliseconds. The descriptor signals edges only:
        call this after `poll` returned None.
        """
        select.select([self._socket.FD], [], [], timeout_s)

    def send(self, identity: bytes, frame: bytes) -> bool:
        """Send without waiting; return whether the client is still there."""
        try:
            self._socket.send(identity, _MORE_NOW)
            self._socket.send(frame, _NOW)
        except zmq.Again:  # it is there, and does not read
            return True
        except zmq.ZMQError as error:
            if error.errno == zmq.EHOSTUNREACH:
                return False
            raise
        return True

    def _receive(self, flags: int) -> tuple[bytes, bytes] | None:
        socket = self._socket
        if self._skipping and not self._skip():
            return None
        try:
            identity = socket.recv(flags)
        except zmq.Again:
            return None
        frame = socket.recv(copy=False)  # knows about more parts; the option is slower
        if not frame.more:
            return identity, frame.bytes
        self._skipping = True  # none of our messages has another part
        return identity, b""

    def _skip(self) -> bool:
        """Throw parts away, for a bounded time; return whether all are gone."""
        for _ in range(_MOST_PARTS):
            if not self._socket.recv(_NOW, copy=False).more:
                self._skipping = False
                return True
        return False


class Watch:
    """Publishing socket."""

    def __init__(self, socket: sockets.Socket, *, lockstep: bool) -> None:
        self._socket = socket
        self._topics: set[bytes] = set()
        self._patient = lockstep
        self.dropped = 0  # messages that no watcher got, since one was full
        socket.setsockopt(zmq.XPUB_NODROP, int(lockstep))
        socket.setsockopt(zmq.SNDTIMEO, _PATIENCE_MS)

    def watched(self) -> bool:
        """Return whether anybody listens."""
        for _ in range(_MOST_EVENTS):  # the control thread has other things to do
            try:
                event = self._socket.recv(zmq.DONTWAIT)
            except zmq.Again:
                break
            if event[:1] != b"\x01":
                self._topics.discard(event[1:])
            elif len(self._topics) < _MOST_TOPICS:
                self._topics.add(event[1:])
        return bool(self._topics)

    def send(self, message: Message) -> None:
        """Publish `message`.

        In real time, watchers that are full miss it. In lockstep the world waits for
        them, since its time can wait; once one was full for two seconds, no longer.
        """
        try:
            self._socket.send(encode(message))
        except zmq.Again:
            self.dropped += 1
            self._patient = False
            self._socket.setsockopt(zmq.XPUB_NODROP, 0)


class Stop:
    """Reply socket for the stop path."""

    def __init__(self, socket: sockets.Socket) -> None:
        self._socket = socket

    def receive(self, timeout_s: float) -> bytes | None:
        """Return the next request, or None after `timeout_s` or before.

        A message without the envelope of a REQ is announced, and then thrown away by
        ZMQ: whoever waits for it waits for the next one, however late that comes.
        """
        if not self._socket.poll(int(timeout_s * 1000)):
            return None
        try:
            parts = self._socket.recv_multipart(zmq.DONTWAIT)
        except zmq.Again:
            return None
        return parts[0] if len(parts) == 1 else b""

    def reply(self, frame: bytes) -> None:
        """Answer the request received last."""
        self._socket.send(frame, zmq.DONTWAIT)


class NodeEnd:
    """All three."""

    def __init__(self, control: Control, watch: Watch, stop: Stop) -> None:
        self.control = control
        self.watch = watch
        self.stop = stop


@contextlib.contextmanager
def open_node_end(
    endpoint: str, *, lockstep: bool, keys: NodeKeys | None, backlog: int = _BACKLOG
) -> Iterator[NodeEnd]:
    """Listen at `endpoint` for as long as this lasts.

    So many messages wait for a watcher that is stuck; it misses those that follow.

    Raises:
        LinkError: see `sockets.bind`.
    """
    where = endpoints.parse(endpoint)
    context: sockets.Context = zmq.Context()
    try:
        with sockets.authenticated(context, keys):
            control, watch, stop = (
                _listen(context, kind, max_bytes, backlog, address, keys)
                for (kind, max_bytes), address in zip(_SOCKETS, where, strict=True)
            )
            yield NodeEnd(Control(control), Watch(watch, lockstep=lockstep), Stop(stop))
    finally:
        context.destroy(linger=_FAREWELL_MS)


def _listen(
    context: sockets.Context,
    kind: int,
    max_bytes: int,
    backlog: int,
    address: str,
    keys: NodeKeys | None,
) -> sockets.Socket:
    socket = sockets.make(context, kind, max_bytes)
    socket.setsockopt(zmq.RCVHWM, _QUEUE)
    if kind == zmq.XPUB:
        socket.setsockopt(zmq.SNDHWM, backlog)
    sockets.bind(socket, address, keys)
    return socket
