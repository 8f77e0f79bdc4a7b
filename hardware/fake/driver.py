"""The driver of the fake robot: like that of a real one, without a bus."""

from __future__ import annotations

import threading

import msgspec
import numpy as np

from robostack.clock import Clock, MonotonicClock
from robostack.limits import Limits, derive
from robostack.spec import Array, Image, float32

from .joints import JOINTS, MAX_ACCELERATION, MAX_JERK, REST, SPEC, TICK_S
from .plant import Plant, Values

_HAIR = 1.0005
_HOME_S = 30.0  # in which a reset gets there


class Flaws(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is wrong with this one, as with a real one."""

    delay: int = 0  # control periods by which targets arrive late
    noise: float = 0.0  # [rad], [rad/s] standard deviation of readings
    backlash: float = 0.0  # [rad] of play between joint and sensor


def limits() -> Limits:
    """Return the limits of the joints, which are the targets' as well: see joints.py.

    Velocity is that of the spec; acceleration and jerk are what the motors give.
    """
    size = len(JOINTS)
    return msgspec.structs.replace(
        derive(SPEC),
        acceleration=(MAX_ACCELERATION,) * size,
        jerk=(MAX_JERK,) * size,
    )


def _hair_wider(limits: Limits) -> Limits:
    """Return what the joints' own controller keeps: it is no judge of rounding."""
    parts = ("low", "high", "step", "velocity", "acceleration", "jerk")
    wider = {name: tuple(_HAIR * x for x in getattr(limits, name)) for name in parts}
    return msgspec.structs.replace(limits, **wider)


class FakeRobot:
    """Two joints that follow position targets.

    A lock guards the "bus": the node reads and applies from one thread, and stops from
    others.
    """

    spec = SPEC

    def __init__(
        self,
        clock: Clock | None = None,
        flaws: Flaws = Flaws(),  # noqa: B008
        joint_limits: Limits | None = None,
    ) -> None:
        self._clock = clock or MonotonicClock()
        self._bus = threading.Lock()
        self._random = np.random.default_rng(0)
        self._flaws = flaws
        self._sensed = np.array(self.spec.home)  # beyond the play
        self._stops = 0
        self._start_s: float | None = None  # when tick 0 was
        own = _hair_wider(joint_limits or limits())
        self.plant = Plant(self.spec.home, own, delay=flaws.delay)

    def connect(self) -> None:
        """Begin to follow the clock."""
        with self._bus:
            self._start_s = self._clock.now() - self.plant.ticks * TICK_S

    def reset(self) -> None:
        """Brake, go home within the limits of the joints, and come to rest there.

        Raises:
            RuntimeError: somebody stopped the robot on its way.
        """
        stops, deadline = self._stops, self._clock.now() + _HOME_S
        going = False
        while self._clock.now() < deadline:
            with self._bus:
                self._follow()
                if self._stops != stops:
                    raise RuntimeError("somebody stopped the robot on its way home")
                rest = self.plant.at_rest
                if (
                    rest
                    and np.abs(self.plant.position - self.spec.home).max() < 10 * REST
                ):
                    self.plant.settle(self.spec.home)
                    return
                if not going:
                    self.plant.halt()
                if rest or going:
                    going = True
                    self.plant.send(list(self.spec.home), lead=True)
                    self.plant.mark()
            self._clock.sleep_until(self._clock.now() + self.spec.control_period_s / 4)
        raise RuntimeError(f"expected the robot at home within {_HOME_S:g} s")

    def read(self) -> dict[str, Array]:
        """Return joint positions and velocities."""
        with self._bus:
            self._follow()
            self.plant.mark()
            position, velocity = self._measure(self.plant.position)
            return {
                "joint_position": float32(position),
                "joint_velocity": float32(velocity),
            }

    def frames(self) -> dict[str, Image]:
        """Return nothing: it has no cameras."""
        return {}

    def apply(self, action: Array) -> Array:
        """Set the position targets; return them."""
        with self._bus:
            self._follow()
            self.plant.send(action.tolist())
        return action.copy()

    def stop(self) -> None:
        """Brake within the limits of the joints, and hold."""
        with self._bus:
            self._stops += 1
            self._follow()
            self.plant.halt()

    def close(self) -> None:
        """Stop; there is no device to release."""
        self.stop()

    def path(self) -> Values:
        """Return the true path (T, 2) [rad] of the joints since last asked.

        At physics steps, with three of overlap; kept from the first call on.
        """
        with self._bus:
            self._follow()
            return self.plant.take_path()

    def _measure(self, position: Values) -> tuple[Values, Values]:
        half, noise = self._flaws.backlash / 2, self._flaws.noise
        self._sensed = np.clip(self._sensed, position - half, position + half)
        sensed, velocity = self._sensed, self.plant.velocity
        if noise:
            sensed = sensed + noise * self._random.standard_normal(sensed.size)
            velocity = velocity + noise * self._random.standard_normal(sensed.size)
        return sensed, velocity

    def _follow(self) -> None:
        """Move the joints to where they are by now; they stand before `connect`."""
        if self._start_s is None:
            return
        due = int((self._clock.now() - self._start_s) / TICK_S + 1e-6)
        self.plant.advance(due - self.plant.ticks)
