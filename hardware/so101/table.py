"""Who sees the table of a real arm: the seam for two cameras and the tag tracker."""

from __future__ import annotations

from robostack.plugins import PluginError

from .surroundings import Surroundings


def watched(file: str) -> Surroundings:
    """Return tracker and cameras of the table that `file` describes.

    Raises:
        PluginError: always, so far: nothing here opens a camera.
    """
    raise PluginError(
        f"expected to know the cameras of a real arm's table "
        f"({file or 'no file given'}): this driver cannot open any yet; give it `Eyes` "
        f"(hardware/so101/surroundings.py) beside the tracker of tracker_aruco.py, or "
        f"leave +table away and serve the arm alone"
    )
