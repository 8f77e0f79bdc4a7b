"""The emulated controller's sockets, in a process of its own.

    30004  RTDE: versions, recipes, start, pause, data
    30003  scripts: any that ends is taken to be ur_rtde's control program
    29999  dashboard: the questions that ur_rtde asks, and `stop`

    python -m robostack.hardware.ur.emulator ur5e

prints its address (of this computer only) and then obeys lines of its standard input:
`protective_stop`, `release`, `cut`, ... (see `_ORDERS`); `tell` answers with one line
of JSON. It ends with its standard input. It is a process because ur_rtde keeps Python's
interpreter lock while it connects, so that no thread beside it could answer.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

from . import rtde
from .emulated_controller import COMMAND, TICK_S, Controller
from .models import MODELS
from .status import RobotMode, Runtime, Safety, name_of

RTDE_PORT, SCRIPT_PORT, DASHBOARD_PORT = 30004, 30003, 29999
POLYSCOPE = (5, 12, 0, 1101319)
SERIAL = "20235500001"
_LATE_S = 0.01  # further behind than this, its time stands still instead


class Session:
    """One client of the RTDE port."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._stream = bytearray()
        self._outputs = rtde.Recipe((), ())
        self._inputs: dict[int, rtde.Recipe] = {}
        self._every = 4  # ticks
        self.started = False

    @property
    def commands(self) -> bool:
        """Whether it owns the command register."""
        return any(COMMAND in recipe.names for recipe in self._inputs.values())

    def receive(self, data: bytes, *, taken: bool) -> bytes:
        """Return the answers to `data`; `taken`: another owns the command register."""
        self._stream += data
        answers = bytearray()
        for kind, payload in rtde.split(self._stream):
            if kind == rtde.DATA:
                self._write(payload)
            else:
                answers += rtde.package(kind, self._answer(kind, payload, taken=taken))
        return bytes(answers)

    def due(self, tick: int) -> bytes:
        """Return the data package of this tick, if it is time for one."""
        if not self.started or tick % self._every:
            return b""
        return self._outputs.pack(1, self._controller.variables())

    def _write(self, payload: bytes) -> None:
        if payload and payload[0] in self._inputs:
            self._controller.write(self._inputs[payload[0]].unpack(payload[1:]))

    def _answer(self, kind: int, payload: bytes, *, taken: bool) -> bytes:
        if kind == rtde.REQUEST_VERSION:
            return bytes([payload == b"\x00\x02"])
        if kind == rtde.CONTROLLER_VERSION:
            return b"".join(n.to_bytes(4, "big") for n in POLYSCOPE)
        if kind == rtde.SETUP_OUTPUTS:
            return self._set_outputs(payload)
        if kind == rtde.SETUP_INPUTS:
            return self._set_inputs(payload, taken=taken)
        if kind in (rtde.START, rtde.PAUSE):
            self.started = kind == rtde.START and self._outputs.known
            return b"\x01"
        return b""

    def _set_outputs(self, payload: bytes) -> bytes:
        frequency = rtde.Recipe(("f",), ("DOUBLE",)).unpack(payload[:8])["f"]
        self._every = max(1, round(1.0 / (TICK_S * max(frequency, 1.0))))
        self._outputs = rtde.recipe(payload[8:], inputs=False)
        return b"\x01" + ",".join(self._outputs.types).encode()

    def _set_inputs(self, payload: bytes, *, taken: bool) -> bytes:
        wanted = rtde.recipe(payload, inputs=True)
        if taken and COMMAND in wanted.names:
            return b"\x00" + b",".join([b"IN_USE"] * len(wanted.names))
        number = len(self._inputs) + 1
        self._inputs[number] = wanted
        return bytes([number]) + ",".join(wanted.types).encode()


