"""Where the cube is, by an ArUco tag on top of it and one camera whose place is known.

    centre of the tag in the picture --(lens)--> ray from the camera
    --(the tag's height above the table is known)--> tag in the arm's frame --> cube

The cube stands on the table: then the one point where the ray meets the tag's height is
good to a millimetre, where the pose of so small a tag is not (a tilt of 10 degrees is a
pixel). A cube that is lifted is seen where the ray goes on to the table.

The only file here that needs OpenCV (extra `cameras`).
"""

from __future__ import annotations

import threading
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from robostack.clock import Clock, MonotonicClock
from robostack.plugins import PluginError
from robostack.spec import Image, float32

from .surroundings import Sighting

try:
    import cv2
except ModuleNotFoundError as error:
    raise PluginError(
        "the tag tracker of hardware:so101 needs the package 'opencv-python-headless', "
        "which is not installed: pip install 'robostack[cameras]'"
    ) from error

Vector = npt.NDArray[np.float64]
_Triple = tuple[float, float, float]

_LOOK_S = 0.02  # between two looks for a new frame
_FIRST_S = 5.0  # until the tag was seen once


class TrackerError(RuntimeError):
    """The cube is not seen."""


class Tag(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The tag, and the camera that looks at it; the frame is the arm's base."""

    focal: tuple[float, float]  # [pixel] of the camera, along right and down
    center: tuple[float, float]  # [pixel] where its axis meets the picture
    place: _Triple  # [m] of the camera
    right: _Triple  # unit vector along the picture's rows
    down: _Triple  # unit vector along the picture's columns
    distortion: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0, 0.0)  # OpenCV's k1 k2 p1 p2 k3
    dictionary: str = "DICT_4X4_50"
    id: int = 0
    height: float = 0.0376  # [m] z of the tag: table -2.4 mm, and a cube of 4 cm
    depth: float = 0.02  # [m] from the tag down to the cube's centre


class View(Protocol):
    """A camera with a thread of its own."""

    def start(self) -> None:
        """Begin to read."""

    def wait(self) -> None:
        """Return when there is a frame; raise if there is none in time."""

    def frame(self) -> Image:
        """Return a copy of the newest frame (H, W, 3), RGB. Never waits."""

    def age(self) -> float:
        """Return how long ago [s] it came."""

    def close(self) -> None:
        """Release the camera. Idempotent."""


def locate(image: Image, tag: Tag) -> Vector | None:
    """Return the cube's centre (3,) [m] by a picture (H, W, 3); None: no tag in it."""
    corners = _corners(image, tag)
    if corners is None:
        return None
    matrix = np.array(
        [[tag.focal[0], 0, tag.center[0]], [0, tag.focal[1], tag.center[1]], [0, 0, 1]]
    )
    pixel = _crossing(corners)[None, None]  # (1, 1, 2)
    flat = cv2.undistortPoints(pixel, matrix, np.array(tag.distortion))[0, 0]
    right, down = np.array(tag.right), np.array(tag.down)
    ray = flat[0] * right + flat[1] * down + np.cross(right, down)
    far = (tag.height - tag.place[2]) / ray[2]
    return np.asarray(np.array(tag.place) + far * ray - [0.0, 0.0, tag.depth])


def _crossing(corners: Vector) -> Vector:
    """Return where the diagonals (2,) of four corners (4, 2) meet: its true centre."""
    a, c = corners[0], corners[2] - corners[0]
    b, d = corners[1], corners[3] - corners[1]
    along, _ = np.linalg.solve(np.stack([c, -d], axis=1), b - a)
    return np.asarray(a + along * c)


def _corners(image: Image, tag: Tag) -> Vector | None:
    """Return the tag's corners (4, 2) [pixel], from top left clockwise."""
    dictionary = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, tag.dictionary))
    settings = cv2.aruco.DetectorParameters()
    settings.cornerRefinementMethod = cv2.aruco.CORNER_REFINE_SUBPIX
    detector = cv2.aruco.ArucoDetector(dictionary, settings)
    quads, ids, _ = detector.detectMarkers(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
    if ids is None or tag.id not in ids:
        return None
    which = np.asarray(ids).ravel().tolist().index(tag.id)
    return np.asarray(quads[which], np.float64).reshape(4, 2)


class ArucoTracker:
    """Looks for the tag in every new frame, on a thread of its own."""

    def __init__(self, tag: Tag, view: View, clock: Clock | None = None) -> None:
        """Touch nothing yet."""
        self._tag = tag
        self._view = view
        self._clock = clock or MonotonicClock()
        self._newest: tuple[float, Vector] | None = None
        self._seen = threading.Event()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Start the camera; return once the tag was seen.

        Raises:
            TrackerError: it was not, in time.
        """
        self._view.start()
        self._view.wait()
        self._over.clear()
        self._thread = threading.Thread(target=self._watch, name="tag", daemon=True)
        self._thread.start()
        if not self._seen.wait(_FIRST_S):
            self.close()
            raise TrackerError(
                f"expected tag {self._tag.id} of {self._tag.dictionary} in the picture "
                f"within {_FIRST_S:g} s, found none: is the cube in view, and lit?"
            )

    def sighting(self) -> Sighting:
        """Return the newest sighting; its age grows while the tag is hidden."""
        if self._newest is None:
            raise TrackerError("the tracker is not open: expected connect() first")
        stamp_s, position = self._newest
        return Sighting(float32(position), self._clock.now() - stamp_s)

    def close(self) -> None:
        """Cease to look, and release the camera."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._view.close()

    def _watch(self) -> None:
        last_s = -np.inf
        while not self._over.wait(_LOOK_S):
            try:
                stamp_s = self._clock.now() - self._view.age()
                if stamp_s <= last_s + _LOOK_S / 2:
                    continue  # the same frame
                position = locate(self._view.frame(), self._tag)
            except RuntimeError:  # no frame: the age of the last sighting says so
                continue
            last_s = stamp_s
            if position is not None:
                self._newest = stamp_s, position
                self._seen.set()
