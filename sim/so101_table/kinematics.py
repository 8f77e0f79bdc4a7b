"""Where the gripper is, and which joint step moves it: the arm without a world."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .._mujoco import mujoco
from . import scene, table

Vector = npt.NDArray[np.float64]

PITCH_WEIGHT = 0.05  # [m/rad] how much the gripper's pitch matters beside its place
_DAMPING = 1e-6  # [m^2] bounds the joint step near stretched poses
_PAN_AXIS = 0.0388  # [m] x of the vertical joint


class Arm:
    """Forward and differential inverse kinematics."""

    def __init__(self) -> None:
        self._model = scene.build().compile()
        self._data = mujoco.MjData(self._model)
        joints = [self._model.joint(scene.ARM + name) for name in table.JOINTS]
        self._places = np.array([joint.qposadr[0] for joint in joints])
        self._columns = np.array([joint.dofadr[0] for joint in joints])
        self._site = self._model.site(scene.TIP).id

    def tip(self, joints: npt.ArrayLike) -> Vector:
        """Return the position (3,) of the gripper's tip [m] at `joints` (6,) [rad]."""
        self._data.qpos[self._places] = joints
        mujoco.mj_kinematics(self._model, self._data)
        return np.array(self._data.site_xpos[self._site])

    def solve(self, joints: Vector, move: Vector) -> Vector:
        """Return the joint step (6,) [rad] that moves the tip by `move` (3,) [m].

        Damped least squares over pan, lift, elbow and wrist, which also draw the
        gripper towards pointing down; wrist roll and gripper go home.
        """
        tip = self.tip(joints)
        turn = _pitch(tip) - joints[1:4].sum()
        error = np.array([*move, PITCH_WEIGHT * np.clip(turn, -0.1, 0.1)])
        jacobian = np.vstack([self._jacobian(), [0.0, *(PITCH_WEIGHT,) * 3]])  # (4, 4)
        square = jacobian @ jacobian.T + _DAMPING * np.eye(4)
        step = np.zeros(6)
        step[:4] = jacobian.T @ np.linalg.solve(square, error)
        step[4:] = np.array(table.HOME[4:]) - joints[4:]
        return step

    def _jacobian(self) -> Vector:
        """Return (3, 4): the tip over pan, lift, elbow and wrist, where it is now."""
        mujoco.mj_comPos(self._model, self._data)
        full = np.zeros((3, self._model.nv))
        mujoco.mj_jacSite(self._model, self._data, full, None, self._site)
        return full[:, self._columns[:4]]


def _pitch(tip: Vector) -> float:
    """Return how far the gripper should look down [rad]: less when reaching out."""
    reach = float(np.hypot(tip[0] - _PAN_AXIS, tip[1]))
    return float(np.pi / 2 - np.clip(4.0 * (reach - 0.19), -0.3, 0.8))
