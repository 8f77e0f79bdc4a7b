"""The driver of an e-series arm: what moves it, and what makes it hold.

    connect   look, send no program
    reset     send the control program, set its watchdog, slowly home
    read      measurements; raises what the safety system says; feeds the watchdog
    apply     servoj for one period
    stop      brake, and hold
    close     brake, end the program: the controller holds the arm

After a safety stop or a lost connection nothing is sent until the next `reset`, which
starts a new program and refuses while the cause lasts. Only a person at the pendant can
clear a stop.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np

from robostack.clock import Clock, MonotonicClock, Ticker
from robostack.robot import Ending
from robostack.spec import Array, Image, float32

from .connection import Connection, ConnectionLostError, Identity
from .kinematics import rotation
from .models import CARE, PERIOD_S, Care, Model, make_spec
from .status import Runtime, State, name_of, stops

log = logging.getLogger(__name__)


class StoppedError(RuntimeError):
    """The controller forbids motion, or a joint does not do as it is told."""


class UR:
    """An arm of the e-series.

    A lock guards the connection: the node reads and applies from one thread, and stops
    from others. `reset` lets go of it between two targets.
    """

    def __init__(
        self,
        host: Callable[[], AbstractContextManager[str]],
        model: Model,
        *,
        clock: Clock | None = None,
        care: Care = CARE,
    ) -> None:
        """Touch nothing yet; `host` gives the controller's address while needed."""
        self.spec = make_spec(model, care)
        self.ending = Ending(
            safe="hold", close="hold", orphan="hold", orphan_s=1 / care.watchdog_hz
        )  # all by the controller: no guardian is needed
        self._model = model
        self._host = host
        self._clock = clock or MonotonicClock()
        self._care = care
        self._lock = threading.RLock()
        self._open = contextlib.ExitStack()
        self._address = ""
        self._connection: Connection | None = None
        self._identity: Identity | None = None
        self._servoing = False
        self._sent_s = -math.inf  # when the watchdog was last fed
        self._age_s = 0.0
        self._stops = 0  # so often was stop() called

    def connect(self) -> None:
        """See that this arm is there, on, and takes orders from the network.

        Raises:
            ConnectionLostError: nobody answers.
            StoppedError: it is another arm, under local control, off, or stopped.
        """
        with self._lock:
            if self._connection is not None:
                return
            with contextlib.ExitStack() as opening:
                self._address = opening.enter_context(self._host())
                connection = Connection(self._address, self._care)
                opening.callback(connection.close)
                self._identity = connection.identify()
                self._check_identity(self._identity)
                _refuse_stops(connection.state())
                self._connection, self._open = connection, opening.pop_all()

    def reset(self) -> None:
        """Start the control program where the arm is, and move it home slowly.

        Raises:
            ConnectionLostError: the controller does not answer.
            StoppedError: it forbids motion, a joint is blocked, or stop() was called.
        """
        stops_before = self._stops
        try:
            start = self._start()
            self._travel(start, stops_before)
        except BaseException:
            self.stop()
            raise

    def read(self) -> dict[str, Array]:
        """Return the newest measurements.

        Raises:
            ConnectionLostError: nothing new came.
            StoppedError: the controller stopped the arm or its program; says why.
        """
        with self._lock:
            connection = self._checked()
            sample = connection.sample()
            self._age_s = sample.age_s
            self._feed(connection)
        turn = rotation(sample.pose[3:])
        return {
            "joint_position": float32(sample.position),
            "joint_velocity": float32(sample.velocity),
            "tip_position": float32(sample.pose[:3]),
            "tip_axes": float32(turn[:, :2].T.reshape(-1)),
            "tip_wrench": float32(sample.wrench),
        }

    def ages(self) -> dict[str, float]:
        """Return how old [s] the newest reading was when it was read."""
        return dict.fromkeys(self.spec.observation, self._age_s)

    def facts(self) -> dict[str, str]:
        """Return which controller this is; nothing before `connect`."""
        if self._identity is None:
            return {}
        return {
            "model": self._identity.model,
            "serial": self._identity.serial,
            "polyscope": self._identity.polyscope,
        }

    def frames(self) -> dict[str, Image]:
        """Return nothing: it has no cameras."""
        return {}

    def apply(self, action: Array) -> Array:
        """Send targets (6,) [rad]; return them as sent: within limits.

        Raises:
            ConnectionLostError: they did not come through.
            StoppedError: the controller forbids motion; only `reset` goes on.
        """
        target = self.spec.action.clip(self.spec.action.validate(action))
        with self._lock:
            self._servo(self._checked(), target)
        return target

    def stop(self) -> None:
        """Brake and hold, if it was moving on our behalf."""
        self._stops += 1
        try:
            with self._lock:
                self._brake()
        except Exception as error:  # the last thing that stands when all else failed
            log.warning("could not brake; the controller's watchdog will: %s", error)

    def close(self) -> None:
        """Brake, end the control program, and let go of the connection."""
        self.stop()
        with self._lock:
            connection, self._connection = self._connection, None
            try:
                if connection is not None:
                    connection.close()
            except ConnectionLostError as error:
                log.warning("the control program was left to its watchdog: %s", error)
            finally:
                self._open.close()

    def _check_identity(self, found: Identity) -> None:
        size = self._model.name.removesuffix("e").upper()
        if found.model.upper().removesuffix("E") != size:
            raise StoppedError(f"expected a {self._model.name}, got a {found.model}")
        if not found.remote:
            raise StoppedError(
                "the robot is under local control: choose Remote Control at the pendant"
            )

    def _start(self) -> Array:
        """Start a new control program; return where the arm is [rad]."""
        with self._lock:
            connection = self._reconnected()
            _refuse_stops(connection.state())
            if (slider := connection.speed_slider()) < 1.0:
                raise StoppedError(
                    f"the speed slider is at {slider:.0%}, expected 100 %: below, the "
                    f"arm would lag behind its targets"
                )
            if not self._is_playing(connection):
                self._servoing = False
                connection.start()
            else:  # ur_rtde may have sent it again, without a watchdog
                connection.set_watchdog()
            self._sent_s = self._clock.now()
            return float32(connection.sample().position)

    def _reconnected(self) -> Connection:
        connection = self._connected()
        try:
            connection.state()
        except ConnectionLostError:
            with contextlib.suppress(ConnectionLostError):
                connection.close()
            self._connection = connection = Connection(self._address, self._care)
        return connection

    def _is_playing(self, connection: Connection) -> bool:
        return connection.commanding and connection.state().runtime == Runtime.PLAYING

    def _travel(self, start: Array, stops_before: int) -> None:
        """Move along the straight line of joint angles from `start` to home."""
        care, home = self._care, float32(self.spec.home)
        way = home - start
        seconds = float(np.abs(way).max()) / care.homing_speed
        steps = max(1, math.ceil(seconds / PERIOD_S))
        ticker = Ticker(self._clock, PERIOD_S)
        for k in range(1, steps + 1):
            target = float32(start + way * k / steps)
            self._go(target, care.lag, stops_before, "is blocked on the way home")
            ticker.wait()
        deadline = self._clock.now() + care.settle_s
        while self._clock.now() < deadline:
            if self._go(home, care.lag, stops_before, "is blocked") <= care.arrival:
                return
            ticker.wait()
        self._go(home, care.arrival, stops_before, "did not come home")

    def _go(self, target: Array, lag: float, stops_before: int, words: str) -> float:
        """Send a target; return how far [rad] the arm is from it, if within `lag`."""
        with self._lock:
            if self._stops != stops_before:
                raise StoppedError("somebody stopped the arm on its way home")
            connection = self._checked()
            self._servo(connection, target)
            apart = np.abs(connection.sample().position - target)
        if apart.max() > lag:
            name = self.spec.action.names[int(apart.argmax())]
            raise StoppedError(f"{name} {words}: {apart.max():.2f} rad from its target")
        return float(apart.max())

    def _servo(self, connection: Connection, target: Array) -> None:
        care, goal = self._care, target.astype(np.float64).tolist()
        connection.command(
            lambda c: c.servoJ(goal, 0.0, 0.0, PERIOD_S, care.lookahead_s, care.gain)
        )
        self._servoing, self._sent_s = True, self._clock.now()

    def _brake(self) -> None:
        connection = self._connection
        if connection is None or not self._servoing:
            return
        self._servoing = False
        if not self._is_playing(connection):
            return  # the controller has stopped it already
        connection.ask(lambda c: c.servoStop(self._care.braking))
        connection.ask(lambda c: c.stopJ(self._care.braking_joint))
        connection.set_watchdog()  # in case that it had to be sent again
        self._sent_s = self._clock.now()

    def _feed(self, connection: Connection) -> None:
        """Feed the watchdog, unless a target just did: it would overwrite that."""
        now = self._clock.now()
        if connection.commanding and now - self._sent_s > PERIOD_S:
            connection.command(lambda c: c.kickWatchdog())
            self._sent_s = now

    def _checked(self) -> Connection:
        """Return the connection; raise and send no more if anything is wrong."""
        connection = self._connected()
        try:
            state = connection.state()
            _refuse_stops(state)
            if connection.commanding and state.runtime != Runtime.PLAYING:
                found = name_of(Runtime, state.runtime)
                raise StoppedError(
                    f"the control program is {found}, expected PLAYING: its watchdog, "
                    f"the pendant or another client ended it"
                )
        except (ConnectionLostError, StoppedError):
            connection.drop()
            raise
        return connection

    def _connected(self) -> Connection:
        if self._connection is None:
            raise ConnectionLostError("not connected: expected connect() first")
        return self._connection


def _refuse_stops(state: State) -> None:
    for words in stops(state):
        raise StoppedError(words)
