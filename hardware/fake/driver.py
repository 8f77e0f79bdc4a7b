"""The driver of the fake robot: like that of a real one, without a bus."""

from __future__ import annotations

import threading

import numpy as np

from robostack.clock import Clock, MonotonicClock
from robostack.spec import Array, Image, float32

from .joints import SPEC, Joints


class FakeRobot:
    """Two joints that follow position targets.

    A lock guards the "bus": the node reads and applies from one thread, and stops from
    others.
    """

    spec = SPEC

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or MonotonicClock()
        self._bus = threading.Lock()
        self._home = np.asarray(SPEC.home, np.float64)
        self._joints = Joints(self._home, np.zeros_like(self._home))
        self._target = self._home
        self._stamp_s = 0.0

    def connect(self) -> None:
        """Begin to follow the clock."""
        with self._bus:
            self._stamp_s = self._clock.now()

    def reset(self) -> None:
        """Put the joints at home, at rest."""
        with self._bus:
            self._joints = Joints(self._home, np.zeros_like(self._home))
            self._target = self._home
            self._stamp_s = self._clock.now()

    def read(self) -> dict[str, Array]:
        """Return joint positions and velocities."""
        with self._bus:
            self._follow()
            return {
                "joint_position": float32(self._joints.position),
                "joint_velocity": float32(self._joints.velocity),
            }

    def frames(self) -> dict[str, Image]:
        """Return nothing: it has no cameras."""
        return {}

    def apply(self, action: Array) -> Array:
        """Set the position targets; return them."""
        with self._bus:
            self._follow()
            self._target = action.astype(np.float64)
        return action.copy()

    def stop(self) -> None:
        """Hold the measured position."""
        with self._bus:
            self._follow()
            self._target = self._joints.position

    def close(self) -> None:
        """Stop; there is no device to release."""
        self.stop()

    def _follow(self) -> None:
        """Move the joints to where they are by now."""
        now_s = self._clock.now()
        self._joints = self._joints.after(now_s - self._stamp_s, self._target)
        self._stamp_s = now_s
