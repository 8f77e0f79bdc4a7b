"""The connection to a controller through ur_rtde; the only file that imports it.

What ur_rtde (1.6) does by itself, and what is done about it here:

- Its constructors and destructors keep Python's interpreter lock: every port is tried
  first, with a time-out, so that they return within milliseconds or are not called.
- Commands "succeed" while the connection is down, or open a new one and send the
  control program again, without its watchdog. `command` looks before and after, and at
  the time it took; `State` tells when the program was not running. After any of these,
  nothing is sent until `start`.
- Commands that wait for the program do so for up to 300 s if the cable is pulled just
  then: a thread of their own asks, and they are given up after `answer_s`.
- Letting go of a lost connection waits for its attempts to reconnect: in a thread, too.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import dashboard_client
import numpy as np
import numpy.typing as npt
import rtde_control
import rtde_receive

from . import rtde
from .models import Care
from .status import Runtime, State

RTDE_PORT, SCRIPT_PORT, DASHBOARD_PORT = 30004, 30003, 29999
_RECEIVE_HZ, _CONTROL_HZ = 125.0, 500.0
_POLL_S = 0.005
_RESENDING_S = 0.1  # what ur_rtde waits at least when it sends the program again
_T = TypeVar("_T")
_VARIABLES = [
    "timestamp",
    "actual_q",
    "actual_qd",
    "actual_TCP_pose",
    "actual_TCP_force",
    "robot_mode",
    "runtime_state",
    "safety_status_bits",
    "target_speed_fraction",
]


class ConnectionLostError(ConnectionError):
    """The controller does not answer, or not as one that can be trusted."""


class Sample(NamedTuple):
    """What the arm measures."""

    position: npt.NDArray[np.float64]  # (6,) [rad]
    velocity: npt.NDArray[np.float64]  # (6,) [rad/s]
    pose: npt.NDArray[np.float64]  # (6,) [m], rotation vector [rad]
    wrench: npt.NDArray[np.float64]  # (6,) [N], [Nm]
    age_s: float  # since the package that it is from was first seen


class Identity(NamedTuple):
    """Which controller this is."""

    model: str
    serial: str
    polyscope: str
    remote: bool


class Connection:
    """A receiving connection; and, between `start` and `end`, a program that obeys."""

    def __init__(self, host: str, care: Care) -> None:
        """Open the receiving connection.

        Raises:
            ConnectionLostError: a port is closed, or the controller refuses.
        """
        self._host = host
        self._care = care
        self._control: Any = None
        self._dropped: list[Any] = []
        self._leaving: list[threading.Thread] = []
        self._stamp, self._seen_s = -1.0, time.monotonic()
        self._try_port(DASHBOARD_PORT)
        self._try_rtde()
        self._receive = _call(
            lambda: rtde_receive.RTDEReceiveInterface(host, _RECEIVE_HZ, _VARIABLES),
            f"expected an RTDE server at {host}:{RTDE_PORT}",
        )

    def identify(self) -> Identity:
        """Ask the dashboard who it is, and whether it takes orders."""

        def ask() -> Identity:
            client = dashboard_client.DashboardClient(self._host)
            client.connect(round(self._care.connect_s * 1000))
            try:
                return Identity(
                    client.getRobotModel(),
                    client.getSerialNumber(),
                    client.polyscopeVersion(),
                    client.isInRemoteControl(),
                )
            finally:
                client.disconnect()

        return _call(ask, f"expected a dashboard server at {self._host}")

    @property
    def commanding(self) -> bool:
        """Whether a control program was started, and nothing happened to it since."""
        return self._control is not None

    def state(self) -> State:
        """Return whether the arm may move.

        Raises:
            ConnectionLostError: nothing new came for too long.
        """
        self._check_fresh()
        r = self._receive
        return State(r.getRobotMode(), r.getRuntimeState(), r.getSafetyStatusBits())

    def sample(self) -> Sample:
        """Return the newest measurements; see `state`."""
        age_s = self._check_fresh()
        r = self._receive
        return Sample(
            np.array(r.getActualQ()),
            np.array(r.getActualQd()),
            np.array(r.getActualTCPPose()),
            np.array(r.getActualTCPForce()),
            age_s,
        )

    def speed_slider(self) -> float:
        """Return what the pendant's speed slider is at, from 0 to 1."""
        return float(self._receive.getTargetSpeedFraction())

    def start(self) -> None:
        """Send the control program, and set its watchdog.

        Raises:
            ConnectionLostError: it does not run.
        """
        self.release()
        self._try_port(SCRIPT_PORT)
        self._try_rtde()
        control = _call(
            lambda: rtde_control.RTDEControlInterface(self._host, _CONTROL_HZ),
            "the control program does not start",
        )
        deadline = time.monotonic() + self._care.start_s
        while self.state().runtime != Runtime.PLAYING:
            if time.monotonic() > deadline:
                raise ConnectionLostError("the control program does not start")
            time.sleep(_POLL_S)
        self._control = control
        self.set_watchdog()

    def set_watchdog(self) -> None:
        """Let the controller end the program when commands stay away; see `ask`."""
        self.ask(lambda c: c.setWatchdog(self._care.watchdog_hz))

    def command(
        self, what: Callable[[Any], Any], within_s: float = _RESENDING_S
    ) -> None:
        """Let the control program do something that it need not confirm.

        Raises:
            ConnectionLostError: it cannot have come through as it should.
        """
        control = self._control
        if control is None:
            raise ConnectionLostError("no control program runs: expected reset() first")
        began_s = time.monotonic()
        try:
            good = control.isConnected() and what(control) is not False
        except Exception as error:  # of ur_rtde: many kinds, std::exception at worst
            self.drop()
            raise ConnectionLostError(f"a command failed: {error}") from error
        slow = time.monotonic() - began_s >= within_s
        if not good or slow or not control.isConnected():
            self.drop()
            raise ConnectionLostError(
                "the controller took no command: the connection was lost, or the "
                "control program ended"
            )

    def ask(self, what: Callable[[Any], Any]) -> None:
        """Let the control program do something, and wait until it says that it has.

        Raises:
            ConnectionLostError: it did not say so in time.
        """
        self.state()
        failed: list[ConnectionLostError] = []

        def run() -> None:
            try:
                self.command(what, self._care.answer_s)
            except ConnectionLostError as error:
                failed.append(error)

        thread = threading.Thread(target=run, name="ur command", daemon=True)
        thread.start()
        thread.join(self._care.answer_s)
        if thread.is_alive():
            self.drop()
            raise ConnectionLostError("the control program does not answer")
        if failed:
            raise failed[0]

    def drop(self) -> None:
        """Send nothing more through this control program; its watchdog ends it."""
        if self._control is not None:
            self._dropped.append(self._control)
            self._control = None

    def release(self) -> None:
        """Let go of the control program, after asking it to end.

        Raises:
            ConnectionLostError: it did not; or an older connection still lingers.
        """
        if self._control is not None:
            self.ask(lambda c: c.stopScript())
            self._control = None  # its destructor waits for half a second
        while self._dropped:
            leaving = threading.Thread(
                target=self._dropped.pop().disconnect, name="ur farewell", daemon=True
            )
            leaving.start()
            leaving.join(self._care.start_s)
            self._leaving.append(leaving)
        self._leaving = [thread for thread in self._leaving if thread.is_alive()]
        if self._leaving:
            raise ConnectionLostError(
                "a lost connection still tries to come back: wait for it, or restart"
            )

    def close(self) -> None:
        """Let go of everything; see `release`."""
        try:
            self.release()
        finally:
            self.drop()
            self._receive = None

    def _check_fresh(self) -> float:
        receive = self._receive
        if receive is None or not receive.isConnected():
            raise ConnectionLostError(f"lost the connection to {self._host}")
        stamp, now = receive.getTimestamp(), time.monotonic()
        if stamp != self._stamp:
            self._stamp, self._seen_s = stamp, now
        age_s = now - self._seen_s
        if age_s > self._care.stale_s:
            raise ConnectionLostError(
                f"nothing new from {self._host} for {age_s:.2f} s: is the cable in?"
            )
        return age_s

    def _try_port(self, port: int) -> None:
        try:
            socket.create_connection((self._host, port), self._care.connect_s).close()
        except OSError as error:
            raise ConnectionLostError(
                f"cannot reach {self._host}:{port} ({error}): expected a controller "
                f"that is on, in this network, and with its services enabled"
            ) from error

    def _try_rtde(self) -> None:
        """See that data comes: ur_rtde would wait for it for ever."""
        try:
            with socket.create_connection(
                (self._host, RTDE_PORT), self._care.connect_s
            ) as probe:
                probe.settimeout(self._care.connect_s)
                for kind, payload in rtde.greeting():
                    probe.sendall(rtde.package(kind, payload))
                    _receive_one(probe, kind)
                _receive_one(probe, rtde.DATA)
        except (OSError, ValueError) as error:
            raise ConnectionLostError(
                f"expected RTDE data from {self._host}:{RTDE_PORT}, got: {error}"
            ) from error


def _receive_one(probe: socket.socket, kind: int) -> None:
    """Return when a package of `kind` has come; data may come before it."""
    stream = bytearray()
    while True:
        data = probe.recv(4096)
        if not data:
            raise ConnectionError("the connection was closed")
        stream += data
        if any(found == kind for found, _ in rtde.split(stream)):
            return


def _call(make: Callable[[], _T], sentence: str) -> _T:
    """Return `make()`, a call of ur_rtde; put what it raises in a sentence."""
    try:
        return make()
    except Exception as error:  # of ur_rtde: many kinds, std::exception at worst
        raise ConnectionLostError(f"{sentence}: {error}") from error
