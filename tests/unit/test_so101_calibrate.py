"""Calibrating an SO-101: a person moves it, and the ticks are noted."""

import contextlib
import functools
import os
import time

import numpy as np
import pytest

from robostack import cli

pytest.importorskip("scservo_sdk", reason="feetech-servo-sdk is not installed")

from robostack.hardware.so101 import calibrate as calibrating
from robostack.hardware.so101 import emulator
from robostack.hardware.so101.bus import Bus
from robostack.hardware.so101.calibration import CalibrationError, load, nominal
from robostack.hardware.so101.emulated_servo import STEP_S

ZERO, REACH = 2048.0, 1900.0  # [tick]; the joints have stops before that


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """Wait for servos that share this interpreter."""
    monkeypatch.setattr(calibrating, "Bus", functools.partial(Bus, patience_s=0.5))


@pytest.fixture
def arm():
    with emulator.so101() as arm:
        yield arm


def put(arm, ticks):
    """Have a hand put all joints of the limp arm at `ticks` (6,)."""
    for servo, tick in zip(arm.servos, ticks, strict=True):
        servo.position = float(tick)
    time.sleep(4 * STEP_S)  # until the servos have measured it


def hand(arm, *, sweep=REACH):
    """Return a person who holds the zero pose, then moves every joint to its stops."""

    def person(instruction):
        put(arm, [ZERO] * 6)
        yield
        if "stop to stop" in instruction:
            for way in (0.5, 1.0, 0.5, 0.0, -0.5, -1.0):
                put(arm, [ZERO + sweep * way] * 6)
                yield

    return person


def test_zero_range_and_ids_are_what_the_hand_showed_and_torque_goes_off(arm, tmp_path):
    file = tmp_path / "arm.json"
    measured = calibrating.calibrate(arm.path, file, hand(arm))
    assert load(file) == measured
    assert measured.ids == (1, 2, 3, 4, 5, 6)
    assert not any(servo.torque for servo in arm.servos)
    for name, built in nominal().joints.items():
        joint = measured.joints[name]
        assert joint.zero == pytest.approx(ZERO, abs=20)
        assert joint.low == pytest.approx(built.low + 10, abs=20)
        assert joint.high == pytest.approx(built.high - 10, abs=20)
    np.testing.assert_allclose(measured.radians([ZERO] * 6), 0.0, atol=0.05)


def test_joints_that_were_not_moved_store_nothing(arm, tmp_path):
    file = tmp_path / "arm.json"
    with pytest.raises(CalibrationError):
        calibrating.calibrate(arm.path, file, hand(arm, sweep=5.0))
    assert not file.exists()


def test_a_joint_over_the_seam_is_named_and_nothing_stored(arm, tmp_path):
    def person(instruction):
        put(arm, [ZERO] * 6)
        yield
        if "stop to stop" in instruction:
            for tick in (100.0, 4000.0):
                put(arm, [tick, *[ZERO] * 5])
                yield

    file = tmp_path / "arm.json"
    with pytest.raises(CalibrationError, match="shoulder_pan passed the encoder's sea"):
        calibrating.calibrate(arm.path, file, person)
    assert not file.exists()


def test_the_command_stores_a_file_and_keeps_the_one_before(
    arm, tmp_path, monkeypatch, capsys
):
    file = tmp_path / "arm.json"
    file.write_text("what was")
    monkeypatch.setattr(calibrating, "at_the_keyboard", hand(arm))
    code = cli.main(["calibrate", f"hardware:so101/{arm.path}@{file}"])
    assert code == 0
    assert str(file) in capsys.readouterr().out.replace("\n", "")
    assert load(file) != nominal()
    assert (tmp_path / "arm.json.before").read_text() == "what was"


@pytest.mark.parametrize("port", ["emulated", "/dev/ttyACM0@nominal"])
def test_an_arm_built_to_the_letter_is_not_calibrated(port, capsys):
    assert cli.main(["calibrate", "hardware:so101", "--port", port]) == 1
    assert "needs no calibration" in capsys.readouterr().err.replace("\n", " ")


def test_a_robot_without_a_calibration_of_ours_is_refused(capsys):
    assert cli.main(["calibrate", "hardware:fake"]) == 1
    assert "is calibrated here" in capsys.readouterr().err.replace("\n", " ")


def test_a_person_is_told_what_to_do_and_ends_it_with_enter(monkeypatch, capsys):
    reading, writing = os.pipe()
    with open(reading) as stdin, contextlib.closing(open(writing, "w")) as keys:
        monkeypatch.setattr("sys.stdin", stdin)
        moments = calibrating.at_the_keyboard("hold it")
        next(moments)
        next(moments)
        keys.write("\n")
        keys.flush()
        assert len(list(moments)) >= 1
    assert "hold it; then press Enter" in capsys.readouterr().err
