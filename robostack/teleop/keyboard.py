"""Keys of the terminal move one joint at a time; no window system is needed.

1 to 9, or up and down   choose a joint
+ and -, or right, left  move it
space                    take over from the policy, and give back
enter                    end the episode
"""

from __future__ import annotations

import os
import select
import sys
import termios
import threading
import tty

from robostack.spec import Array, RobotSpec
from robostack.teleop.jog import Jog
from robostack.teleop.teleoperator import TeleopError

_KEYS = {  # what a key does; a terminal sends arrows as three characters
    "\x1b[A": "up",
    "\x1b[B": "down",
    "\x1b[C": "more",
    "\x1b[D": "less",
    "+": "more",
    "=": "more",
    "-": "less",
    " ": "take",
    "\n": "finish",
    "\r": "finish",
}
_POLL_S = 0.1


class Keyboard:
    """The keys of a terminal, read on a thread of its own."""

    help = (
        "keys: 1-9 or up/down choose a joint, +/- or right/left move it, "
        "space takes over and gives back, enter ends the episode"
    )

    def __init__(self, robot: RobotSpec, fd: int | None = None) -> None:
        self.intervening = False
        self.finished = False
        self.chosen = 0  # element that keys move
        self._jog = Jog(robot)
        self._fd = fd
        self._lock = threading.Lock()
        self._before: list[object] | None = None  # how the terminal was
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="keys", daemon=True)

    def connect(self) -> None:
        """Take the keys as they are pressed; Ctrl-C keeps its meaning."""
        if self._fd is None:
            self._fd = terminal()
        if self._fd is None:
            raise TeleopError(
                "expected a terminal for the keyboard, got something else as standard "
                "input: run it in a terminal, or use a gamepad or a leader arm"
            )
        self._before = termios.tcgetattr(self._fd)
        tty.setcbreak(self._fd)
        self._thread.start()

    def begin(self) -> None:
        """Heed that an episode begins."""
        self.finished = False

    def start(self, action: Array) -> None:
        """Go on from `action` (A,)."""
        with self._lock:
            self._jog.start(action)

    def read(self) -> Array:
        """Return the action (A,) wanted now."""
        with self._lock:
            return self._jog.advance()

    def close(self) -> None:
        """Give the terminal back as it was."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join(1.0)
        if self._before is not None and self._fd is not None:
            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)  # type: ignore[arg-type]
            self._before = None

    def press(self, key: str) -> None:
        """Do what `key` stands for; unknown keys do nothing."""
        names = self._jog.names
        with self._lock:
            if key.isdigit() and 0 < int(key) <= len(names):
                self.chosen = int(key) - 1
            does = _KEYS.get(key, "")
            if does in ("up", "down"):
                self.chosen = (self.chosen + (1 if does == "down" else -1)) % len(names)
            elif does in ("more", "less"):
                self._jog.push(self.chosen, 1.0 if does == "more" else -1.0)
            elif does == "take":
                self.intervening = not self.intervening
            elif does == "finish":
                self.finished = True

    def _listen(self) -> None:
        assert self._fd is not None
        while not self._ending.is_set():
            ready, _, _ = select.select([self._fd], [], [], _POLL_S)
            if ready:
                for key in keys(os.read(self._fd, 64).decode(errors="ignore")):
                    self.press(key)


def terminal() -> int | None:
    """Return the descriptor of standard input if that is a terminal."""
    try:
        fd = sys.stdin.fileno()
    except (OSError, ValueError):  # it is closed, or not a file
        return None
    return fd if os.isatty(fd) else None


def keys(text: str) -> list[str]:
    """Return the keys in what a terminal sent: characters and arrows."""
    found = []
    while text:
        size = 3 if text.startswith("\x1b[") else 1
        found.append(text[:size])
        text = text[size:]
    return found
