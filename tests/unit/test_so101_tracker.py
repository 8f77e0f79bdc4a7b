"""The tag tracker of the SO-101 on drawn pictures of a tag."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("cv2", reason="opencv-python-headless is not installed")

import cv2

from robostack.clock import ManualClock
from robostack.hardware.so101 import tracker_aruco
from robostack.hardware.so101.tracker_aruco import (
    ArucoTracker,
    Tag,
    TrackerError,
    locate,
)

TAG = Tag(
    focal=(600.0, 600.0),
    center=(320.0, 240.0),
    place=(0.22, 0.0, 0.55),
    right=(0.0, -1.0, 0.0),
    down=(-1.0, 0.0, 0.0),
    id=3,
)


SIZE = 0.03  # [m] of the black square


def picture(cube, turn=0.0, tag=TAG, number=3):
    """Draw the tag on a cube at `cube` (3,) [m], turned about z by `turn` [rad]."""
    dictionary = cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_4X4_50)
    marker = cv2.aruco.generateImageMarker(dictionary, number, 240)
    paper = np.pad(marker, 60, constant_values=255)  # a white rim, a quarter of the tag
    half = SIZE * paper.shape[0] / 240 / 2
    c, s = np.cos(turn), np.sin(turn)
    square = np.array([[-half, half], [half, half], [half, -half], [-half, -half]])
    flat = square @ np.array([[c, s], [-s, c]])
    corners = np.column_stack([flat, np.full(4, tag.depth)]) + cube
    axes = np.stack([tag.right, tag.down, np.cross(tag.right, tag.down)])
    seen = (corners - np.array(tag.place)) @ axes.T
    pixels = seen[:, :2] / seen[:, 2:] * tag.focal + tag.center
    edge = paper.shape[0] - 0.5
    source = np.float32([[-0.5, -0.5], [edge, -0.5], [edge, edge], [-0.5, edge]])
    warp = cv2.getPerspectiveTransform(source, np.float32(pixels))
    gray = cv2.warpPerspective(
        paper, warp, (640, 480), flags=cv2.INTER_AREA, borderValue=120
    )
    return np.repeat(gray[:, :, None], 3, axis=2)


@pytest.mark.parametrize("turn", [0.0, 0.4, 1.7, -2.5])
@pytest.mark.parametrize("xy", [(0.22, 0.0), (0.19, 0.08), (0.27, -0.1)])
def test_the_cube_is_found_within_a_millimetre(xy, turn):
    cube = np.array([*xy, 0.0176])
    found = locate(picture(cube, turn), TAG)
    assert np.abs(found - cube).max() < 0.001


def test_another_tag_and_no_tag_are_no_cube():
    cube = np.array([0.22, 0.0, 0.0176])
    assert locate(picture(cube, number=4), TAG) is None
    assert locate(np.full((480, 640, 3), 120, np.uint8), TAG) is None


class Still:
    """A camera with a new frame whenever somebody looks."""

    def __init__(self, clock, image):
        self.image, self.closed, self._clock = image, False, clock

    def start(self): ...

    def wait(self): ...

    def frame(self):
        return self.image

    def age(self):
        self._clock.advance(0.05)
        return 0.0

    def close(self):
        self.closed = True


def test_the_age_of_a_sighting_grows_while_the_tag_is_hidden():
    clock = ManualClock()
    view = Still(clock, picture(np.array([0.2, 0.05, 0.0176])))
    tracker = ArucoTracker(TAG, view, clock)
    tracker.open()
    np.testing.assert_allclose(tracker.sighting().position[:2], [0.2, 0.05], atol=2e-3)
    view.image = np.zeros_like(view.image)
    tracker.close()
    before = tracker.sighting().age_s
    clock.advance(1.0)
    assert tracker.sighting().age_s == pytest.approx(before + 1.0)
    assert view.closed


def test_a_tag_that_is_never_seen_is_one_sentence(monkeypatch):
    monkeypatch.setattr(tracker_aruco, "_FIRST_S", 0.1)
    clock = ManualClock()
    view = Still(clock, np.zeros((480, 640, 3), np.uint8))
    tracker = ArucoTracker(TAG, view, clock)
    with pytest.raises(TrackerError, match="expected tag 3 of DICT_4X4_50"):
        tracker.open()
    assert view.closed
    with pytest.raises(TrackerError, match="expected connect"):
        tracker.sighting()
