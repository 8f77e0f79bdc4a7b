"""An emulated SO-101 as a process of its own, so that it outlives who talks to it.

    python -m robostack.hardware.so101.emulator      prints its port, ends by Ctrl-C

Any program that knows STS3215 servos can open that port. Behind it is the MuJoCo twin
`sim:so101_table` in real time; without mujoco, or with --alone, servos that move each
for itself. Beside the port, in its folder, is the socket of control.py.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import secrets
import select
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from . import registers as r
from .control import (
    SOCKET,
    TTY,
    Answer,
    Draw,
    Drawn,
    Finish,
    History,
    Question,
    Seen,
    Spoil,
    Written,
    decode_question,
    packed,
)
from .emulated_bus import Emulator, so101
from .twin import Twin, lacking

FIRST_USE_S = 60.0  # to open the port for the first time
_LOOK_S = 0.1
_PORTION_S = 0.02
_QUESTION = 4096  # [byte] at most


def new_folder() -> Path:
    """Return a folder name for an emulator that is none yet."""
    name = f"robostack-so101-{os.getpid()}-{secrets.token_hex(4)}"
    return Path(tempfile.gettempdir()) / name


class Desk:
    """Answers the questions of control.py about one emulator."""

    def __init__(self, bus: Emulator, twin: Twin | None) -> None:
        self.over = threading.Event()
        self._bus = bus
        self._twin = twin

    def answer(self, question: Question) -> Answer:
        """Do what is asked; return what came of it."""
        if isinstance(question, Draw):
            frames = self._twin.frames() if self._twin else {}
            return Drawn(time.monotonic(), packed(frames))
        with self._bus.lock:
            if isinstance(question, History):
                return self._written(question.since)
            if isinstance(question, Spoil):
                self._spoil(question)
            elif isinstance(question, Finish):
                self.over.set()
            return self._seen()

    def _seen(self) -> Seen:
        bus = self._bus
        bus.settle()
        memories = [servo.memory for servo in bus.servos]
        return Seen(
            now_s=time.monotonic(),
            position=tuple(servo.position for servo in bus.servos),
            goal=tuple(r.GOAL_POSITION.get(m) for m in memories),
            torque=tuple(servo.torque for servo in bus.servos),
            torque_limit=tuple(r.TORQUE_LIMIT.get(m) for m in memories),
            cube=tuple(self._twin.cube()) if self._twin else (),
            written=len(bus.written),
        )

    def _written(self, since: int) -> Written:
        rows = zip(self._bus.written_s[since:], self._bus.written[since:], strict=True)
        return Written(
            [(when, p.servo, p.instruction, p.parameters) for when, p in rows]
        )

    def _spoil(self, faults: Spoil) -> None:
        bus = self._bus
        for name in ("corrupt", "lost", "latency_s", "replays"):
            if (value := getattr(faults, name)) is not None:
                setattr(bus, name, value)
        if faults.unplugged is not None:
            bus.unplugged = set(faults.unplugged)
        if faults.power is not None:
            bus.power(on=faults.power)
        for servo in bus.servos:
            if servo.id == faults.servo and faults.temperature is not None:
                servo.temperature = faults.temperature
            if servo.id == faults.servo and faults.errors is not None:
                servo.stuck_errors = faults.errors


def serve(desk: Desk, listener: socket.socket, bus: Emulator, linger_s: float) -> None:
    """Answer until asked to end, or until nobody used the emulator for `linger_s`."""
    clients: list[socket.socket] = []
    deadline = time.monotonic() + max(FIRST_USE_S, linger_s)
    while not desk.over.is_set() and time.monotonic() < deadline:
        ready, _, _ = select.select([listener, *clients], [], [], _LOOK_S)
        for one in ready:
            if one is listener:
                clients.append(listener.accept()[0])
            elif not _reply(desk, one):
                clients.remove(one)
                one.close()
        used_s = time.monotonic() if clients else bus.used_s
        if used_s > -math.inf:
            deadline = used_s + linger_s
    for client in clients:
        client.close()


def _reply(desk: Desk, client: socket.socket) -> bool:
    """Answer one question; return whether the client is still there."""
    try:
        frame = client.recv(_QUESTION)
        if not frame:
            return False
        client.sendall(msgspec.msgpack.encode(desk.answer(decode_question(frame))))
    except (OSError, msgspec.MsgspecError):
        return False
    return True


@contextlib.contextmanager
def _folder(path: Path, tty: str) -> Iterator[socket.socket]:
    """Offer the terminal and a listening socket in a folder that is this user's."""
    path.mkdir(mode=0o700)
    try:
        (path / TTY).symlink_to(tty)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(str(path / SOCKET))
            listener.listen()
            yield listener
    finally:
        shutil.rmtree(path, ignore_errors=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Emulate an arm until told to end."""
    parser = argparse.ArgumentParser(description="An emulated SO-101 servo bus.")
    parser.add_argument("--folder", type=Path, help="where the port and its socket go")
    parser.add_argument("--linger", type=float, default=math.inf, help="seconds unused")
    parser.add_argument("--seed", type=int, default=0, help="where arm and cube start")
    parser.add_argument("--alone", action="store_true", help="servos without a world")
    flags = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    missing = [] if flags.alone else lacking()
    if missing:
        sys.stderr.write(f"no {', '.join(missing)} here: servos without a world\n")
    twin = None if flags.alone or missing else Twin(flags.seed)
    bus = Emulator(twin.servos(), None, twin.advance, _PORTION_S) if twin else so101()
    folder = flags.folder or new_folder()
    with contextlib.ExitStack() as stack:
        if twin is not None:
            stack.callback(twin.close)
        stack.enter_context(bus)
        listener = stack.enter_context(_folder(folder, bus.path))
        stack.enter_context(contextlib.suppress(KeyboardInterrupt))
        sys.stdout.write(f"{folder / TTY}\n")
        sys.stdout.flush()
        serve(Desk(bus, twin), listener, bus, flags.linger)
    return 0


if __name__ == "__main__":
    sys.exit(main())
