"""Chooses how MuJoCo draws where there is no display.

MuJoCo reads MUJOCO_GL once, when it is imported, and with the wrong value the import
itself fails. So it is set before that: to EGL on a Linux computer without a display, or
to nothing where the EGL libraries are missing, so that physics works all the same.
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
    """Set MUJOCO_GL in `environment` where nobody did and there is no display."""
    if not platform.startswith("linux") or environment.get("MUJOCO_GL"):
        return
    if environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY"):
        return
    has_egl = all(map(loads or _loads, LIBRARIES))
    environment["MUJOCO_GL"] = "egl" if has_egl else "disable"


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
