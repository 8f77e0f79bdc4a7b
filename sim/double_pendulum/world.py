"""The physics of the double pendulum; README.md has the parameters and their source."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from robostack.robot import Variant
from robostack.spec import RobotSpec, float32

from .._mujoco import PLAY, ModelWorld, Values, compile_variant, mujoco
from . import JOINTS, tip_height

START = 0.002  # [rad] standard deviation of the angles at which an episode begins


class DoublePendulum(ModelWorld):
    """Two links hanging from a pivot; `spec.action` says which motors are driven."""

    def __init__(self, spec: RobotSpec, variant: Variant) -> None:
        path = Path(__file__).with_name("world.xml")
        scene = mujoco.MjSpec.from_file(str(path))
        passive = [joint for joint in JOINTS if joint not in spec.action.names]
        for joint in passive:
            scene.delete(scene.actuator(joint))
        nominal = {joint: scene.joint(joint).frictionloss for joint in passive}
        model = compile_variant(scene, variant)
        for joint, friction in nominal.items():
            _compensate(model, joint, friction)
        super().__init__(spec, model, variant)

    def _place(self, random: np.random.Generator) -> None:
        self.data.qpos[self._qpos] = random.normal(0.0, START, len(JOINTS))

    def _know(self) -> dict[str, Values]:
        """Return where the links are: with backlash, sensors see only the motors."""
        position, velocity = np.zeros(len(JOINTS)), np.zeros(len(JOINTS))
        for joint in range(self.model.njnt):
            name = self.model.joint(joint).name.removesuffix(PLAY)
            position[JOINTS.index(name)] += self.data.qpos[joint]
            velocity[JOINTS.index(name)] += self.data.qvel[joint]
        return {
            "joint_position": position,
            "joint_velocity": velocity,
            "tip_height": np.atleast_1d(tip_height(float32(position))),
        }


def _compensate(model: mujoco.MjModel, joint: str, friction: float) -> None:
    """Let the motor of a passive `joint` cancel `friction` [N m], as on the rig."""
    address = model.joint(joint).dofadr
    left = model.dof_frictionloss[address] - friction
    model.dof_frictionloss[address] = np.maximum(left, 0.0)
