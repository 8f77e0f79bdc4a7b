"""Cameras on their own threads: real decoders, and sources that misbehave."""

import contextlib
import logging
import math
import queue
import sys
import threading
import time

import numpy as np
import pytest

from robostack.clock import ManualClock
from robostack.hardware import _camera, _camera_source, rig
from robostack.hardware._camera import Camera, with_cameras
from robostack.hardware._camera_source import CameraError, CameraSettings
from robostack.hardware.fake.driver import FakeRobot
from robostack.plugins import PluginError

SETTINGS = CameraSettings("scripted", 4, 6, 0.01, open_s=2.0)
PATIENCE_S = 5.0


class Scripted:
    """A source whose frames a test hands over; `None` is the end, an error a fault."""

    paced = False

    def __init__(self):
        self.script = queue.Queue()
        self.opened = self.closed = 0
        self.missing = False

    def open(self, settings):
        if self.missing:
            raise CameraError("there is no /dev/video9")
        self.opened += 1
        return self

    def read(self):
        item = self.script.get()
        if isinstance(item, Exception):
            raise item
        return item

    def close(self):
        self.closed += 1


@pytest.fixture
def source():
    source = Scripted()
    yield source
    source.script.put(None)


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def camera(source, clock):
    camera = Camera("front", SETTINGS, source.open, clock)
    yield camera
    source.script.put(None)
    camera.close()


def image(shade, shape=(4, 6, 3)):
    return np.full(shape, shade, np.uint8)


def eventually(condition):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def started(camera, source, shade=1):
    source.script.put(image(shade))
    camera.start()
    camera.wait()


def shows(camera, shade):
    return lambda: camera.frame()[0, 0, 0] == shade


def test_newest_frame_is_a_copy_and_older_ones_are_overwritten(camera, source):
    started(camera, source)
    for shade in (2, 3, 4):
        source.script.put(image(shade))
    eventually(shows(camera, 4))
    camera.frame()[:] = 9
    assert camera.frame()[0, 0, 0] == 4


def test_age_is_the_time_since_something_new_came(camera, source, clock):
    assert camera.age() == math.inf
    started(camera, source)
    clock.advance(0.3)
    assert camera.age() == pytest.approx(0.3)
    source.script.put(image(2))
    eventually(shows(camera, 2))
    assert camera.age() == 0


def test_a_frozen_source_ages_though_frames_keep_coming(camera, source, clock):
    started(camera, source, 7)
    for _ in range(SETTINGS.frozen_after - 1):
        source.script.put(image(7))
    eventually(lambda: camera._same == SETTINGS.frozen_after - 1)
    clock.advance(1.0)
    for n in range(3):
        source.script.put(image(7))
        eventually(lambda n=n: camera._same == SETTINGS.frozen_after + n)
    assert camera.age() == pytest.approx(1.0)
    clock.advance(1.5)
    with pytest.raises(
        CameraError, match=r"nothing new for 2.5 s .*last 12 frames are"
    ):
        camera.frame()
    source.script.put(image(8))
    eventually(lambda: camera.age() == 0)
    assert camera.frame()[0, 0, 0] == 8


def test_an_unplugged_source_is_opened_again_when_it_is_back(camera, source, clock):
    started(camera, source)
    source.missing = True
    source.script.put(None)
    eventually(lambda: camera._why == "there is no /dev/video9")
    assert camera.frame()[0, 0, 0] == 1  # not too old yet
    clock.advance(2.1)
    with pytest.raises(CameraError, match=r"camera front gave nothing new for 2.1 s"):
        camera.frame()
    source.missing = False
    source.script.put(image(5))
    eventually(lambda: camera.age() == 0)
    assert camera.frame()[0, 0, 0] == 5
    assert (source.opened, source.closed) == (2, 1)


def test_a_source_that_fails_is_closed_and_opened_again(camera, source):
    started(camera, source)
    source.script.put(CameraError("OpenCV failed: select() timeout"))
    source.script.put(image(6))
    eventually(shows(camera, 6))
    assert (source.opened, source.closed) == (2, 1)


