"""Single keys from a terminal, without waiting for a line, and without echo."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import tty
from collections.abc import Callable, Iterator

_VSUSP = b"\x00"  # Ctrl-Z would suspend whoever controls a robot

Keys = Callable[[float], str]


@contextlib.contextmanager
def keyboard(descriptor: int) -> Iterator[Keys | None]:
    """Give a function that waits [s] for keys and returns them, "" if none came.

    None where `descriptor` is not the terminal that we are in the foreground of: a
    process in the background that reads is stopped by the system. Ctrl-C still
    interrupts; Ctrl-Z does nothing. The terminal is as before afterwards.
    """
    if not _ours(descriptor):
        yield None
        return
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor, termios.TCSANOW)
    attributes = termios.tcgetattr(descriptor)
    attributes[6][termios.VSUSP] = _VSUSP
    termios.tcsetattr(descriptor, termios.TCSANOW, attributes)
    try:
        yield lambda timeout_s: _read(descriptor, timeout_s)
    finally:
        with contextlib.suppress(termios.error):  # the terminal was closed
            termios.tcsetattr(descriptor, termios.TCSANOW, before)


def stdin() -> int:
    """Return the descriptor of standard input; -1, which is no terminal, without."""
    try:
        return sys.stdin.fileno()
    except (AttributeError, OSError, ValueError):  # closed, or not a file
        return -1


def _ours(descriptor: int) -> bool:
    """Return whether it is a terminal, and we are in its foreground or it has none."""
    if not os.isatty(descriptor):
        return False
    try:
        foreground = os.tcgetpgrp(descriptor)
    except OSError:  # not the terminal that controls us: nobody is in the foreground
        return True
    return foreground in {0, os.getpgrp()}


def _read(descriptor: int, timeout_s: float) -> str:
    ready, _, _ = select.select([descriptor], [], [], timeout_s)
    if not ready or not _ours(descriptor):
        return ""
    try:
        return os.read(descriptor, 64).decode(errors="replace")
    except OSError:  # the terminal was closed
        return ""
