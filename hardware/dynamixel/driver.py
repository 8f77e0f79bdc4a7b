"""The driver of a Dynamixel chain: what moves it, holds it and lets go of it.

    connect   look, enable nothing
    reset     goal := where it is, torque on, bus watchdog on, slowly home
    read      one question to all servos: state, faults, torque, bus watchdog
    apply     goals, each with its profile, in one packet
    stop      goal := where it is, of every joint that has torque
    close     stop, then less and less PWM, then no torque

Torque is enabled by `reset` only; a goal enables none, so none outlives a power cut.
When nothing is heard on the bus for `bus_watchdog_s`, because this process died or
hangs, the servos stop by themselves, hold, and refuse goals until `reset`.
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
from robostack.robot import Ending
from robostack.spec import Array, Image, float32

from .._lowering import fade
from .._servo_bus import PATIENCE_S, BusError, ServoError, refuse
from . import registers as r
from . import state as states
from .bus import Bus
from .chain import (
    BLOCK_SIZE,
    BLOCK_START,
    RADIANS_PER_TICK,
    Chain,
    Ticks,
    Values,
    clip,
    spec_of,
)
from .state import State

log = logging.getLogger(__name__)

_HOLD_TRIES = 3
_SLOWEST = 1  # [0.229 rev/min]


class Dynamixel:
    """A chain of X-series servos.

    A lock guards the bus: the node reads and applies from one thread, and stops from
    others. `reset` and `close` let go of it between two moves.
    """

    def __init__(
        self,
        port: Callable[[], AbstractContextManager[str]],
        chain: Chain,
        clock: Clock | None = None,
        *,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """Touch nothing yet.

        Args:
            port: gives the path of the serial port, for as long as it is needed.
            chain: which servos there are, and what they mean.
            clock: by which it is moved home and lowered.
            patience_s: for an answer.
        """
        self.spec = spec_of(chain)
        self.ending = Ending(orphan="hold", orphan_s=chain.bus_watchdog_s)
        self._port = port
        self._chain = chain
        self._care = chain.care
        self._clock = clock or MonotonicClock()
        self._patience_s = patience_s
        self._lock = threading.RLock()
        self._open = contextlib.ExitStack()
        self._bus: Bus | None = None
        self._facts = {"chain": chain.digest}
        self._models: tuple[r.Model, ...] = ()
        self._armed = False  # torque is on, and we did it
        self._stops = 0  # so often was stop() called

    def connect(self) -> None:
        """Open the port, and see that the servos of the chain file answer.

        Raises:
            BusError: the port does not open, or a servo does not answer.
            ServoError: a servo is of another kind, state or configuration.
        """
        with self._lock:
            if self._bus is not None:
                return
            chain = self._chain
            names = dict(zip(chain.ids, chain.joints, strict=True))
            with contextlib.ExitStack() as opening:
                path = opening.enter_context(self._port())
                bus = Bus(path, chain.baud, names, self._patience_s)
                opening.callback(bus.close)
                self._inspect(bus)
                self._bus, self._open = bus, opening.pop_all()

    def facts(self) -> dict[str, str]:
        """Return the chain file's digest, and what each servo is, once connected."""
        return dict(self._facts)

    def reset(self) -> None:
        """Switch torque on where the arm is, and move it home slowly.

        Raises:
            BusError: a servo does not answer, or refuses.
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
        """Return positions and velocities of all joints.

        Raises:
            BusError: a servo does not answer, or only garbage.
            ServoError: a servo reports a fault, is too hot, lost its torque, or
                stopped by its bus watchdog.
        """
        with self._lock:
            state = self._healthy()
        return {
            "joint_position": float32(self._chain.values(state.position)),
            "joint_velocity": float32(self._chain.rates(state.velocity)),
        }

    def frames(self) -> dict[str, Image]:
        """Return nothing: cameras are put around a driver."""
        return {}

    def apply(self, action: Array) -> Array:
        """Send targets (n,); return them as sent: within limits, whole ticks.

        Raises:
            BusError: the port is gone.
            ServoError: torque is not on, or no longer on; only `reset` gives it.
        """
        goal = self._chain.ticks(self.spec.action.validate(action))
        with self._lock:
            if not self._armed:
                raise ServoError("torque is off: expected reset() before apply()")
            self._send(goal)
        return clip(self.spec, self._chain.values(goal))

    def stop(self) -> None:
        """Hold every joint that has torque where it is; give torque to none."""
        self._stops += 1
        try:
            with self._lock:
                self._hold()
        except Exception as error:  # the last thing that stands when all else failed
            log.warning("could not hold the arm: %s", error)

    def close(self) -> None:
        """Hold, let the arm down by less and less PWM, and release the port."""
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
        ids = self._chain.ids
        bus.purge()
        bus.read(ids, r.MODEL.address, r.MODEL.size)  # names everyone who is silent
        for servo in ids:
            bus.ping(servo)
        memories = bus.read(ids, 0, r.EEPROM_END)
        state = states.parse(bus.read(ids, BLOCK_START, BLOCK_SIZE))
        wrong = states.misfits(memories, self._chain)
        refuse([*wrong, *states.faults(state, self._chain)])
        self._models = tuple(r.BY_NUMBER[r.MODEL.get(m.data)] for m in memories)
        for name, model, memory in zip(
            self._chain.joints, self._models, memories, strict=True
        ):
            version = r.FIRMWARE.get(memory.data)
            self._facts[f"servo.{name}"] = f"{model.name} firmware {version}"

    def _energize(self, stops: int) -> Values:
        """Switch torque on, goal where the arm is; return where that is [tick]."""
        with self._lock:
            self._armed = False
            bus, state = self._connected(), self._healthy()
            refuse(self._outside(state))
            self._wake(bus, state)
            self._limit(bus)
            state = self._healthy()
            self._send(state.position)
            self._check_goals(state.position)
            self._check_stops(stops)
            for servo in self._chain.ids:
                bus.write(servo, r.TORQUE_ENABLE, 1)
            for servo in self._chain.ids:
                bus.write(servo, r.BUS_WATCHDOG, self._chain.watchdog)
            self._armed = True
            self._check_goals(state.position)
            return state.position.astype(np.float64)

    def _wake(self, bus: Bus, state: State) -> None:
        """Clear tripped bus watchdogs, so that whoever then goes on, goes slowly."""
        tripped = state.watchdog > r.WATCHDOG_LAST
        for servo in np.array(self._chain.ids)[tripped].tolist():
            bus.write(servo, r.PROFILE_VELOCITY, _SLOWEST)
        for servo in np.array(self._chain.ids)[state.watchdog > 0].tolist():
            bus.write(servo, r.BUS_WATCHDOG, 0)

    def _limit(self, bus: Bus) -> None:
        """Give every servo its limits on PWM and current."""
        joints = self._chain.joints.values()
        for joint, model in zip(joints, self._models, strict=True):
            bus.write(joint.id, r.GOAL_PWM, joint.pwm)
            if joint.current_limit_a:
                current = round(joint.current_limit_a / model.ampere)
                bus.write(joint.id, r.GOAL_CURRENT, current)

    def _travel(self, start: Values, stops: int) -> None:
        """Move along the straight line of ticks from `start` to home."""
        care, goal = self._care, self._chain.ticks(self.spec.home)
        way = goal - start
        seconds = float(np.abs(way).max()) * RADIANS_PER_TICK / care.homing_speed
        steps = max(1, math.ceil(seconds / care.homing_tick_s))
        ticker = Ticker(self._clock, care.homing_tick_s)
        for k in range(1, steps + 1):
            with self._lock:
                self._check_stops(stops)
                state = self._healthy()
                refuse(self._apart(state, state.goal, care.lag, "is blocked"))
                self._send(np.round(start + way * k / steps).astype(np.int64))
            ticker.wait()
        deadline = self._clock.now() + care.settle_s
        while True:
            with self._lock:
                self._check_stops(stops)
                state = self._healthy()
            apart = list(self._apart(state, goal, care.arrival, "is not home"))
            if not apart:
                return
            if self._clock.now() > deadline:
                refuse(apart)
            ticker.wait()

    def _hold(self) -> None:
        if self._bus is None:
            return
        rest, missing = self._care.rest / RADIANS_PER_TICK, list[int]()
        for _ in range(_HOLD_TRIES):
            found, bad = self._bus.poll(self._chain.ids, BLOCK_START, BLOCK_SIZE)
            missing = list(bad)
            state = states.parse(list(found.values()))
            far = np.abs(state.goal - state.position) > rest
            away = state.torque & far & (state.watchdog <= r.WATCHDOG_LAST)
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
            if self._bus is None or not (state := self._look()).torque.any():
                return
            bus = self._bus
            self._wake(bus, state)
            self._send(state.position)
        limits = {joint.id: joint.pwm for joint in self._chain.joints.values()}
        fade(bus, limits, self._care.lowering_s, self._clock, self._lock)

    def _healthy(self) -> State:
        """Return the state; raise and disarm if anything is wrong with it."""
        try:
            state = self._look()
            refuse(states.faults(state, self._chain))
            if self._armed:
                refuse(states.lost(state, self._chain))
        except (BusError, ServoError):
            self._disarm()
            raise
        return state

    def _look(self) -> State:
        return states.parse(
            self._connected().read(self._chain.ids, BLOCK_START, BLOCK_SIZE)
        )

    def _disarm(self) -> None:
        """Let nothing through until the next reset, and nothing that waits."""
        self._armed = False
        if self._bus is not None:
            self._bus.purge()

    def _check_stops(self, stops: int) -> None:
        if self._stops != stops:
            raise ServoError("somebody stopped the arm on its way home")

    def _check_goals(self, goal: Ticks) -> None:
        """Refuse to go on unless all servos have these goals."""
        names = zip(self._chain.joints, self._healthy().goal == goal, strict=True)
        refuse(
            f"{name} did not take its goal: nothing is moved"
            for name, ok in names
            if not ok
        )

    def _send(self, goal: Ticks) -> None:
        self._send_to(dict(zip(self._chain.ids, goal.tolist(), strict=True)))

    def _send_to(self, goals: Mapping[int, int]) -> None:
        """Send goals [tick], never without their profile beside them."""
        rows = {
            joint.id: r.PROFILE_ACCELERATION.pack(joint.acceleration)
            + r.PROFILE_VELOCITY.pack(joint.velocity)
            + r.GOAL_POSITION.pack(goals[joint.id])
            for joint in self._chain.joints.values()
            if joint.id in goals
        }
        self._connected().write_all(r.PROFILE_ACCELERATION.address, rows)

    def _outside(self, state: State) -> Iterable[str]:
        margin = self._care.outside / RADIANS_PER_TICK
        values = self._chain.values(state.position).tolist()
        joints = self._chain.joints.items()
        ticks = state.position.tolist()
        for (name, joint), tick, value in zip(joints, ticks, values, strict=True):
            low, high = joint.ends
            if not low - margin <= tick <= high + margin:
                yield (
                    f"{name} is at {value:.3g} {joint.unit}, outside {joint.low:g} to "
                    f"{joint.high:g}: move it there by hand"
                )

    def _apart(
        self, state: State, goal: Ticks, most: float, what: str
    ) -> Iterable[str]:
        gaps = (state.position - goal) * RADIANS_PER_TICK
        for name, gap in zip(self._chain.joints, gaps.tolist(), strict=True):
            if abs(gap) > most:
                yield f"{name} {what}: {abs(gap):.2f} rad from its target"

    def _connected(self) -> Bus:
        if self._bus is None:
            raise BusError("the arm is not connected: expected connect() first")
        return self._bus