def test_frames_never_wait_for_a_slow_source(camera, source, clock):
    started(camera, source)
    eventually(source.script.empty)  # the thread is in a read that does not return
    for _ in range(100):
        assert camera.frame()[0, 0, 0] == 1
    clock.advance(0.5)
    assert camera.age() == 0.5


def test_a_wrong_size_is_refused_and_both_are_named(camera, source):
    source.script.put(image(1, (8, 6, 3)))
    camera.start()
    eventually(lambda: "expected frames (4, 6, 3), got (8, 6, 3)" in camera._why)
    with pytest.raises(CameraError, match="set height and width to what it gives"):
        camera.frame()


def test_a_size_that_changes_later_is_never_shown(camera, source, clock):
    started(camera, source)
    source.script.put(image(2, (8, 12, 3)))
    eventually(lambda: "got (8, 12, 3)" in camera._why)
    assert camera.frame().shape == (4, 6, 3)
    clock.advance(3.0)
    with pytest.raises(CameraError, match=r"got \(8, 12, 3\)"):
        camera.frame()


def test_opening_is_bounded_and_says_why(source):
    source.missing = True
    quick = CameraSettings("scripted", 4, 6, 0.01, open_s=0.05)
    robot = with_cameras(FakeRobot(), {"front": quick}, opener=source.open)
    with pytest.raises(CameraError, match="camera front: there is no /dev/video9"):
        robot.connect()
    assert not [t for t in threading.enumerate() if t.name == "camera front"]


def test_an_open_that_hangs_is_left_after_its_time():
    free = threading.Event()

    def hang(settings):
        free.wait(PATIENCE_S)
        raise CameraError("too late")

    camera = Camera("front", CameraSettings("x", 4, 6, 0.01, open_s=0.05), hang)
    camera.start()
    with pytest.raises(CameraError, match=r"it gave no frame in 0.05 s"):
        camera.wait()
    free.set()
    camera.close()


def test_closing_releases_the_device_and_ends_the_thread(camera, source):
    started(camera, source)
    source.script.put(image(2))
    camera._over.set()
    source.script.put(image(3))
    camera.close()
    camera.close()
    assert source.closed == source.opened == 1
    assert not [t for t in threading.enumerate() if t.name == "camera front"]


def test_a_read_that_hangs_does_not_hang_close(camera, source, caplog, monkeypatch):
    monkeypatch.setattr(_camera, "_END_S", 0.05)
    started(camera, source)
    with caplog.at_level(logging.WARNING):
        camera.close()
    assert "its driver hangs in a read" in caplog.text


def test_a_robot_keeps_its_own_members_behind_cameras(source):
    class Watched(FakeRobot):
        ending = "its own"

        def ages(self):
            return {"joint_position": 0.25}

    source.script.put(image(1))
    robot = with_cameras(Watched(), {"front": SETTINGS}, ManualClock(), source.open)
    with contextlib.closing(robot):
        robot.connect()
        robot.reset()
        assert robot.frames().keys() == robot.spec.cameras.keys() == {"front"}
        assert robot.ages() == {"joint_position": 0.25, "front": 0.0}
        assert robot.ending == "its own"
        assert not hasattr(robot, "damp")
        robot.apply(np.zeros(2, np.float32))
        source.script.put(None)
    plain = FakeRobot()
    assert with_cameras(plain, {}) is plain


def test_two_cameras_of_one_name_are_refused(source):
    robot = with_cameras(FakeRobot(), {"front": SETTINGS}, opener=source.open)
    with pytest.raises(CameraError, match="has a camera front already"):
        with_cameras(robot, {"front": SETTINGS}, opener=source.open)


def test_without_opencv_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(PluginError, match=r"not installed: pip install .*cameras"):
        with_cameras(FakeRobot(), {"front": SETTINGS})
    pattern = CameraSettings("pattern", 4, 6, 0.01)
    with_cameras(FakeRobot(), {"front": pattern}).close()


def test_a_missing_device_is_named_without_asking_opencv():
    pytest.importorskip("cv2")
    with pytest.raises(CameraError, match="there is no /dev/video99"):
        _camera_source.open_source(CameraSettings(99, 4, 6, 0.01))


