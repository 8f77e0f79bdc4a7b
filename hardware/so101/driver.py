"""The driver of the SO-101: what moves it, holds it and lets go of it.

    connect   look, enable nothing
    reset     goal := where it is, torque on, slowly home        (homing)
    read      one question to all servos: state, faults, and whether torque is still on
    apply     torque still on? then goals, each with its speed and acceleration
    stop      goal := where it is, of every joint that has torque    (holding)
    park      slowly home, if it is healthy and we gave it torque
    close     stop, then less and less torque, then none             (release)

Torque is enabled by `reset` only. A servo whose power was cut forgets its torque, so
that it is found out before anything is sent to it: no goal outlives a power cycle.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import NamedTuple

from robostack.clock import Clock, MonotonicClock
from robostack.robot import Ending
from robostack.spec import Array, Image, float32

from .._servo_bus import PATIENCE_S, BusError, ServoError
from . import arm, kinematics
from .bus import Bus
from .calibration import Calibration
from .holding import hold
from .homing import go_home
from .release import lower
from .servos import Servos
from .surroundings import Surroundings, table_spec

log = logging.getLogger(__name__)


class Setup(NamedTuple):
    """Which arm it is, and how it is treated."""

    port: Callable[[], AbstractContextManager[str]]  # gives the port while it is needed
    calibration: Calibration  # of this very arm
    digest: str  # names that calibration
    ending: Ending = arm.ENDING
    care: arm.Care = arm.CARE
    lifeline: str = ""  # argument of `rescue`
    surroundings: Surroundings | None = None  # None: the arm alone
    patience_s: float = PATIENCE_S  # for an answer


class SO101:
    """An SO-101 follower arm.

    A lock guards the bus: the node reads and applies from one thread, and stops from
    others. `reset`, `park` and `close` let go of it between two moves.
    """

    def __init__(self, setup: Setup, clock: Clock | None = None) -> None:
        """Touch nothing yet."""
        self.spec = table_spec() if setup.surroundings else arm.SPEC
        self.ending = setup.ending
        self.lifeline = setup.lifeline
        self._setup = setup
        self._clock = clock or MonotonicClock()
        self._lock = threading.RLock()
        self._open = contextlib.ExitStack()
        self._servos: Servos | None = None
        self._firmware = ""
        self._stops = 0  # so often was stop() called

    def connect(self) -> None:
        """Open the port, and see that six healthy calibrated servos answer.

        Raises:
            BusError: the port does not open, or a servo does not answer.
            ServoError: a servo is of another kind, state or calibration.
        """
        with self._lock:
            if self._servos is not None:
                return
            setup = self._setup
            names = dict(zip(setup.calibration.ids, arm.JOINTS, strict=True))
            with contextlib.ExitStack() as opening:
                path = opening.enter_context(setup.port())
                bus = Bus(path, names, setup.patience_s)
                opening.callback(bus.close)
                servos = Servos(bus, setup.calibration, setup.care)
                self._firmware = servos.inspect()
                for seer in setup.surroundings or ():
                    opening.callback(seer.close)
                    seer.open()
                self._servos, self._open = servos, opening.pop_all()

    def facts(self) -> dict[str, str]:
        """Return what is true of this very arm."""
        port = self.lifeline.partition("@")[0]
        digest = self._setup.digest
        return {"calibration": digest, "firmware": self._firmware, "port": port}

    def reset(self) -> None:
        """Switch torque on where the arm is, and move it home slowly.

        Raises:
            BusError: a servo does not answer.
            ServoError: a joint is far outside its limits, is blocked, or is ill; or
                somebody stopped it on the way.
        """
        stops = self._stops
        with self._stopping_on_errors():
            with self._lock:
                servos = self._connected()
                start = servos.energize(lambda: self._check_stops(stops))
            go_home(servos, start, self._clock, lambda: self._turn(stops))

    def read(self) -> dict[str, Array]:
        """Return joint positions, where that puts the tip, and the cube if it is seen.

        Raises:
            BusError: a servo does not answer, or only garbage.
            ServoError: a servo reports a fault, is too hot, or lost its torque.
        """
        with self._lock:
            servos = self._connected()
            angles = servos.radians(servos.healthy().position)
        reading = {
            "joint_position": float32(angles),
            "tip_position": float32(kinematics.tip(angles)),
        }
        if self._setup.surroundings is not None:
            sighting = self._setup.surroundings.tracker.sighting()
            reading["cube_position"] = float32(sighting.position).copy()
        return reading

    def frames(self) -> dict[str, Image]:
        """Return the newest frames; the arm alone has no cameras."""
        around = self._setup.surroundings
        return around.eyes.frames() if around is not None else {}

    def ages(self) -> dict[str, float]:
        """Return the age [s] of what other eyes than the servos' see."""
        around = self._setup.surroundings
        if around is None:
            return {}
        return {
            "cube_position": around.tracker.sighting().age_s,
            **around.eyes.ages(),
        }

    def apply(self, action: Array) -> Array:
        """Send targets (6,) [rad]; return them as sent: within limits, whole ticks.

        Raises:
            BusError: a servo does not answer.
            ServoError: torque is not on, or no longer on; only `reset` gives it.
        """
        goal = self._setup.calibration.ticks(self.spec.action.validate(action))
        with self._lock:
            servos = self._connected()
            servos.check_torque()
            servos.send(goal)
        return self.spec.action.clip(float32(servos.radians(goal)))

    def stop(self) -> None:
        """Hold every joint that has torque where it is; give torque to none."""
        self._stops += 1
        try:
            with self._lock:
                self._hold()
        except Exception as error:  # the last thing that stands when all else failed
            log.warning("could not hold the arm: %s", error)

    def park(self) -> None:
        """Move home slowly if the arm has our torque and is healthy; else do nothing.

        Raises:
            BusError, ServoError: see `reset`.
        """
        stops = self._stops
        with self._lock:
            servos = self._servos
            if servos is None or not servos.armed:
                return
        with self._stopping_on_errors():
            with self._turn(stops):
                start = servos.radians(servos.healthy().position)
            go_home(servos, start, self._clock, lambda: self._turn(stops))

    def close(self) -> None:
        """Hold; unless it is to be left so, let the arm down; and release the port."""
        self.stop()
        try:
            servos = self._servos
            if servos is not None and self.ending.close != "hold":
                lower(servos, self._clock, self._lock)
        except BusError as error:
            log.warning("could not let go of the arm, torque may be on: %s", error)
        finally:
            with self._lock:
                self._servos = None
                self._open.close()

    def _hold(self) -> None:
        if self._servos is None:
            return
        if missing := hold(self._servos):
            self._servos.disarm()
            log.warning("servos %s did not answer to a stop", missing)

    @contextlib.contextmanager
    def _stopping_on_errors(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.stop()
            raise

    @contextlib.contextmanager
    def _turn(self, stops: int) -> Iterator[None]:
        with self._lock:
            self._check_stops(stops)
            yield

    def _check_stops(self, stops: int) -> None:
        if self._stops != stops:
            raise ServoError("somebody stopped the arm on its way home")

    def _connected(self) -> Servos:
        if self._servos is None:
            raise BusError("the arm is not connected: expected connect() first")
        return self._servos
