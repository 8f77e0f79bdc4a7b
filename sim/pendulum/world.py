"""The physics of the pendulum; README.md has the parameters and their source."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from robostack.robot import Variant
from robostack.spec import RobotSpec, float32

from .._mujoco import ModelWorld, Values, compile_variant, mujoco
from . import tip_height

START = 0.002  # [rad] standard deviation of the angle at which an episode begins


class Pendulum(ModelWorld):
    """An arm hanging from a motor."""

    def __init__(self, spec: RobotSpec, variant: Variant) -> None:
        path = Path(__file__).with_name("world.xml")
        scene = mujoco.MjSpec.from_file(str(path))
        super().__init__(spec, compile_variant(scene, variant), variant)

    def _place(self, random: np.random.Generator) -> None:
        self.data.qpos[self._qpos] = random.normal(0.0, START, 1)

    def _know(self) -> dict[str, Values]:
        """Return where the arm is: with backlash, sensors see only the motor."""
        position = self.data.qpos.sum(keepdims=True)
        return {
            "joint_position": position,
            "joint_velocity": self.data.qvel.sum(keepdims=True),
            "tip_height": np.atleast_1d(tip_height(float32(position))),
        }