# through OpenCV's decoders


@pytest.fixture
def video(tmp_path):
    """Return a video file of 48 x 64, red above blue, growing brighter."""
    cv2 = pytest.importorskip("cv2")
    path = tmp_path / "front.avi"
    motion_jpeg = cv2.VideoWriter.fourcc(*"MJPG")
    writer = cv2.VideoWriter(str(path), motion_jpeg, 50.0, (64, 48))
    assert writer.isOpened()
    for shade in range(100, 220, 4):
        picture = np.zeros((48, 64, 3), np.uint8)
        picture[:24, :, 2] = shade  # OpenCV has blue first
        picture[24:, :, 0] = shade
        writer.write(picture)
    writer.release()
    return path


def test_a_video_file_is_decoded_as_red_green_blue(video):
    camera = Camera("front", CameraSettings(str(video), 48, 64, 0.005))
    with contextlib.closing(camera):
        camera.start()
        camera.wait()
        first = camera.frame()
        assert first.shape == (48, 64, 3)
        assert first.dtype == np.uint8
        assert first.flags.c_contiguous
        above, below = first[4:20].mean((0, 1)), first[28:44].mean((0, 1))
        assert above[0] > 90
        assert above[2] < 30
        assert below[2] > 90
        assert below[0] < 30
        eventually(lambda: camera.frame()[4:20, :, 0].mean() > above[0] + 10)


def test_a_file_that_is_removed_ages_until_it_is_back(video, tmp_path):
    settings = CameraSettings(str(video), 48, 64, 0.001, max_age_s=0.3)
    camera = Camera("front", settings)
    with contextlib.closing(camera):
        camera.start()
        camera.wait()
        video.rename(tmp_path / "away.avi")
        eventually(lambda: camera.age() > settings.max_age_s)
        with pytest.raises(
            CameraError, match=r"nothing new .* there is no .*front.avi"
        ):
            camera.frame()
        (tmp_path / "away.avi").rename(video)
        eventually(lambda: camera.age() < settings.max_age_s)
        camera.frame()


def test_an_image_sequence_is_a_source_too_and_may_be_resized(tmp_path):
    cv2 = pytest.importorskip("cv2")
    for i in range(5):
        cv2.imwrite(str(tmp_path / f"{i:03d}.png"), image(40 * i, (20, 30, 3)))
    source = str(tmp_path / "%03d.png")
    camera = Camera("front", CameraSettings(source, 10, 15, 0.01, resize=True))
    with contextlib.closing(camera):
        camera.start()
        camera.wait()
        assert camera.frame().shape == (10, 15, 3)


# a rig: any robot, cameras around it


def test_a_rig_file_puts_cameras_around_a_robot(tmp_path):
    (tmp_path / "left.toml").write_text(
        "robot = 'hardware:fake'\n[cameras.wrist]\nsource = 'pattern'\n"
        "height = 4\nwidth = 6\nperiod_s = 0.01\n"
    )
    robot = rig.make(str(tmp_path / "left.toml"))
    assert robot.spec == rig.spec(str(tmp_path / "left.toml"))
    with contextlib.closing(robot):
        robot.connect()
        before = robot.frames()["wrist"]
        eventually(lambda: not np.array_equal(robot.frames()["wrist"], before))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "no rig file .*: copy .*example.toml"),
        ("robot = 'sim:pendulum'\n[cameras]\n", "expected hardware:ROBOT in a rig"),
        ("robot = 'hardware:rig/example'\n[cameras]\n", "expected hardware:ROBOT"),
        ("robot = 1\n", "cannot use the rig file"),
    ],
)
def test_a_bad_rig_file_is_one_sentence(tmp_path, text, sentence):
    if text is not None:
        (tmp_path / "left.toml").write_text(text)
    with pytest.raises(rig.RigError, match=sentence):
        rig.spec(str(tmp_path / "left.toml"))


def test_a_rig_without_a_file_is_refused():
    with pytest.raises(PluginError, match=r"hardware:rig/FILE\.toml"):
        rig.spec("")
