"""What the doctor says of a computer, and of robots through their drivers' contract."""

import json
import socket
import time

import numpy as np
import pytest

from robostack import cli
from robostack.clock import ManualClock
from robostack.doctor import installation, machine, rendering, timing
from robostack.doctor import robot as robots
from robostack.doctor.verdict import UnfitError, attempt, judge
from robostack.hardware.fake.driver import FakeRobot
from robostack.robot import Finding

FAULT = Finding("fault", "a", "b", "c")
ADVICE = Finding("advice", "d", "e", "f")
OK = Finding("ok", "g", "h", "")


class SlowFake(FakeRobot):
    """Takes longer than its period to read."""

    def read(self):
        time.sleep(1.2 * self.spec.control_period_s)
        return super().read()


class DeafFake(FakeRobot):
    """Does not connect."""

    def connect(self):
        raise OSError("no answer from servo 3")


class BlindFake(FakeRobot):
    """Senses nonsense."""

    def read(self):
        return super().read() | {"joint_velocity": np.float32([np.nan, 0.0])}


class WatchedFake(FakeRobot):
    """Remembers what was done to it."""

    calls = ()

    def reset(self):
        type(self).calls += ("reset",)
        super().reset()

    def apply(self, action):
        type(self).calls += ("apply",)
        return super().apply(action)

    def close(self):
        type(self).calls += ("close",)
        super().close()


@pytest.fixture
def served(monkeypatch):
    """Return a function that puts another driver in the place of the fake's."""
    monkeypatch.setattr(robots, "_LONG_S", 0.2)
    monkeypatch.setattr(robots, "_HOLD_S", 0.01)

    def put(driver):
        monkeypatch.setattr(robots, "make", lambda address: driver())

    return put


def levels(findings):
    return [finding.level for finding in findings]


# the verdict


def test_the_worst_comes_first_and_a_fault_fails():
    verdict = judge([OK, ADVICE, FAULT])
    assert verdict.findings == (FAULT, ADVICE, OK)
    assert not verdict.passed
    assert judge([OK, ADVICE]).passed


def test_a_check_that_breaks_is_a_fault():
    (finding,) = attempt("rate", lambda: 1 / 0)
    assert finding.level == "fault"
    assert finding.found == "ZeroDivisionError: division by zero"


# robots


def test_a_good_robot_passes_untouched(served):
    WatchedFake.calls = ()
    served(WatchedFake)
    assert robots.examine("hardware:fake").passed
    assert WatchedFake.calls == ("close",)


def test_only_move_moves_it(served):
    WatchedFake.calls = ()
    served(WatchedFake)
    assert robots.examine("hardware:fake", move=True).passed
    assert WatchedFake.calls == ("reset", "apply", "close")


@pytest.mark.parametrize(
    ("driver", "about", "words"),
    [
        (SlowFake, "sensors", "expected a reading within the control period of 20 ms"),
        (DeafFake, "driver", "OSError: no answer from servo 3"),
        (BlindFake, "sensors", "joint_velocity is not finite"),
    ],
)
def test_what_is_wrong_is_named_and_not_served(served, driver, about, words):
    served(driver)
    verdict = robots.examine("hardware:fake", quick=True)
    assert [f.about for f in verdict.of("fault")] == [about]
    assert verdict.of("fault")[0].found.startswith(words)
    with pytest.raises(UnfitError, match=r"1\. "):
        robots.insist("hardware:fake")


def test_worlds_can_be_examined():
    pytest.importorskip("mujoco")
    assert robots.examine("sim:pendulum", quick=True).passed


def test_serve_does_not_listen_when_there_is_a_fault(served, monkeypatch, capsys):
    served(DeafFake)
    monkeypatch.setattr("robostack.node.serve.serve", None)
    assert cli.main(["serve", "hardware:fake"]) == 1
    assert "1. driver: OSError: no answer from servo 3" in capsys.readouterr().err


def test_serve_prints_advice_and_serves(monkeypatch, capsys):
    served = []
    monkeypatch.setattr(
        "robostack.node.serve.serve", lambda *a, **_: served.append(a[1])
    )
    monkeypatch.setattr(
        robots, "examine", lambda address, *, quick: judge([ADVICE, OK])
    )
    assert cli.main(["serve", "hardware:fake"]) == 0
    assert served == ["hardware:fake"]
    assert "advice d: e" in capsys.readouterr().out


