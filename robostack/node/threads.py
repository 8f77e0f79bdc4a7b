"""The two threads that act when the control thread cannot: guard and stop."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator

from robostack.link.node_end import Stop as StopSocket
from robostack.messages import UNREADABLE, Stop, Stopped, decode_stop, encode
from robostack.node.journal import Journal
from robostack.node.realtime import urgent
from robostack.node.supervisor import Supervisor

_LOOK_S = 0.1  # how often a thread with nothing to do looks whether to end


@contextlib.contextmanager
def watching(
    supervisor: Supervisor, journal: Journal, stop: StopSocket
) -> Iterator[None]:
    """Run the guard and the stop thread for as long as this lasts."""
    over = threading.Event()
    threads = [
        threading.Thread(target=_guard, args=(supervisor, over), name="guard"),
        threading.Thread(
            target=_listen, args=(supervisor, journal, stop, over), name="stop"
        ),
    ]
    for thread in threads:
        thread.daemon = True  # a stuck driver must not keep a dying node alive
        thread.start()
    try:
        yield
    finally:
        over.set()
        supervisor.changed.set()
        for thread in threads:
            thread.join(timeout=2.0)


def _guard(supervisor: Supervisor, over: threading.Event) -> None:
    """Sleep until the watchdog may expire, look, and sleep again."""
    with urgent():
        while not over.is_set():
            left_s = supervisor.guard()
            if left_s > 0:
                supervisor.changed.wait(None if math.isinf(left_s) else left_s)
            supervisor.changed.clear()


def _listen(
    supervisor: Supervisor,
    journal: Journal,
    socket: StopSocket,
    over: threading.Event,
) -> None:
    with urgent():
        _stop(supervisor, journal, socket, over)


def _stop(
    supervisor: Supervisor,
    journal: Journal,
    socket: StopSocket,
    over: threading.Event,
) -> None:
    """Latch ESTOP for anybody who asks; a request that is none changes nothing."""
    while not over.is_set():
        frame = socket.receive(_LOOK_S)
        if frame is None:
            continue
        try:
            message = decode_stop(frame)
        except UNREADABLE:
            message = None
        if isinstance(message, Stop):
            supervisor.leave("estop", f"stopped by {message.who!r}")
            socket.reply(encode(Stopped(supervisor.machine.state)))
        else:
            journal.refuse("malformed", "not a stop request")
            socket.reply(b"")
