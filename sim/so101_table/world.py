"""The physics of the table: where a cube starts, what is sensed, what is true."""

from __future__ import annotations

import numpy as np

from robostack.robot import Variant
from robostack.spec import Array

from .._mujoco import ModelWorld, Values, compile_variant
from . import scene, table
from .kinematics import Arm
from .table import Start


class TableWorld(ModelWorld):
    """The SO-101 at its table."""

    def __init__(self, start: Start, variant: Variant) -> None:
        model = compile_variant(scene.build(meshes=start.meshes), variant)
        joints = [scene.ARM + name for name in table.JOINTS]
        super().__init__(table.SPEC, model, variant, joints=joints)
        self._start = start
        self._arm = Arm()
        self._cube = model.joint("cube")
        self._tip = model.site(scene.TIP).id
        self._cube_geom = model.geom("cube").id
        self._table_geom = model.geom("table").id

    def _place(self, random: np.random.Generator) -> None:
        noise = random.uniform(-1.0, 1.0, 6) * table.HOME_NOISE
        self.data.qpos[self._qpos] = np.clip(table.HOME + noise, table.LOW, table.HIGH)
        x, y = random.uniform(self._start.low, self._start.high)
        half_turn = random.uniform(-np.pi, np.pi) / 2
        place = self._cube.qposadr[0]
        self.data.qpos[place : place + 3] = x, y, table.CUBE_REST_Z
        self.data.qpos[place + 3 : place + 7] = (
            np.cos(half_turn),
            0,
            0,
            np.sin(half_turn),
        )

    def _sense(self) -> dict[str, Values]:
        joints = self.data.qpos[self._qpos]
        return {
            "joint_position": joints,
            "tip_position": self._arm.tip(joints),
            "cube_position": self._cube_pose()[:3],
        }

    def _know(self) -> dict[str, Values]:
        pose, place = self._cube_pose(), self._cube.dofadr[0]
        velocity = self.data.qvel[place : place + 6]
        slow = np.linalg.norm(velocity[:3]) * table.PERIOD_S < table.REST_M
        return {
            "cube_position": pose[:3],
            "cube_quaternion": pose[3:],
            "cube_velocity": velocity,
            "joint_velocity": self.data.qvel[self._qvel],
            "tip_position": self.data.site_xpos[self._tip],
            "contact": np.array([self._touched()]),
            "success_left": np.array([slow and table.inside("left", pose[:3])]),
            "success_right": np.array([slow and table.inside("right", pose[:3])]),
        }

    def _safe(self) -> None:
        """Hold the arm where it is."""
        self._drive(self.data.qpos[self._qpos])

    def _drive(self, action: Array | Values) -> None:
        self.data.ctrl[:] = action

    def _cube_pose(self) -> Values:
        """Return x, y, z [m] and the quaternion w, x, y, z of the cube."""
        place = self._cube.qposadr[0]
        return np.array(self.data.qpos[place : place + 7])

    def _touched(self) -> bool:
        """Return whether anything but the table touches the cube."""
        pairs = self.data.contact.geom
        touching = (pairs == self._cube_geom).any(axis=1)
        return bool((touching & (pairs != self._table_geom).all(axis=1)).any())
