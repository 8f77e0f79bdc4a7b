"""Chooses how MuJoCo draws off screen.

MuJoCo reads MUJOCO_GL once, when it is imported, and with the wrong value the import
itself fails. So it is set before that: to EGL on Linux, which draws off screen from any
thread, display or not; where its libraries are missing and there is no display, to
nothing, so that physics works all the same.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, MutableMapping

PACKAGES = "libegl1 libopengl0 libgl1-mesa-dri"  # Debian and Ubuntu
LIBRARIES = ("libEGL.so.1", "libOpenGL.so.0")
HINT = (
    f"on Debian or Ubuntu: sudo apt-get install {PACKAGES}; "
    f"or run with MUJOCO_GL=osmesa after sudo apt-get install libosmesa6"
)


def choose_gl(
    environment: MutableMapping[str, str] = os.environ,
    platform: str = sys.platform,
    loads: Callable[[str], bool] | None = None,
) -> None:
    """Set MUJOCO_GL in `environment` where nobody did."""
    if not platform.startswith("linux") or environment.get("MUJOCO_GL"):
        return
    if all(map(loads or _loads, LIBRARIES)):
        environment["MUJOCO_GL"] = "egl"
    elif not (environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY")):
        environment["MUJOCO_GL"] = "disable"


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
