"""What the table is, in numbers, for those without mujoco: spec, zones and tasks.

Frame of all positions: the arm's base, x forward, y left, z up [m].

Reward of a step, from the tracked cube position alone (so that real logs can be
labelled), with d the distance from the cube to the goal zone's centre:

    r = 10 / m * (d_before - d_after), within +-0.3     progress, 1 for every 10 cm
      + 5 on success - 0.01                             done, and sooner is better

Success: the cube is inside the zone and has moved less than 1 mm in the last period.
It is judged on the true position where a world logged one, else on the tracked one, and
it ends the episode.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from robostack.plugins import PluginError, unknown
from robostack.robot import Columns, Mask, Task
from robostack.spec import Array, ArraySpec, CameraSpec, RobotSpec, float32

JOINTS = (
    "shoulder_pan",
    "shoulder_lift",
    "elbow_flex",
    "wrist_flex",
    "wrist_roll",
    "gripper",
)
# Actuator ranges of so101_new_calib.xml [rad]; a test compares them with the package.
LOW = (-1.91986, -1.74533, -1.69, -1.65806, -2.74385, -0.17453)
HIGH = (1.91986, 1.74533, 1.69, 1.65806, 2.84121, 1.74533)
HOME = (0.0, -0.9, 0.75, 1.35, 0.0, -0.15)  # gripper closed, over the table's near edge
HOME_NOISE = (0.1, 0.1, 0.1, 0.1, 0.1, 0.02)  # [rad] half-width at reset()
PERIOD_S = 0.05
MAX_SPEED = 2.0  # [rad/s] of a target; the servo's own limit is about 5 unloaded
TABLE_Z = -0.0024  # the table top, below the origin of the base [m]
CUBE_HALF = 0.02  # [m]
CUBE_REST_Z = TABLE_Z + CUBE_HALF
ZONE_CENTER = {"left": (0.22, 0.10), "right": (0.22, -0.10)}  # x, y [m]
ZONE_HALF = (0.05, 0.04)  # [m]
REST_M = 0.001  # the cube moves less than this per period when at rest
HORIZON = 120  # [steps]
START_X = (0.19, 0.25)  # [m] where reset() puts the cube
START_MIDDLE_Y = (-0.04, 0.04)  # [m] in neither zone
START_SIDE_Y = (-0.04, 0.12)  # [m] for a task: from the middle to the other zone

PROGRESS_WEIGHT = 10.0  # [1/m]
PROGRESS_LIMIT = 0.3
SUCCESS_BONUS = 5.0
STEP_COST = 0.01

ARGUMENTS = ["meshes", "push_left", "push_right"]

_CAMERA = CameraSpec(height=128, width=128, period_s=2 * PERIOD_S)

SPEC = RobotSpec(
    name="so101_table",
    control_period_s=PERIOD_S,
    command_timeout_s=3 * PERIOD_S,
    control="position",
    tracks="joint_position",
    observation={
        "joint_position": ArraySpec(JOINTS, ("rad",) * 6, LOW, HIGH),
        "tip_position": ArraySpec.uniform(("tip_x", "tip_y", "tip_z"), "m", -0.6, 0.6),
        "cube_position": ArraySpec.uniform(
            ("cube_x", "cube_y", "cube_z"), "m", -0.6, 0.6
        ),
    },
    cameras={"overhead": _CAMERA, "front": _CAMERA},
    action=ArraySpec(JOINTS, ("rad",) * 6, LOW, HIGH),
    home=HOME,
    max_action_step=(MAX_SPEED * PERIOD_S,) * 6,
    conventions={
        "frame": "arm base: x forward, y left, z up",
        "zero pose": "so101_new_calib: arm stretched forward, gripper closed",
        "tip_position": "site gripperframe, by forward kinematics of joint_position",
        "cube_position": "centre, as an overhead tag tracker would give it",
    },
)


def tasks() -> dict[str, Task]:
    """Return the two tasks; each undoes the other."""
    return {
        "push_left": _push("left", "green"),
        "push_right": _push("right", "blue"),
    }


class Start(NamedTuple):
    """How episodes begin, and how the arm is drawn: what follows `sim:so101_table/`."""

    low: tuple[float, float]  # x, y of the cube's centre [m]
    high: tuple[float, float]
    meshes: bool


def start(argument: str) -> Start:
    """Return what `argument` asks for: words out of meshes, push_left, push_right.

    A task puts the cube where there is something to do for it: from the middle to the
    other zone. With none the cube is in the middle, which suits both.
    """
    words = set(argument.split("+")) - {""}
    for word in sorted(words):
        if word not in ARGUMENTS:
            raise PluginError(unknown("argument of sim:so101_table", word, ARGUMENTS))
    pushes = sorted(words - {"meshes"})
    if len(pushes) > 1:
        raise PluginError(f"expected one task to start for, got {' and '.join(pushes)}")
    low, high = START_MIDDLE_Y
    if pushes == ["push_left"]:
        low, high = -START_SIDE_Y[1], -START_SIDE_Y[0]
    elif pushes == ["push_right"]:
        low, high = START_SIDE_Y
    x = START_X
    return Start((x[0], low), (x[1], high), meshes="meshes" in words)


def goal(task: str) -> npt.NDArray[np.float64]:
    """Return the centre (2,) of the zone that `task` pushes to [m]."""
    return np.array(ZONE_CENTER[task.removeprefix("push_")])


def _push(side: str, color: str) -> Task:
    return Task(
        instruction=(
            f"push the red cube into the {color} zone on the {side} side of the arm"
        ),
        horizon=HORIZON,
        reward=functools.partial(_reward, side),
        success=functools.partial(_success, side),
        terminated=functools.partial(_terminated, side),
    )


def inside(side: str, position: npt.NDArray[np.floating]) -> Mask:
    """Return where the cube's centre `position` (..., 3) lies within a zone."""
    offset = np.abs(position[..., :2] - np.array(ZONE_CENTER[side]))
    on_table = np.abs(position[..., 2] - CUBE_REST_Z) < CUBE_HALF
    return np.asarray((offset <= np.array(ZONE_HALF)).all(-1) & on_table)


def _done(side: str, position: Array) -> Mask:
    """Return where (T + 1,) the cube (T + 1, 3) rests within the zone."""
    moved = np.linalg.norm(np.diff(position, axis=0), axis=-1)  # (T,)
    moved = np.concatenate([moved[:1], moved])  # nothing is known before the first row
    return inside(side, position) & (moved < REST_M)


def _reward(side: str, columns: Columns) -> Array:
    position = columns["cube_position"]
    away = position[:, :2] - np.array(ZONE_CENTER[side])
    progress = -np.diff(np.linalg.norm(away, axis=-1))
    progress = np.clip(PROGRESS_WEIGHT * progress, -PROGRESS_LIMIT, PROGRESS_LIMIT)
    return float32(progress + SUCCESS_BONUS * _done(side, position)[1:] - STEP_COST)


def _success(side: str, columns: Columns) -> Mask:
    tracked = columns["cube_position"]
    return _done(side, columns.get("truth.cube_position", tracked))


def _terminated(side: str, columns: Columns) -> Mask:
    return _success(side, columns)[1:]
