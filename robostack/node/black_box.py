"""The last minute of a node, kept in memory, and written when something goes wrong.

    journal --Step, Event--> rings --FAULT, ESTOP, SIGUSR1--> a process --> MCAP

Keeping a message is one encoding and one append, whatever may happen to disks. The file
is made by a process of its own, since formatting a minute would take the interpreter
from the control thread, which may be driving when somebody asks at will.
"""

from __future__ import annotations

import itertools
import os
import queue
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from robostack.clock import Clock
from robostack.messages import Event, Message, Opened, Step, encode
from robostack.spec import RobotSpec

SPAN_S = 60.0
_EVENTS = 10_000  # changes of state and the like, and as many refusals
_SETTLE_S = 0.25  # after a cause: what follows from it belongs into the file
_WRITE_S = 60.0  # for the process that writes
_END_S = 20.0  # for a last file when the node ends

Say = Callable[[str], None]
Entry = tuple[int, bytes]  # number, in the order in which things happened; message


class About(NamedTuple):
    """Whose black box it is."""

    address: str
    robot: RobotSpec


def default_folder() -> Path:
    """Return where black boxes go if nobody says otherwise."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "robostack" / "black-box"


class BlackBox:
    """Rings of what happened, and a thread that has them written."""

    def __init__(self, about: About, folder: Path, clock: Clock) -> None:
        """Keep nothing yet.

        Args:
            about: whose it is.
            folder: where files go; made when it is needed.
            clock: the node's.
        """
        self.say: Say = lambda _: None  # one sentence for every file, on our thread
        self._about = about
        self._folder = folder
        self._clock = clock
        self._number = itertools.count()
        steps = round(SPAN_S / about.robot.control_period_s)
        self._steps: deque[Entry] = deque(maxlen=steps)
        self._events: deque[Entry] = deque(maxlen=_EVENTS)
        self._refusals: deque[Entry] = deque(maxlen=_EVENTS)
        self._causes: queue.SimpleQueue[str] = queue.SimpleQueue()  # "": the end
        self._thread = threading.Thread(target=self._work, name="black box")
        self._thread.daemon = True
        self._thread.start()

    def step(self, step: Step) -> None:
        """Keep a period."""
        self._steps.append((next(self._number), encode(step)))

    def event(self, event: Event) -> None:
        """Keep a line of the log."""
        self._events.append((next(self._number), encode(event)))

    def refusal(self, event: Event) -> None:
        """Keep a refusal, where a flood of them drives out nothing else."""
        self._refusals.append((next(self._number), encode(event)))

    def write(self, cause: str) -> None:
        """Have all that is kept written soon; returns at once, also in a signal."""
        self._causes.put(cause or "asked for")

    def close(self) -> None:
        """Write what was asked for, and end the thread."""
        self._causes.put("")
        self._thread.join(_END_S)

    def _work(self) -> None:
        while first := self._causes.get():
            causes, over = self._settle(first)
            self.say(self._file("; ".join(causes)))
            if over:
                return

    def _settle(self, first: str) -> tuple[list[str], bool]:
        """Return the causes that come within a moment, and whether this is the end."""
        causes, deadline = [first], time.monotonic() + _SETTLE_S
        while (left_s := deadline - time.monotonic()) > 0:
            try:
                cause = self._causes.get(timeout=left_s)
            except queue.Empty:
                break
            if not cause:
                return causes, True
            causes.append(cause)
        return causes, False

    def _file(self, cause: str) -> str:
        """Have a process write a file; return a sentence about it."""
        command = [sys.executable, "-m", "robostack.node.black_box_writer"]
        command += [str(self._folder)]
        try:
            run = subprocess.run(
                command,
                input=msgspec.msgpack.encode(self._messages(cause)),
                capture_output=True,
                timeout=_WRITE_S,
                check=False,
                start_new_session=True,  # Ctrl-C is for the node
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"the black box was not written: {error}"
        lines = (run.stdout if run.returncode == 0 else run.stderr).decode().split("\n")
        said = next((line for line in reversed(lines) if line.strip()), "")
        if run.returncode == 0:
            return f"black box written to {said}"
        return f"the black box was not written: {said}"

    def _messages(self, cause: str) -> list[bytes]:
        """Return what is kept, in order, behind a message that says what it is."""
        rings = (self._steps, self._events, self._refusals)
        entries = sorted(itertools.chain(*(ring.copy() for ring in rings)))
        return [encode(self._opened(cause)), *(frame for _, frame in entries)]

    def _opened(self, cause: str) -> Message:
        return Opened(
            generation=0,
            stamp_s=self._clock.now(),
            wall_ns=time.time_ns(),
            address=self._about.address,
            robot=self._about.robot,
            client="",
            artefact="",
            seed=None,
            labels={"black_box": cause},
        )
