"""What a camera reads from: a device, file, URL or pipeline by OpenCV, or a pattern.

A source says what it is told and how a frame comes to the size that was promised; who
reads it, on a thread of its own, is _camera.py.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, Protocol

import msgspec
import numpy as np

from robostack.spec import CameraSpec, Image

PATTERN = "pattern"  # a source that needs no camera: a picture that moves


class CameraError(RuntimeError):
    """A camera that is not there, gives the wrong thing, or gives nothing new."""


class CameraSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One camera of a TOML file."""

    source: int | str  # number, /dev/videoN, file, URL, GStreamer pipeline, "pattern"
    height: int  # [pixel]
    width: int  # [pixel]
    period_s: float  # between frames
    resize: bool = False  # stretch what has another size; else that is refused
    max_age_s: float = 2.0  # of the newest frame; beyond it, frames() raises
    frozen_after: int = 10  # so many identical frames in a row are no news
    open_s: float = 5.0  # at most, until the first frame

    @property
    def spec(self) -> CameraSpec:
        """What a robot spec says of it."""
        return CameraSpec(self.height, self.width, self.period_s)


class Source(Protocol):
    """What a camera is read from. It may block; it has a thread for that."""

    paced: bool  # its frames come when asked for, and not by a clock of its own

    def read(self) -> Image | None:
        """Return the next frame (H, W, 3) in RGB; None: there are no more."""

    def close(self) -> None:
        """Release the device."""


Opener = Callable[[CameraSettings], Source]


def fit(image: Image, settings: CameraSettings) -> Image:
    """Return `image` (H, W, 3) in the size that was promised.

    Raises:
        CameraError: it has another, and may not be resized.
    """
    wanted = (settings.height, settings.width, 3)
    if image.shape == wanted:
        return np.ascontiguousarray(image)
    if not settings.resize or image.ndim != 3 or image.shape[2] != 3:
        raise CameraError(
            f"expected frames {wanted}, got {image.shape}: set height and width to "
            f"what it gives, or resize = true, which stretches"
        )
    import cv2

    size = (settings.width, settings.height)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def open_source(settings: CameraSettings) -> Source:
    """Open what `source` names.

    Raises:
        CameraError: it is not there, or does not open.
    """
    return _Pattern(settings) if settings.source == PATTERN else _Video(settings)


class _Pattern:
    """A picture that moves by a pixel each frame, for dry runs."""

    paced = True

    def __init__(self, settings: CameraSettings) -> None:
        rows, columns = np.ogrid[: settings.height, : settings.width]
        shades = (rows + 0 * columns, columns + 0 * rows, rows + columns)
        self._image = np.stack(shades, -1).astype(np.uint8)

    def read(self) -> Image | None:
        self._image = np.roll(self._image, 1, axis=1)
        return self._image

    def close(self) -> None:
        """Have nothing to release."""


class _Video:
    """A V4L2 device, file, URL or pipeline, read by OpenCV."""

    def __init__(self, settings: CameraSettings) -> None:
        import cv2

        self._cv2 = cv2
        source = settings.source
        self.paced = isinstance(source, str) and os.path.isfile(source)
        path = f"/dev/video{source}" if isinstance(source, int) else source
        if path.startswith("/") and "%" not in path and not os.path.exists(path):
            raise CameraError(f"there is no {path}")
        self._capture = cv2.VideoCapture(source, _backend(cv2, source))
        if not self._capture.isOpened():
            self._capture.release()
            raise CameraError(
                f"cannot open {path}: another program may have it, or you lack "
                f"permission (sudo usermod -aG video $USER)"
            )
        if not self.paced:
            for key, value in (
                (cv2.CAP_PROP_BUFFERSIZE, 1),
                (cv2.CAP_PROP_FRAME_WIDTH, settings.width),
                (cv2.CAP_PROP_FRAME_HEIGHT, settings.height),
                (cv2.CAP_PROP_FPS, 1 / settings.period_s),
            ):
                self._capture.set(key, value)

    def read(self) -> Image | None:
        try:
            good, image = self._capture.read()
            if not good:
                return None
            return np.asarray(self._cv2.cvtColor(image, self._cv2.COLOR_BGR2RGB))
        except self._cv2.error as error:
            raise CameraError(f"OpenCV failed: {error}") from error

    def close(self) -> None:
        self._capture.release()


def _backend(cv2: Any, source: int | str) -> int:
    """Return which of OpenCV's readers is meant."""
    if isinstance(source, int) or source.startswith("/dev/"):
        return int(cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY)
    return int(cv2.CAP_GSTREAMER if " ! " in source else cv2.CAP_ANY)
