"""What SAFE, the end and the death of a node mean for a robot, without hardware."""

from __future__ import annotations

import sys
import time
from types import SimpleNamespace

import pytest
from node_bench import Bench
from robot_examples import RecordingFake

from robostack import plugins
from robostack.messages import Opened
from robostack.node import guardian
from robostack.node.guardian import GuardianError, Ward, guarded, ward_of
from robostack.robot import Ending


class EndingFake(RecordingFake):
    """A fake with an ending and facts."""

    def __init__(self, **ending) -> None:
        super().__init__()
        self.ending = Ending(**ending)

    def damp(self):
        self.calls.append("damp")

    def park(self):
        self.calls.append("park")

    def facts(self):
        return {"calibration": "c0ffee"}


@pytest.mark.parametrize("safe", ["hold", "damp"])
def test_safe_damps_a_robot_that_ends_so_and_holds_others(safe):
    bench = Bench(EndingFake(safe=safe))
    bench.begin()
    bench.robot.calls.clear()
    bench.supervisor.leave("safe", "test")
    assert bench.robot.calls == (["stop", "damp"] if safe == "damp" else ["stop"])


@pytest.mark.parametrize("state", ["hold", "safe", "fault", "estop"])
def test_only_a_robot_without_a_latched_fault_is_parked(state):
    bench = Bench(EndingFake(close="home"))
    bench.begin()
    bench.supervisor.leave(state, "test")
    bench.robot.calls.clear()
    told = []
    bench.supervisor.park("the end", lambda: told.append(list(bench.robot.calls)))
    assert ("park" in bench.robot.calls) is (state in ("hold", "safe"))
    assert bench.machine.state in ("disabled", "fault", "estop")
    assert "park" not in told[0]


def test_a_robot_that_ends_limp_is_not_parked():
    bench = Bench(EndingFake(close="limp"))
    bench.begin()
    bench.supervisor.park("the end", lambda: None)
    assert "park" not in bench.robot.calls


def test_facts_are_labels_of_the_episode_and_no_part_of_the_spec():
    bench = Bench(EndingFake())
    bench.begin()
    (opened,) = bench.watcher.of(Opened)
    assert opened.labels == {"task": "test", "robot.calibration": "c0ffee"}
    assert opened.robot == RecordingFake().spec


def test_a_robot_without_a_rescue_needs_no_guardian():
    assert ward_of("hardware:fake", RecordingFake()) is None
    assert ward_of("sim:pendulum", RecordingFake()) is None


def test_the_guardian_is_told_the_lifeline_and_the_ending(monkeypatch):
    monkeypatch.setattr(plugins, "load", lambda *_: SimpleNamespace(rescue=print))
    robot = EndingFake(orphan="limp")
    assert ward_of("hardware:fake", robot) == ("hardware", "fake", "", "limp")
    robot.lifeline = "/dev/tty9"
    assert ward_of("hardware:fake", robot).argument == "/dev/tty9"


@pytest.fixture
def rescues(tmp_path, monkeypatch):
    """Put a plug-in with a rescue that leaves a note in the guardian's way."""
    (tmp_path / "noting.py").write_text(
        "from pathlib import Path\n"
        "def make(argument): pass\n"
        "def rescue(argument, how): Path(argument).write_text(how)\n"
    )
    (tmp_path / "noting-1.dist-info").mkdir()
    (tmp_path / "noting-1.dist-info" / "entry_points.txt").write_text(
        "[robostack.hardware]\nnoting = noting\n"
    )
    (tmp_path / "noting-1.dist-info" / "METADATA").write_text("Name: noting\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path / "note"


def test_a_guardian_that_heard_bye_rescues_nobody(rescues):
    with guarded(Ward("hardware", "noting", str(rescues), "limp"), pytest.fail):
        pass
    assert not rescues.exists()


def test_a_guardian_whose_pipe_ends_without_a_bye_rescues(rescues):
    process = guardian._start(Ward("hardware", "noting", str(rescues), "limp"))
    process.stdin.close()
    assert process.wait(10) == 1
    assert rescues.read_text() == "limp"


def test_a_guardian_that_dies_is_missed_and_replaced(rescues, monkeypatch):
    monkeypatch.setattr(guardian, "_NOT_SOONER_S", 0.01)
    lost = []
    ward = Ward("hardware", "noting", str(rescues), "hold")
    watching = guardian.Guardian(ward, lost.append)
    first = watching.process
    first.kill()
    deadline = time.monotonic() + 20
    while watching.process is first and time.monotonic() < deadline:
        time.sleep(0.01)
    assert watching.process.poll() is None
    watching.close()
    assert len(lost) == 1
    assert "nobody would act" in lost[0]
    assert not rescues.exists()


def test_a_guardian_that_cannot_start_is_an_error_with_a_sentence(monkeypatch, capfd):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with (
        pytest.raises(GuardianError, match="expected a guardian for hardware:so101"),
        guarded(Ward("hardware", "so101", "x", "hold"), print),
    ):
        pass