def test_the_exit_code_is_the_verdict_and_json_is_json(served, capsys):
    served(BlindFake)
    assert cli.main(["doctor", "hardware:fake", "--json"]) == 1
    verdict = json.loads(capsys.readouterr().out)
    assert verdict["passed"] is False
    assert verdict["findings"][0]["about"] == "sensors"


def test_a_robot_is_needed_to_move_one(capsys):
    assert cli.main(["doctor", "--move"]) == 1
    assert "expected a robot" in capsys.readouterr().err


# the computer


def test_two_wheels_in_one_folder_are_a_fault():
    both = {"onnxruntime": "1.31", "onnxruntime-gpu": "1.31", "numpy": "2.0"}
    assert levels(installation.rivals(both)) == ["fault"]
    assert levels(installation.rivals({"onnxruntime": "1.31"})) == []


@pytest.mark.parametrize(
    ("version", "bounds", "fits"),
    [
        ("2.13.0+cpu", ">=2.9,<2.14", True),
        ("2.14.0", ">=2.9,<2.14", False),
        ("2.8.9", ">=2.9,<2.14", False),
        ("4.0.0", ">=4,<5", True),
        ("0.2.0", "==0.2.0", True),
        ("0.2.1", "==0.2.0", False),
        ("1.30rc1", ">=1.20", True),
        ("1.4.9", "~=1.4.2", True),
        ("1.5.0", "~=1.4.2", False),
        ("9", "", True),
    ],
)
def test_versions_are_compared_number_by_number(version, bounds, fits):
    assert installation.satisfies(version, bounds) is fits


def test_a_package_of_the_wrong_version_is_named():
    needs = ["torch<2.14,>=2.9 ; extra == 'train'", "numpy>=1.26", "h5py>=3"]
    (finding,) = installation.mismatches(needs, {"torch": "2.15.0", "numpy": "2.4"})
    assert finding.found == "expected torch<2.14,>=2.9, got 2.15.0"


def test_this_installation_has_no_fault():
    assert "fault" not in levels(installation.installation())


def test_onnx_runtime_is_tried_and_not_believed():
    pytest.importorskip("onnxruntime")
    from robostack.doctor.inference import inference

    assert Finding("ok", "inference", "cpu: CPUExecutionProvider works", "") in list(
        inference()
    )


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise ImportError('no EGL')", "does not work: ImportError: no EGL"),
        ("import time; time.sleep(60)", "no picture in 0.5 s"),
        ("import os; os.abort()", "does not work: exit code -6"),
    ],
)
def test_graphics_that_raise_hang_or_crash_are_advice(code, words):
    pytest.importorskip("mujoco")
    (finding,) = rendering.rendering(code, timeout_s=0.5)
    assert (finding.level, finding.found) == ("advice", words)


@pytest.mark.slow
def test_this_computer_draws():
    pytest.importorskip("mujoco")
    assert levels(rendering.rendering()) == ["ok"]


class LateClock(ManualClock):
    """Wakes 1 ms late, and every tenth time 30 ms."""

    wakes = 0

    def sleep_until(self, deadline):
        self.wakes += 1
        super().sleep_until(deadline + (0.03 if self.wakes % 10 == 0 else 0.001))


def test_jitter_counts_how_late_a_loop_wakes():
    found = timing.jitter(100.0, 1.0, LateClock())
    assert found.p50_s == pytest.approx(0.001)
    assert found.max_s == pytest.approx(0.03)
    assert found.missed == 9  # the last is not followed by another


def test_timing_is_advice_at_worst():
    assert set(levels(timing.timing(0.1))) <= {"ok", "advice"}
    assert set(levels(timing.priority())) <= {"ok", "advice"}
    assert set(levels(timing.sleep())) <= {"ok", "advice"}


def test_a_full_disk_is_a_fault(tmp_path, monkeypatch):
    assert levels(machine.disk(tmp_path / "not" / "there")) != ["fault"]
    monkeypatch.setattr(
        machine.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 5e8})
    )
    (finding,) = machine.disk(tmp_path)
    assert finding.level == "fault"
    assert finding.found.startswith("0.5 GB free")


def test_ports_in_use_are_advice():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        (finding,) = machine.ports(f"tcp://127.0.0.1:{port}")
    assert finding.level == "advice"
    assert str(port) in finding.found