class Emulator:
    """All sockets, and one clock."""

    def __init__(self, model: str) -> None:
        self._model = model
        self.controller = Controller(MODELS[model])
        self._selector = selectors.DefaultSelector()
        self._sessions: dict[socket.socket, Session] = {}
        self._frozen = self._over = False
        self.host = self._listen()
        self._selector.register(0, selectors.EVENT_READ, self._obey)

    def run(self) -> None:
        """Serve until the standard input ends."""
        tick, deadline = 0, time.monotonic()
        while not self._over:
            left_s = deadline - time.monotonic()
            for key, _ in self._selector.select(max(0.0, left_s)):
                if not self._frozen or key.data == self._obey:
                    key.data()
            if self._frozen:
                time.sleep(TICK_S)
            now = time.monotonic()
            if now < deadline:
                continue
            deadline = max(deadline + TICK_S, now - _LATE_S)
            tick += 1
            self.controller.step()
            if not self._frozen:
                self._publish(tick)

    def _publish(self, tick: int) -> None:
        for client, session in list(self._sessions.items()):
            if package := session.due(tick):
                self._send(client, package)

    def _listen(self) -> str:
        while True:
            a, b, c = os.urandom(3)
            host = f"127.{a % 254 + 1}.{b}.{c % 254 + 1}"
            with contextlib.suppress(OSError), contextlib.ExitStack() as opened:
                for port, greet in _PORTS.items():
                    server = opened.enter_context(socket.create_server((host, port)))
                    call = _Accept(self, server, greet)
                    self._selector.register(server, selectors.EVENT_READ, call)
                opened.pop_all()
                return host

    def accept_rtde(self, client: socket.socket) -> None:
        """Serve a client of the RTDE port."""
        session = self._sessions[client] = Session(self.controller)

        def receive() -> None:
            taken = any(s.commands for s in self._sessions.values() if s is not session)
            try:
                if data := self._read(client):
                    self._send(client, session.receive(data, taken=taken))
            except ValueError:  # not a package
                self._drop(client)

        self._selector.register(client, selectors.EVENT_READ, receive)

    def accept_script(self, client: socket.socket) -> None:
        """Serve a client of the script port."""
        text = bytearray()

        def receive() -> None:
            text.extend(self._read(client))
            if text.startswith(b"def ") and text.endswith(b"\nend\n"):
                text.clear()
                self.controller.load()

        self._selector.register(client, selectors.EVENT_READ, receive)

    def accept_dashboard(self, client: socket.socket) -> None:
        """Serve a client of the dashboard."""
        self._send(client, b"Connected: Universal Robots Dashboard Server\n")

        def receive() -> None:
            for line in self._read(client).decode("ascii", "replace").splitlines():
                self._send(client, self._dashboard(line.strip()).encode() + b"\n")

        self._selector.register(client, selectors.EVENT_READ, receive)

    def _dashboard(self, line: str) -> str:
        controller = self.controller
        if line == "stop":
            controller.end_program()
            return "Stopped"
        answers = {
            "PolyscopeVersion": "URSoftware {}.{}.{}.{} (Jan 01 2022)".format(
                *POLYSCOPE
            ),
            "get serial number": SERIAL,
            "get robot model": self._model.upper().removesuffix("E"),
            "is in remote control": str(controller.remote).lower(),
            "robotmode": f"Robotmode: {controller.robot_mode.name}",
            "safetystatus": f"Safetystatus: {controller.safety.name}",
            "running": f"Program running: {controller.runtime == Runtime.PLAYING}",
        }
        return answers.get(line, f"could not understand: '{line}'")

    def _obey(self) -> None:
        data = os.read(0, 4096)
        self._over = not data
        for line in data.decode().split("\n"):
            word, _, rest = line.partition(" ")
            if word in _ORDERS:
                answer = _ORDERS[word](self, rest) or ""
                sys.stdout.write(answer + "\n")
                sys.stdout.flush()

    def tell(self) -> str:
        """Return the state of things as JSON."""
        c = self.controller
        told = {
            "position": c.position.tolist(),
            "velocity": c.velocity.tolist(),
            "target": c.target.tolist(),
            "servoing": c.servoing,
            "runtime": name_of(Runtime, c.runtime),
            "commands": {str(k): n for k, n in c.commands.items()},
            "watchdog_s": c.watchdog.patience_s if c.watchdog else None,
            "watchdog_trips": c.watchdog_trips,
            "clients": len(self._sessions),
        }
        return json.dumps(told)

    def cut(self, which: str) -> None:
        """Close every connection, or "commands" only; new ones are welcome."""
        for client in [k.fileobj for k in self._selector.get_map().values()]:
            if isinstance(client, socket.socket) and not _listens(client):
                session = self._sessions.get(client)
                if which != "commands" or (session and session.commands):
                    self._drop(client)

    def freeze(self, *, frozen: bool) -> None:
        """Neither hear nor say anything, as if the cable were out; or go on."""
        self._frozen = frozen

    def _read(self, client: socket.socket) -> bytes:
        try:
            data = client.recv(65536)
        except OSError:
            data = b""
        if not data:
            self._drop(client)
        return data

    def _send(self, client: socket.socket, data: bytes) -> None:
        try:
            client.sendall(data)
        except OSError:
            self._drop(client)

    def _drop(self, client: socket.socket) -> None:
        self._sessions.pop(client, None)
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(client)
        client.close()


class _Accept(NamedTuple):
    """What to do when somebody knocks."""

    emulator: Emulator
    server: socket.socket
    greet: Callable[[Emulator, socket.socket], None]

    def __call__(self) -> None:
        client, _ = self.server.accept()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.settimeout(1.0)
        self.greet(self.emulator, client)


def _listens(sock: socket.socket) -> bool:
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _mode(emulator: Emulator, name: str) -> None:
    emulator.controller.robot_mode = RobotMode[name]


def _remote(emulator: Emulator, name: str) -> None:
    emulator.controller.remote = name == "on"


_PORTS = {
    RTDE_PORT: Emulator.accept_rtde,
    SCRIPT_PORT: Emulator.accept_script,
    DASHBOARD_PORT: Emulator.accept_dashboard,
}
_ORDERS: dict[str, Callable[[Emulator, str], str | None]] = {
    "tell": lambda e, _: e.tell(),
    "protective_stop": lambda e, _: e.controller.trip(Safety.PROTECTIVE_STOPPED),
    "safeguard_stop": lambda e, _: e.controller.trip(Safety.SAFEGUARD_STOPPED),
    "emergency_stop": lambda e, _: e.controller.trip(Safety.ROBOT_EMERGENCY_STOPPED),
    "release": lambda e, _: e.controller.release(),
    "end_program": lambda e, _: e.controller.end_program(),
    "mode": _mode,
    "remote": _remote,
    "cut": lambda e, which: e.cut(which),
    "freeze": lambda e, _: e.freeze(frozen=True),
    "thaw": lambda e, _: e.freeze(frozen=False),
}


def main() -> None:
    """Serve the model that the command line names."""
    emulator = Emulator(sys.argv[1] if len(sys.argv) > 1 else "ur5e")
    sys.stdout.write(emulator.host + "\n")
    sys.stdout.flush()
    emulator.run()


if __name__ == "__main__":
    main()
