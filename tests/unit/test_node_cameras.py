"""Frames: each camera at its own period, for watchers only, never in anybody's way."""

import threading

import msgspec
import numpy as np
import pytest
from node_bench import Bench, Watcher
from robot_examples import LockstepFake

import robostack.node.journal as journal_module
from robostack.clock import ManualClock
from robostack.limits import derive
from robostack.messages import Frame, Tensor
from robostack.node.cameras import Cameras
from robostack.node.freshness import SensorLimits
from robostack.node.journal import Journal, Sensed
from robostack.node.serve import backlog
from robostack.node.supervisor import Supervisor
from robostack.spec import CameraSpec


def with_cameras(spec, **periods_s):
    cameras = {n: CameraSpec(4, 6, period_s) for n, period_s in periods_s.items()}
    return msgspec.structs.replace(spec, cameras=cameras)


class SeeingFake(LockstepFake):
    """Two cameras, whose pixels count the looks."""

    spec = with_cameras(LockstepFake.spec, top=0.04, wrist=0.1)

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0

    def frames(self):
        self.looks += 1
        return {n: np.full((4, 6, 3), self.looks, np.uint8) for n in self.spec.cameras}


def run(bench, periods):
    bench.begin()
    for _ in range(periods):
        bench.step()
    return bench.watcher.of(Frame)


def test_each_camera_has_its_own_period():
    bench = Bench(SeeingFake())
    frames = run(bench, 10)
    assert [f.seq for f in frames if f.camera == "top"] == [0, 2, 4, 6, 8, 10]
    assert [f.seq for f in frames if f.camera == "wrist"] == [0, 5, 10]


def test_a_frame_has_the_stamp_and_the_generation_of_its_step():
    frames = run(Bench(SeeingFake()), 2)
    assert [f.stamp_s for f in frames if f.camera == "top"] == pytest.approx([0, 0.04])
    assert {f.generation for f in frames} == {1}
    assert frames[0].pixels.unpack().shape == (4, 6, 3)


def test_a_new_episode_begins_with_frames_of_all_cameras():
    bench = Bench(SeeingFake())
    run(bench, 3)
    bench.end()
    before = len(bench.watcher.of(Frame))
    bench.begin()
    assert {f.camera for f in bench.watcher.of(Frame)[before:]} == {"top", "wrist"}


class Deaf(Watcher):
    def watched(self):
        return False


def test_nobody_looks_when_nobody_watches(monkeypatch):
    monkeypatch.setattr("node_bench.Watcher", Deaf)
    bench = Bench(SeeingFake())
    assert run(bench, 5) == []
    assert bench.robot.looks == 0


class BlindfoldedFake(SeeingFake):
    def frames(self):
        raise OSError("camera unplugged")


def test_a_camera_that_raises_is_a_fault():
    bench = Bench(BlindfoldedFake())
    bench.begin()
    assert bench.machine.state == "fault"
    assert "camera unplugged" in bench.machine.cause


class SlowFake(SeeingFake):
    def __init__(self) -> None:
        super().__init__()
        self.looking, self.go_on = threading.Event(), threading.Event()

    def frames(self):
        self.looking.set()
        assert self.go_on.wait(10)
        return super().frames()


def test_in_real_time_a_slow_camera_holds_nobody_up_and_skips():
    robot, watcher = SlowFake(), Watcher()
    journal = Journal(watcher, ManualClock())
    supervisor = Supervisor(robot, robot.clock, derive(robot.spec), journal)
    cameras = Cameras(
        robot, journal, supervisor, lockstep=False, sensor_limits=SensorLimits()
    )
    arrays = {name: Tensor.pack(array) for name, array in robot.read().items()}
    cameras.start(0.0)
    cameras.publish(1, Sensed(0, 0.0, arrays, {}, {}))
    assert robot.looking.wait(5)
    for seq in range(1, 9):  # all while the first look goes on
        cameras.publish(1, Sensed(seq, 0.1 * seq, arrays, {}, {}))
    robot.go_on.set()
    robot.looking.clear()
    assert robot.looking.wait(5)
    cameras.close()
    assert cameras.skipped == 7
    assert {f.seq for f in watcher.of(Frame)} == {0, 8}


def test_whether_anybody_watches_is_asked_now_and_then(monkeypatch):
    now_s = 100.0
    monkeypatch.setattr(journal_module.time, "monotonic", lambda: now_s)
    asked = []

    class Counting(Watcher):
        def watched(self):
            asked.append(now_s)
            return True

    monkeypatch.setattr("node_bench.Watcher", Counting)
    bench = Bench()
    bench.begin()
    for _ in range(50):
        bench.step()
    assert len(asked) == 1


def test_a_stuck_watcher_of_large_frames_may_keep_fewer_of_them():
    assert backlog(LockstepFake.spec) == 1000
    cameras = {"front": CameraSpec(480, 640, 0.03)}
    spec = msgspec.structs.replace(LockstepFake.spec, cameras=cameras)
    assert backlog(spec) * 480 * 640 * 3 < 130 * 1024 * 1024
