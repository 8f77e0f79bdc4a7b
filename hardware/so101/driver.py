"""The driver of the SO-101: what moves it, holds it and lets go of it.

    connect   look, enable nothing
    reset     goal := where it is, torque on, slowly home
    read      one question to all servos: state, faults, and whether torque is still on
    apply     torque still on? then goals, each with its speed and acceleration
    stop      goal := where it is, of every joint that has torque
    close     stop, then less and less torque, then none

Torque is enabled by `reset` only. A servo whose power was cut forgets its torque, so
that it is found out before anything is sent to it: no goal outlives a power cycle.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager

import numpy as np

from robostack.clock import Clock, MonotonicClock, Ticker
from robostack.spec import Array, Image, float32

from . import arm, kinematics
from . import registers as r
from . import state as states
from .bus import Bus, BusError
from .calibration import RADIANS_PER_TICK, Calibration, Ticks
from .state import ServoError, State

log = logging.getLogger(__name__)

_LOWERING_TICK_S = 0.05
_HOLD_TRIES = 3


class SO101:
    """An SO-101 follower arm.

    A lock guards the bus: the node reads and applies from one thread, and stops from
    others. `reset` and `close` let go of it between two moves.
    """

    def __init__(
        self,
        port: Callable[[], AbstractContextManager[str]],
        calibration: Calibration,
        *,
        digest: str,
        clock: Clock | None = None,
        care: arm.Care = arm.CARE,
    ) -> None:
        """Touch nothing yet.

        Args:
            port: gives the path of the serial port, for as long as it is needed.
            calibration: of this very arm.
            digest: what the spec calls it.
            clock: by which it is moved home and lowered.
            care: how carefully.
        """
        self.spec = arm.with_calibration(digest)
        self._port = port
        self._calibration = calibration
        self._clock = clock or MonotonicClock()
        self._care = care
        self._lock = threading.RLock()
        self._open = contextlib.ExitStack()
        self._bus: Bus | None = None
        self._armed = False  # torque is on, and we did it
        self._stops = 0  # so often was stop() called

    def connect(self) -> None:
        """Open the port, and see that six healthy calibrated servos answer.

        Raises:
            BusError: the port does not open, or a servo does not answer.
            ServoError: a servo is of another kind, state or calibration.
        """
        with self._lock:
            if self._bus is not None:
                return
            names = dict(zip(self._calibration.ids, arm.JOINTS, strict=True))
            with contextlib.ExitStack() as opening:
                path = opening.enter_context(self._port())
                bus = Bus(path, names)
                opening.callback(bus.close)
                self._inspect(bus)
                self._bus, self._open = bus, opening.pop_all()

    def reset(self) -> None:
        """Switch torque on where the arm is, and move it home slowly.

        Raises:
            BusError: a servo does not answer.
            ServoError: a joint is far outside its limits, is blocked, or is ill; or
                somebody stopped it on the way.
        """
        stops = self._stops
        try:
            start = self._energize(stops)
            self._travel(start, stops)
        except BaseException:
            self.stop()
            raise

    def read(self) -> dict[str, Array]:
        """Return joint positions and where that puts the tip.

        Raises:
            BusError: a servo does not answer, or only garbage.
            ServoError: a servo reports a fault, is too hot, or lost its torque.
        """
        with self._lock:
            angles = self._radians(self._healthy().position)
        return {
            "joint_position": float32(angles),
            "tip_position": float32(kinematics.tip(angles)),
        }

    def frames(self) -> dict[str, Image]:
        """Return nothing: it has no cameras."""
        return {}

    def apply(self, action: Array) -> Array:
        """Send targets (6,) [rad]; return them as sent: within limits, whole ticks.

        Raises:
            BusError: a servo does not answer.
            ServoError: torque is not on, or no longer on; only `reset` gives it.
        """
        goal = self._calibration.ticks(self.spec.action.validate(action))
        with self._lock:
            self._check_torque()
            self._send(goal)
        return self.spec.action.clip(float32(self._radians(goal)))

    def stop(self) -> None:
        """Hold every joint that has torque where it is; give torque to none."""
        self._stops += 1
        try:
            with self._lock:
                self._hold()
        except Exception as error:  # the last thing that stands when all else failed
            log.warning("could not hold the arm: %s", error)

    def close(self) -> None:
        """Hold, let the arm down by less and less torque, and release the port."""
        self.stop()
        try:
            self._lower()
        except BusError as error:
            log.warning("could not let go of the arm, torque may be on: %s", error)
        finally:
            with self._lock:
                self._armed, self._bus = False, None
                self._open.close()

    def _inspect(self, bus: Bus) -> None:
        ids = self._calibration.ids
        bus.purge()
        bus.read(ids, 0, 6)  # names everyone who is silent
        for servo in ids:
            bus.ping(servo)
        state = states.parse(list(bus.read(ids, states.START, states.SIZE).values()))
        memories = list(bus.read(ids, 0, r.EEPROM_END).values())
        wrong = states.misfits(memories, state, self._calibration)
        _refuse([*wrong, *states.faults(state, self._care)])

    def _energize(self, stops: int) -> Array:
        """Switch torque on, goal where the arm is; return where that is [rad]."""
        with self._lock:
            self._armed = False
            bus, state = self._connected(), self._healthy()
            _refuse(self._outside(state))
            self._send(state.position, limits=True)
            seen = self._look()
            _refuse(
                f"{name} did not take its goal: nothing is moved"
                for name, ok in zip(
                    arm.JOINTS, seen.goal == state.position, strict=True
                )
                if not ok
            )
            self._check_stops(stops)
            for servo in self._calibration.ids:
                bus.write(servo, r.TORQUE_ENABLE, 1)
            self._armed = True
            self._healthy()
            return self._radians(state.position)

    def _travel(self, start: Array, stops: int) -> None:
        """Move along the straight line of joint angles from `start` to home."""
        care, home = self._care, np.array(arm.HOME)
        way = home - start
        seconds = float(np.abs(way).max()) / care.homing_speed
        steps = max(1, math.ceil(seconds / care.homing_tick_s))
        ticker = Ticker(self._clock, care.homing_tick_s)
        for k in range(1, steps + 1):
            with self._lock:
                self._check_stops(stops)
                state = self._healthy()
                _refuse(self._apart(state, state.goal, care.lag, "is blocked"))
                self._send(self._calibration.ticks(float32(start + way * k / steps)))
            ticker.wait()
        goal = self._calibration.ticks(float32(home))
        deadline = self._clock.now() + care.settle_s
        while True:
            with self._lock:
                self._check_stops(stops)
                apart = list(
                    self._apart(self._healthy(), goal, care.arrival, "is not home")
                )
            if not apart:
                return
            if self._clock.now() > deadline:
                _refuse(apart)
            ticker.wait()

    def _hold(self) -> None:
        if self._bus is None:
            return
        rest, missing = self._care.rest / RADIANS_PER_TICK, list[int]()
        for _ in range(_HOLD_TRIES):
            found, bad = self._bus.poll(
                self._calibration.ids, states.START, states.SIZE
            )
            missing = list(bad)
            state = states.parse(list(found.values()))
            away = state.torque & (np.abs(state.goal - state.position) > rest)
            if not away.any():
                break
            ids = np.array(list(found))[away].tolist()
            self._send_to(dict(zip(ids, state.position[away].tolist(), strict=True)))
        if missing:
            self._disarm()
            log.warning("servos %s did not answer to a stop", missing)

    def _lower(self) -> None:
        with self._lock:
            self._armed = False
            if self._bus is None or not self._look().torque.any():
                return
        ticker = Ticker(self._clock, _LOWERING_TICK_S)
        steps = max(1, round(self._care.lowering_s / _LOWERING_TICK_S))
        limits = np.array(self._care.torque_limit)
        ids = self._calibration.ids
        try:
            for k in range(1, steps + 1):
                left = (limits * (steps - k) // steps).tolist()
                rows = {
                    i: r.TORQUE_LIMIT.pack(x) for i, x in zip(ids, left, strict=True)
                }
                with self._lock:
                    self._connected().write_all(r.TORQUE_LIMIT.address, rows)
                ticker.wait()
        finally:
            self._release()

    def _release(self) -> None:
        """Take the torque off every servo that can be reached."""
        silent = []
        for servo in self._calibration.ids:
            try:
                with self._lock:
                    self._connected().write(servo, r.TORQUE_ENABLE, 0)
            except BusError as error:
                silent.append(str(error))
        if silent:
            raise BusError("; ".join(silent))

    def _healthy(self) -> State:
        """Return the state; raise and disarm if anything is wrong with it."""
        try:
            state = self._look()
            _refuse(states.faults(state, self._care))
            if self._armed:
                _refuse(states.lost_torque(state, self._care))
        except (BusError, ServoError):
            self._disarm()
            raise
        return state

    def _look(self) -> State:
        answers = self._connected().read(
            self._calibration.ids, states.START, states.SIZE
        )
        return states.parse(list(answers.values()))

    def _check_torque(self) -> None:
        """Refuse unless torque is on at this moment: it is not after a power cut."""
        if not self._armed:
            raise ServoError("torque is off: expected reset() before apply()")
        servos, start = self._calibration.ids, r.TORQUE_ENABLE.address
        try:
            answers = self._connected().read(servos, start, 1)
            _refuse(
                f"{name} lost its torque: power was cut, or it protects itself"
                for name, answer in zip(arm.JOINTS, answers.values(), strict=True)
                if answer.data != b"\x01"
            )
        except (BusError, ServoError):
            self._disarm()
            raise

    def _disarm(self) -> None:
        """Let nothing through until the next reset, and nothing that waits."""
        self._armed = False
        if self._bus is not None:
            self._bus.purge()

    def _check_stops(self, stops: int) -> None:
        if self._stops != stops:
            raise ServoError("somebody stopped the arm on its way home")

    def _send(self, goal: Ticks, *, limits: bool = False) -> None:
        ids = self._calibration.ids
        self._send_to(dict(zip(ids, goal.tolist(), strict=True)), limits=limits)

    def _send_to(self, goals: Mapping[int, int], *, limits: bool = False) -> None:
        """Send goals [tick], never without speed and acceleration beside them."""
        speed = r.GOAL_VELOCITY.pack(round(self._care.servo_speed / RADIANS_PER_TICK))
        quick = round(self._care.servo_acceleration / RADIANS_PER_TICK / 100)
        most = dict(zip(self._calibration.ids, self._care.torque_limit, strict=True))
        rows = {
            servo: r.ACCELERATION.pack(quick)
            + r.GOAL_POSITION.pack(goal)
            + r.GOAL_TIME.pack(0)
            + speed
            + (r.TORQUE_LIMIT.pack(most[servo]) if limits else b"")
            for servo, goal in goals.items()
        }
        self._connected().write_all(r.ACCELERATION.address, rows)

    def _outside(self, state: State) -> Iterable[str]:
        angles = self._radians(state.position)
        for name, x, low, high in zip(
            arm.JOINTS, angles.tolist(), arm.LOW, arm.HIGH, strict=True
        ):
            if not low - self._care.outside <= x <= high + self._care.outside:
                yield (
                    f"{name} is at {x:.2f} rad, outside {low:.2f} to {high:.2f}: "
                    f"move it there by hand"
                )

    def _apart(
        self, state: State, goal: Ticks, most: float, what: str
    ) -> Iterable[str]:
        gaps = (state.position - goal) * RADIANS_PER_TICK
        for name, gap in zip(arm.JOINTS, gaps.tolist(), strict=True):
            if abs(gap) > most:
                yield f"{name} {what}: {abs(gap):.2f} rad from its target"

    def _radians(self, ticks: Ticks) -> Array:
        return self._calibration.radians(ticks)  # type: ignore[return-value]

    def _connected(self) -> Bus:
        if self._bus is None:
            raise BusError("the arm is not connected: expected connect() first")
        return self._bus


def _refuse(reasons: Iterable[str]) -> None:
    """Raise a fault if there is a reason to."""
    if told := "; ".join(reasons):
        raise ServoError(told)
