"""Where the flange is, and how a rotation vector and a frame's axes relate."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from .models import TWISTS, Model

Matrix = npt.NDArray[np.float64]


def flange(model: Model, joints: npt.ArrayLike) -> Matrix:
    """Return the flange's frame (4, 4) in the base frame at `joints` (6,) [rad]."""
    frame: Matrix = np.eye(4)
    angles = np.asarray(joints, np.float64).tolist()
    for angle, a, d, twist in zip(angles, model.a, model.d, TWISTS, strict=True):
        c, s = math.cos(angle), math.sin(angle)
        ct, st = math.cos(twist), math.sin(twist)
        link = [
            [c, -s * ct, s * st, a * c],
            [s, c * ct, -c * st, a * s],
            [0.0, st, ct, d],
            [0.0, 0.0, 0.0, 1.0],
        ]
        frame = frame @ np.array(link)
    return frame


def rotation(vector: npt.ArrayLike) -> Matrix:
    """Return the rotation matrix (3, 3) of a rotation vector (3,) [rad]."""
    x, y, z = np.asarray(vector, np.float64)
    angle = math.sqrt(x * x + y * y + z * z)
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    if angle < 1e-9:
        return np.asarray(np.eye(3) + cross)
    cross /= angle
    return np.asarray(
        np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross
    )


def rotation_vector(turn: Matrix) -> Matrix:
    """Return the rotation vector (3,) [rad] of a rotation matrix (3, 3)."""
    angle = math.acos(float(np.clip((np.trace(turn) - 1) / 2, -1.0, 1.0)))
    axis = np.array(
        [turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]]
    )
    if angle < 1e-9:
        return np.zeros(3)
    if angle < math.pi - 1e-4:
        return np.asarray(axis * angle / (2 * math.sin(angle)))
    column = (turn + np.eye(3))[:, int(np.argmax(np.diag(turn)))]  # half a turn
    axis_at_pi = column / np.linalg.norm(column)
    return np.asarray(axis_at_pi * angle * (1 if axis @ axis_at_pi >= 0 else -1))
