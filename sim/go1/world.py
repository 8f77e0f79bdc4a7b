"""The physics of the Go1: where it begins, what its sensors say, how far it came."""

from __future__ import annotations

import numpy as np

from robostack.robot import Variant

from .._mujoco import ModelWorld, Values, compile_variant, mujoco
from . import dog, scene

_BASE = 7  # numbers in qpos before the joints: x, y, z, and the quaternion
_SETTLE_S = 2.0  # in which the dog comes to rest, its joints yielding to its weight


class Go1World(ModelWorld):
    """A Go1 that was given a command."""

    def __init__(self, command: tuple[float, ...], variant: Variant) -> None:
        model = compile_variant(scene.build(), variant)
        joints = [f"{name}_joint" for name in dog.JOINTS]
        self._command = np.array(command)
        self._imu = np.array(model.site("imu").pos)
        self._way = np.zeros(3)
        self._steps = 0
        super().__init__(dog.SPEC, model, variant, joints=joints)
        self._rest = self._settled()

    def _settled(self) -> Values:
        """Return qpos of the dog at rest with its targets at home.

        Its motors are springs: in the keyframe itself it would sink by 2 cm.
        """
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:_BASE] = 0, 0, dog.HOME_HEIGHT, 1, 0, 0, 0
        self.data.qpos[self._qpos] = dog.HOME
        self.data.ctrl[:] = dog.HOME
        steps = round(_SETTLE_S / float(self.model.opt.timestep))
        mujoco.mj_step(self.model, self.data, nstep=steps)
        rest: Values = self.data.qpos.copy()
        rest[:2] = 0.0
        mujoco.mj_resetData(self.model, self.data)
        return rest

    def _place(self, random: np.random.Generator) -> None:
        noise = random.uniform(-dog.HOME_NOISE, dog.HOME_NOISE, len(dog.JOINTS))
        self.data.qpos[:] = self._rest
        self.data.qpos[self._qpos] += noise
        self._way[:] = 0.0
        self._steps = 0

    def _sense(self) -> dict[str, Values]:
        joints, velocities = self.data.qpos[self._qpos], self.data.qvel[self._qvel]
        return self._body() | {
            "joint_position": joints,
            "joint_velocity": velocities,
            "command": self._command,
        }

    def _body(self) -> dict[str, Values]:
        """Return velocity at the IMU, turning rate and gravity, as the trunk sees them.

        Of positions and velocities, and not of MuJoCo's sensors: after a step those
        are of the moment before it.
        """
        inverse, gyro = self._inverse(), self.data.qvel[3:6].copy()
        return {
            "linear_velocity": inverse @ self.data.qvel[:3] + np.cross(gyro, self._imu),
            "gyro": gyro,  # MuJoCo gives it in the frame of the body
            "gravity": -inverse[:, 2],
        }

    def _inverse(self) -> Values:
        """Return the matrix (3, 3) from the world's directions to the trunk's."""
        rotation = np.zeros(9)
        mujoco.mju_quat2Mat(rotation, self.data.qpos[3:_BASE])
        return rotation.reshape(3, 3).T

    def _know(self) -> dict[str, Values]:
        """Return pose and velocity of the trunk, and the way it went and should have.

        The way is summed up in the trunk's own directions: forward, left, turn.
        """
        elapsed_s = self._steps * float(self.model.opt.timestep)
        return self._sense() | {
            "base_position": self.data.qpos[:3],
            "base_quaternion": self.data.qpos[3:_BASE],
            "base_velocity": self.data.qvel[:6],
            "way": self._way,
            "way_commanded": self._command * elapsed_s,
        }

    def _step(self, ticks: int) -> None:
        for _ in range(ticks):
            super()._step(1)
            forward, left, _ = self._inverse() @ self.data.qvel[:3]
            moved = np.array([forward, left, self.data.qvel[5]])
            self._way += moved * self.model.opt.timestep
            self._steps += 1
