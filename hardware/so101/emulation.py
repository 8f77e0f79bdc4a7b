"""The driver's side of the emulator: starting it, ending it, and seeing by its eyes."""

from __future__ import annotations

import contextlib
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from robostack.spec import Image, float32

from .._servo_bus import BusError
from .control import TTY, Control, Finish
from .surroundings import Sighting

_START_S = 60.0  # imports, and compiling the world
_END_S = 5.0
LINGER_S = 5.0  # that it stays when whoever used it is gone: time for a rescue
_LOOK_S = 0.02  # between two looks at the cube


@contextlib.contextmanager
def emulation(folder: Path, *, alone: bool = False, seed: int = 0) -> Iterator[str]:
    """Run an emulator as a process; give its port. It outlives us if we are killed.

    Raises:
        BusError: it does not start.
    """
    command = [sys.executable, "-m", "robostack.hardware.so101.emulator"]
    command += ["--folder", str(folder), "--linger", str(LINGER_S), "--seed", str(seed)]
    process = subprocess.Popen(
        [*command, "--alone"] if alone else command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # nobody waits for the end of what outlives us
        start_new_session=True,  # Ctrl-C is not for it
    )
    try:
        _await(process)
        yield str(folder / TTY)
    finally:
        _end(process, folder)


def _await(process: subprocess.Popen[bytes]) -> None:
    stream = process.stdout
    assert stream is not None
    with stream:
        ready, _, _ = select.select([stream], [], [], _START_S)
        if not (ready and stream.readline()):
            raise BusError(
                f"expected the emulator to start within {_START_S:g} s; see what "
                f"'{sys.executable} -m robostack.hardware.so101.emulator' says"
            )


def _end(process: subprocess.Popen[bytes], folder: Path) -> None:
    with contextlib.suppress(OSError), contextlib.closing(Control(folder)) as control:
        control.ask(Finish())
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class EmulatedTracker:
    """Sees the twin's cube, from a thread of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._over = threading.Event()
        self._newest: tuple[float, tuple[float, ...]] | None = None
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Start to look."""
        control = Control(self._folder)
        self._look(control)
        self._over.clear()
        self._thread = threading.Thread(
            target=self._watch, args=(control,), name="tracker", daemon=True
        )
        self._thread.start()

    def sighting(self) -> Sighting:
        """Return the newest sighting."""
        if self._newest is None:
            raise BusError("the tracker is not open: expected connect() first")
        stamp_s, position = self._newest
        return Sighting(float32(position), time.monotonic() - stamp_s)

    def close(self) -> None:
        """Cease to look."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _watch(self, control: Control) -> None:
        with contextlib.closing(control), contextlib.suppress(OSError):
            while not self._over.wait(_LOOK_S):
                self._look(control)  # if it ends, the age says so

    def _look(self, control: Control) -> None:
        seen = control.look()
        self._newest = seen.now_s, seen.cube


class EmulatedEyes:
    """The twin's cameras; each look asks for new frames and waits for them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._control: Control | None = None

    def open(self) -> None:
        """Connect, and look once."""
        self._control = Control(self._folder)
        self.frames()

    def frames(self) -> dict[str, Image]:
        """Return the newest frames."""
        if self._control is None:
            raise BusError("the cameras are not open: expected connect() first")
        drawn = self._control.draw()
        return {
            name: np.frombuffer(pixels, np.uint8).reshape(height, width, 3).copy()
            for name, (height, width, pixels) in drawn.frames.items()
        }

    def ages(self) -> dict[str, float]:
        """Return nothing: each frame is drawn when it is asked for."""
        return {}

    def close(self) -> None:
        """Hang up."""
        if self._control is not None:
            self._control.close()
            self._control = None
