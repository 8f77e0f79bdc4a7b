"""A process that records every episode of a node: watch socket -> one MCAP file each.

    node PUB --Opened, Step, Frame, Event, Closed--> recorder --> 2026...Z_arm_7.mcap

    python -m robostack.node.recorder tcp://127.0.0.1:5555 recordings/

It says on stdout, a line each: `ready` once it hears the node, `recording FILE`, `saved
FILE`. SIGTERM, or the death of the process that started it, closes the open recording
properly. When it cannot write, it says so in one sentence and exits with 1; what it had
written stays, and `robostack data repair` makes recordings of it.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import zmq

from robostack.data.recording_write import RecordingWriter
from robostack.link import sockets
from robostack.link.errors import LinkError
from robostack.messages import Closed, Event, Frame, Opened, Step, Watch
from robostack.node.listener import Listener

log = logging.getLogger(__name__)

FLUSH_S = 0.4  # so much is lost at most when it is killed
SILENCE_S = 5.0  # a recording is closed so long after its node went away
LAST_S, QUIET_S = 1.0, 0.25  # what is taken in after we were told to stop
SETTLE_S = 0.05  # from the handshake until the node has read what we subscribe to

Say = Callable[[str, str], None]


class RecorderError(RuntimeError):
    """It cannot go on recording; one sentence."""


class Session:
    """What to do with each message; knows files, not sockets."""

    def __init__(self, folder: Path, say: Say) -> None:
        self._folder = folder
        self._say = say
        self._recording: RecordingWriter | None = None
        self.unclaimed = 0  # steps of no episode that was seen to open

    @property
    def busy(self) -> bool:
        """Whether an episode is open."""
        return self._recording is not None

    def take(self, message: Watch) -> None:
        """Record one message of the node."""
        if isinstance(message, Opened):
            self.finish(None, "the node opened another episode without closing it")
            self._recording = RecordingWriter(self._folder, message)
            self._say("recording", str(self._recording.path))
        elif self._recording is None or message.generation < self._recording.generation:
            self.unclaimed += isinstance(message, Step)
        elif isinstance(message, Closed):
            self.finish(message, "")
        else:
            _record(self._recording, message)

    def flush(self) -> None:
        """Bring what there is to the disk."""
        if self._recording is not None:
            self._recording.flush()

    def finish(self, closed: Closed | None, incomplete: str) -> None:
        """Close the open recording, if there is one."""
        if self._recording is not None:
            path = self._recording.close(closed, incomplete)
            if self._recording.missed:
                log.warning("%s: %d steps never came", path, self._recording.missed)
            self._recording = None
            self._say("saved", str(path))

    def abandon(self) -> None:
        """Leave the open recording partial."""
        if self._recording is not None:
            self._recording.abandon()
            self._recording = None


def record(
    endpoint: str,
    folder: Path,
    *,
    keyring: Path | None = None,
    say: Say = lambda *_: None,
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Record the episodes of the node at `endpoint` into `folder`, until `stopped`.

    `say(word, detail)` hears `ready`, `recording FILE` and `saved FILE`.

    Raises:
        RecorderError: nothing can be written; what was is left partial.
        LinkError: `endpoint` or the keys are no good.
    """
    session = Session(folder, say)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _listening(endpoint, keyring) as listener:
            _serve(listener, session, say, stopped)
        session.finish(None, "the recorder was stopped")
    except OSError as error:
        session.abandon()
        raise RecorderError(
            f"cannot record into {folder}: {error.strerror or error}; robostack data "
            f"repair {folder} recovers what was written"
        ) from error


@contextlib.contextmanager
def _listening(endpoint: str, keyring: Path | None) -> Iterator[Listener]:
    context: sockets.Context = zmq.Context()
    try:
        with contextlib.closing(Listener(context, endpoint, keyring)) as listener:
            yield listener
    finally:
        context.destroy(linger=0)


def _serve(
    listener: Listener, session: Session, say: Say, stopped: Callable[[], bool]
) -> None:
    ready, flushed_s = False, time.monotonic()
    while not stopped():
        heard = listener.heard
        message = listener.receive(timeout_s=SETTLE_S)
        if message is not None:
            session.take(message)
        if not ready and (heard or message is not None):
            ready = True
            say("ready", "")
        if time.monotonic() - flushed_s > FLUSH_S:
            session.flush()
            flushed_s = time.monotonic()
        if message is None and session.busy and listener.gone_s() > SILENCE_S:
            session.finish(None, "the node went away")
    _take_the_rest(listener, session)


def _take_the_rest(listener: Listener, session: Session) -> None:
    """Record what was on its way when we were told to stop.

    An episode that goes on keeps us for `LAST_S`; one that ended, or a node that is
    idle, for `QUIET_S` at most.
    """
    told_s = time.monotonic()
    while time.monotonic() - told_s < (LAST_S if session.busy else QUIET_S):
        message = listener.receive(QUIET_S)
        if message is None:
            return
        session.take(message)


def _record(recording: RecordingWriter, message: Watch) -> None:
    match message:
        case Step():
            recording.step(message)
        case Frame():
            recording.frame(message)
        case Event():
            recording.event(message)


class _Stop:
    """Whether SIGTERM came, or the process that started us is gone."""

    def __init__(self) -> None:
        self._told = False
        self._parent = os.getppid()
        self._orphaned_s: float | None = None
        signal.signal(signal.SIGTERM, self._tell)
        signal.signal(signal.SIGINT, self._tell)

    def __call__(self) -> bool:
        """Return whether to stop; an orphan waits for the node to close the episode."""
        if self._orphaned_s is None and os.getppid() != self._parent:
            self._orphaned_s = time.monotonic()
        orphaned_s = self._orphaned_s
        late = orphaned_s is not None and time.monotonic() - orphaned_s > SILENCE_S
        return self._told or late

    def _tell(self, _number: int, _frame: FrameType | None) -> None:
        self._told = True


def _say(word: str, detail: str) -> None:
    with contextlib.suppress(BrokenPipeError):  # an orphan still has a file to close
        sys.stdout.write(f"{word} {detail}".rstrip() + "\n")
        sys.stdout.flush()


def main(arguments: list[str] | None = None) -> int:
    """Record until told to stop; return the exit status."""
    parser = argparse.ArgumentParser(prog="robostack.node.recorder")
    parser.add_argument("endpoint", help="of the node, as its clients connect to it")
    parser.add_argument("folder", type=Path, help="where recordings go")
    parser.add_argument("--keyring", type=Path, help="folder of CURVE keys")
    given = parser.parse_args(arguments)
    try:
        record(
            given.endpoint,
            given.folder,
            keyring=given.keyring,
            say=_say,
            stopped=_Stop(),
        )
    except (RecorderError, LinkError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
