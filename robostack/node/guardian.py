"""A small process that acts for a node which died without a farewell.

    node --- pipe ---> guardian      "bye": ends. End of the pipe without it: rescue

A robot whose actuators run on by themselves (a servo bus without a watchdog) needs one:
its plug-in module has `rescue(argument, how)`. The guardian has everything imported
before it says that it is ready, and a session of its own, so that Ctrl-C in the node's
terminal does not reach it. A guardian that dies is a FAULT; another takes its place.

What it cannot see: a node that lives and hangs (the node's own guard thread sees that),
and a computer that stops.
"""

from __future__ import annotations

import contextlib
import logging
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

from robostack import plugins
from robostack.robot import Robot, ending_of

log = logging.getLogger(__name__)

_READY, _BYE = b"ready", b"bye"
_START_S = 30.0  # imports
_END_S = 5.0
_NOT_SOONER_S = 1.0  # between a guardian's death and the next guardian


class GuardianError(RuntimeError):
    """There is nobody to act if the node dies."""


class Ward(NamedTuple):
    """Who is to be rescued, and how."""

    kind: str
    name: str
    argument: str
    how: str


def ward_of(address: str, robot: Robot) -> Ward | None:
    """Return what a guardian has to know; None if the robot needs none."""
    if not address.startswith("hardware:"):
        return None
    kind, name, argument = plugins.parse(address)
    if not hasattr(plugins.load(kind, name), "rescue"):
        return None
    lifeline: str = getattr(robot, "lifeline", argument)
    return Ward(kind, name, lifeline, ending_of(robot).orphan)


@contextlib.contextmanager
def guarded(ward: Ward | None, lost: Callable[[str], object]) -> Iterator[None]:
    """Keep a guardian for as long as this lasts; `lost` hears if one dies.

    Raises:
        GuardianError: it does not start.
    """
    if ward is None:
        yield
        return
    guardian = Guardian(ward, lost)
    try:
        yield
    finally:
        guardian.close()


class Guardian:
    """The node's end: starts the process, notices its death, says farewell."""

    def __init__(self, ward: Ward, lost: Callable[[str], object]) -> None:
        self._ward = ward
        self._lost = lost
        self._over = threading.Event()
        self._turn = threading.Lock()  # to start one, or to end it for good
        self.process = _start(ward)
        self._thread = threading.Thread(target=self._watch, name="guardian")
        self._thread.daemon = True
        self._thread.start()

    def close(self) -> None:
        """Say farewell: nothing is to be done any more."""
        with self._turn:
            self._over.set()
            _dismiss(self.process)
        self._thread.join(_END_S)

    def _watch(self) -> None:
        while True:
            code = self.process.wait()
            if self._over.is_set():
                return
            self._lost(
                f"the guardian process ended (exit code {code}): nobody would act if "
                f"this node died"
            )
            if self._over.wait(_NOT_SOONER_S):
                return
            self._replace()

    def _replace(self) -> None:
        """Start another guardian, unless it is over.

        Where none starts, the dead one is missed again: no fault is cleared for long.
        """
        with self._turn:
            if self._over.is_set():
                return
            _hang_up(self.process)
            try:
                self.process = _start(self._ward)
            except GuardianError as error:
                log.warning("%s", error)


def _start(ward: Ward) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-m", "robostack.node.guardian", *ward],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    stream = process.stdout
    assert stream is not None
    with stream:
        ready, _, _ = select.select([stream], [], [], _START_S)
        if ready and stream.readline().strip() == _READY:
            return process
    process.kill()
    process.wait()
    _hang_up(process)
    raise GuardianError(
        f"expected a guardian for {ward.kind}:{ward.name} within {_START_S:g} s, it "
        f"ended with code {process.returncode}"
    )


def _dismiss(process: subprocess.Popen[bytes]) -> None:
    _hang_up(process, _BYE)
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _hang_up(process: subprocess.Popen[bytes], word: bytes = b"") -> None:
    assert process.stdin is not None
    with contextlib.suppress(OSError):
        process.stdin.write(word)
    with contextlib.suppress(OSError):
        process.stdin.close()


def main(ward: Ward) -> int:
    """Wait for the end of the node; rescue its robot if it came without a farewell."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the pipe alone says when
    module = plugins.load(ward.kind, ward.name)
    module.make(ward.argument)  # which imports all that a rescue needs
    sys.stdout.write(_READY.decode() + "\n")
    sys.stdout.flush()
    if sys.stdin.buffer.read() == _BYE:
        return 0
    module.rescue(ward.argument, ward.how)
    return 1


if __name__ == "__main__":
    sys.exit(main(Ward(*sys.argv[1:])))
