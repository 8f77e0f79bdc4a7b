"""Cameras for any driver: OpenCV reads each on a thread of its own.

    thread:  open -> read -> check size -> one-frame slot, overwritten -> read ...
                ^______ back-off ______ unplugged, wrong size, no file
    frames(): a copy of what is in the slot; never waits

The age of a camera is the time since its newest frame came; a frame identical to the
`frozen_after` before it is not news, so a frozen camera ages as an unplugged one does.
The node holds when `ages()` are beyond its limit; past `max_age_s`, frames() raises.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import math
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
import numpy as np

from robostack.clock import Clock, MonotonicClock
from robostack.plugins import PluginError
from robostack.robot import Robot
from robostack.spec import Image, RobotSpec

from ._camera_source import (
    PATTERN,
    CameraError,
    CameraSettings,
    Opener,
    Source,
    fit,
    open_source,
)

log = logging.getLogger(__name__)

_BACK_OFF_S, _LONGEST_BACK_OFF_S = 0.1, 5.0
_END_S = 1.0  # for a thread to end


class _Slot(NamedTuple):
    image: Image
    stamp_s: float  # when the newest frame that was news came


class Camera:
    """One camera and its thread."""

    def __init__(
        self,
        name: str,
        settings: CameraSettings,
        opener: Opener | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Touch nothing yet."""
        self.name = name
        self.settings = settings
        self._opener = opener or open_source
        self._clock = clock or MonotonicClock()
        self._slot: _Slot | None = None
        self._same = 0  # identical frames in a row
        self._why = "it is not started"
        self._came = threading.Event()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to read."""
        self._slot, self._why = None, f"it gave no frame in {self.settings.open_s:g} s"
        self._came, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(
            target=self._work,
            args=(self._over, self._came),
            name=f"camera {self.name}",
            daemon=True,
        )
        self._thread.start()

    def wait(self) -> None:
        """Return when there is a frame.

        Raises:
            CameraError: there is none within `open_s`.
        """
        if not self._came.wait(self.settings.open_s):
            raise CameraError(f"camera {self.name}: {self._why}")

    def frame(self) -> Image:
        """Return a copy of the newest frame (H, W, 3). Never waits.

        Raises:
            CameraError: there is none yet, or none newer than `max_age_s`.
        """
        slot, most_s = self._slot, self.settings.max_age_s
        if slot is None:
            raise CameraError(f"camera {self.name}: {self._why}")
        age_s = self._clock.now() - slot.stamp_s
        if age_s > most_s:
            raise CameraError(
                f"camera {self.name} gave nothing new for {age_s:.1f} s "
                f"(limit {most_s:g} s): {self._why}"
            )
        return slot.image.copy()

    def age(self) -> float:
        """Return how long ago [s] something new came; infinite if nothing did."""
        slot = self._slot
        return math.inf if slot is None else self._clock.now() - slot.stamp_s

    def close(self) -> None:
        """End the thread, which releases the device. Idempotent, bounded."""
        self._over.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(_END_S)
            if thread.is_alive():
                log.warning("camera %s: its driver hangs in a read", self.name)

    def _work(self, over: threading.Event, came: threading.Event) -> None:
        back_off_s = _BACK_OFF_S
        while not over.is_set():
            before = self._slot
            try:
                with contextlib.closing(self._opener(self.settings)) as source:
                    self._drain(source, over, came)
            except CameraError as error:
                self._why = str(error)
            if self._slot is not before:
                back_off_s = _BACK_OFF_S
            over.wait(back_off_s)
            back_off_s = min(2 * back_off_s, _LONGEST_BACK_OFF_S)

    def _drain(
        self, source: Source, over: threading.Event, came: threading.Event
    ) -> None:
        while not over.is_set():
            image = source.read()
            if over.is_set():
                return
            if image is None:
                raise CameraError("its source ended or was unplugged")
            self._keep(fit(image, self.settings))
            came.set()
            if source.paced:
                over.wait(self.settings.period_s)

    def _keep(self, image: Image) -> None:
        last, now = self._slot, self._clock.now()
        same = last is not None and np.array_equal(image, last.image)
        self._same = self._same + 1 if same else 0
        if last is not None and self._same >= self.settings.frozen_after:
            self._why = f"its last {self._same} frames are identical"
            now = last.stamp_s
        self._slot = _Slot(image, now)


class WithCameras:
    """A robot with cameras put around it; all else is the robot's own."""

    def __init__(self, robot: Robot, cameras: Mapping[str, Camera]) -> None:
        """Touch nothing yet."""
        self._robot = robot
        self._cameras = dict(cameras)
        self.spec = with_specs(
            robot.spec, {name: c.settings for name, c in self._cameras.items()}
        )

    def __getattr__(self, name: str) -> Any:
        """Return a member of the robot: what a driver may have, but need not."""
        return getattr(self._robot, name)

    def connect(self) -> None:
        """Connect the robot, then open all cameras, in bounded time.

        Raises:
            CameraError: a camera gives no frame; nothing is left open.
        """
        self._robot.connect()
        try:
            for camera in self._cameras.values():
                camera.start()
            for camera in self._cameras.values():
                camera.wait()
        except BaseException:
            self.close()
            raise

    def frames(self) -> dict[str, Image]:
        """Return the newest frame (H, W, 3) of each camera. Never waits for one."""
        ours = {name: camera.frame() for name, camera in self._cameras.items()}
        return {**self._robot.frames(), **ours}

    def ages(self) -> dict[str, float]:
        """Return how long ago [s] each camera gave something new."""
        theirs: dict[str, float] = getattr(self._robot, "ages", dict)()
        return {**theirs, **{name: c.age() for name, c in self._cameras.items()}}

    def close(self) -> None:
        """Close the robot, then the cameras."""
        try:
            self._robot.close()
        finally:
            for camera in self._cameras.values():
                camera.close()


def with_cameras(
    robot: Robot,
    settings: Mapping[str, CameraSettings],
    clock: Clock | None = None,
    opener: Opener | None = None,
) -> Robot:
    """Return `robot` with cameras; itself if there are none.

    Raises:
        PluginError: OpenCV is not installed, and a source needs it.
    """
    if not settings:
        return robot
    opencv = any(camera.source != PATTERN for camera in settings.values())
    if opencv and opener is None and importlib.util.find_spec("cv2") is None:
        raise PluginError(
            "cameras need the package 'opencv-python-headless', which is not "
            "installed: pip install 'robostack[cameras]'"
        )
    cameras = {name: Camera(name, s, opener, clock) for name, s in settings.items()}
    return WithCameras(robot, cameras)


def with_specs(spec: RobotSpec, settings: Mapping[str, CameraSettings]) -> RobotSpec:
    """Return the spec of a robot with these cameras added."""
    if both := spec.cameras.keys() & settings.keys():
        raise CameraError(f"{spec.name} has a camera {', '.join(sorted(both))} already")
    ours = {name: camera.spec for name, camera in settings.items()}
    return msgspec.structs.replace(spec, cameras={**spec.cameras, **ours})
