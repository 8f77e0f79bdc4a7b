"""Hearing the watch socket of a node, on a thread that never waits for a disk.

Nothing may stall the socket itself: a full receive queue and a heartbeat that goes
unanswered meanwhile make libzmq abort the process (zeromq/libzmq issue 3937). So the
socket has no limit, the thread always reads, and the limit is here, in bytes.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from pathlib import Path

import zmq
from zmq.utils.monitor import recv_monitor_message

from robostack.link import endpoints, keys, sockets
from robostack.messages import UNREADABLE, Watch, decode_watch

log = logging.getLogger(__name__)

BACKLOG_BYTES = 256 * 1024 * 1024  # wait while the disk stalls; more are dropped
POLL_MS = 50
UP, DOWN = zmq.EVENT_HANDSHAKE_SUCCEEDED, zmq.EVENT_DISCONNECTED


class Listener:
    """The messages of one node, and whether the node is there."""

    def __init__(
        self,
        context: sockets.Context,
        endpoint: str,
        keyring: Path | None,
        *,
        backlog: int = BACKLOG_BYTES,
    ) -> None:
        """Connect, now or whenever the node is there; raises LinkError.

        More messages than `backlog` [byte] do not wait for `receive`, but are dropped.
        """
        self._backlog = backlog
        client = None if keyring is None else keys.load_client(keyring)
        self._socket = sockets.make(context, zmq.SUB)
        self._socket.setsockopt(zmq.RCVHWM, 0)
        self._socket.setsockopt(zmq.SUBSCRIBE, b"")
        self._events = self._socket.get_monitor_socket(UP | DOWN)
        sockets.connect(self._socket, endpoints.parse(endpoint).watch, client)
        self._frames: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._came, self._taken = 0, 0  # [byte]; each written by one thread
        self._changed_s = time.monotonic()
        self._up = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self.heard = False  # whether the node was ever there
        self.dropped = 0  # messages that did not fit
        self.unreadable = 0  # messages
        self._thread.start()

    def receive(self, timeout_s: float) -> Watch | None:
        """Return the next message, or None if none came in time."""
        try:
            frame = self._frames.get(timeout=timeout_s)
        except queue.Empty:
            return None
        self._taken += len(frame)
        try:
            return decode_watch(frame)
        except UNREADABLE as error:
            if not self.unreadable:
                log.warning("messages that cannot be read are left out: %s", error)
            self.unreadable += 1
            return None

    def gone_s(self) -> float:
        """Return for how long the node has been away [s]; 0 while it is there."""
        return 0.0 if self._up else time.monotonic() - self._changed_s

    def close(self) -> None:
        """Stop listening."""
        self._closing.set()
        self._thread.join()
        self._socket.disable_monitor()
        self._socket.close(0)

    def _listen(self) -> None:
        while not self._closing.is_set():
            self._follow()
            if self._socket.poll(POLL_MS):
                self._take(self._socket.recv())

    def _take(self, frame: bytes) -> None:
        if self._came - self._taken > self._backlog:
            if not self.dropped:
                log.warning("too many messages wait: some are dropped")
            self.dropped += 1
            return
        self._came += len(frame)
        self._frames.put(frame)

    def _follow(self) -> None:
        while self._events.poll(0):
            self._up = int(recv_monitor_message(self._events)["event"]) == UP
            self.heard |= self._up
            self._changed_s = time.monotonic()
