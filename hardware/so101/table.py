"""Who sees the table of a real arm: the seam for a tag tracker and two cameras."""

from __future__ import annotations

from robostack.plugins import PluginError

from .surroundings import Surroundings


def watched(file: str) -> Surroundings:
    """Return tracker and cameras of the table that `file` describes.

    Raises:
        PluginError: always, so far: nobody wrote them.
    """
    raise PluginError(
        f"expected a tracker of the cube and the cameras overhead and front for a real "
        f"arm at its table ({file or 'no file given'}): this driver has none yet; give "
        f"it a `Tracker` and `Eyes` (hardware/so101/surroundings.py), or leave +table "
        f"away and serve the arm alone"
    )
