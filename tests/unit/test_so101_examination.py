"""What the doctor says of an SO-101: every fault of the emulator is found and named."""

import contextlib
import os

import msgspec
import pytest

from robostack import cli, plugins

pytest.importorskip("scservo_sdk", reason="feetech-servo-sdk is not installed")

from robostack.doctor.robot import examine as doctor
from robostack.doctor.robot import insist
from robostack.doctor.verdict import UnfitError
from robostack.hardware import so101 as plugin
from robostack.hardware.so101 import emulator
from robostack.hardware.so101 import registers as r
from robostack.hardware.so101.bus import Bus
from robostack.hardware.so101.calibration import Calibration, nominal, store
from robostack.hardware.so101.emulated_servo import EmulatedServo

NOBODY = 65534
ELBOW = 2  # its place among the joints; its id is 3


class Arm:
    """An emulated arm, and how to break it; the only one who knows the emulator."""

    def __init__(self, bus):
        self.bus = bus
        self.argument = f"{bus.path}@nominal"
        self.address = f"hardware:so101/{self.argument}"

    def unplug(self, servo):
        self.bus.unplugged.add(servo)

    def spoil(self, answers):
        self.bus.corrupt = answers

    def lose_power(self):
        self.bus.power(on=False)

    def heat(self, joint, degrees):
        self.bus.servos[joint].temperature = degrees

    def complain(self, joint, bits):
        self.bus.servos[joint].stuck_errors = bits

    def enable(self, joint):
        self.bus.servos[joint].write(r.TORQUE_ENABLE.address, b"\x01")

    def burn(self, joint, register, value):
        """Write into memory what no program could."""
        at, size = register.address, register.size
        self.bus.servos[joint].memory[at : at + size] = register.pack(value)

    def double(self, servo):
        self.bus.servos.append(EmulatedServo(servo, 2048.0))

    def driven(self):
        return any(servo.torque for servo in self.bus.servos)

    def written(self):
        return self.bus.written


@pytest.fixture
def broken():
    with emulator.so101() as bus:
        yield Arm(bus)


def found(arm, level="fault"):
    """Return what is found about the arm, as (about, found)."""
    return [
        (f.about, f.found) for f in plugin.examine(arm.argument) if f.level == level
    ]


def test_a_whole_arm_has_neither_faults_nor_advice(broken):
    assert {f.level for f in plugin.examine(broken.argument)} == {"ok"}


def test_nothing_is_written_and_no_torque_enabled(broken):
    assert doctor(broken.address, quick=True).passed
    assert broken.written() == []


def test_an_unplugged_servo_is_named(broken):
    broken.unplug(3)
    assert found(broken) == [("ids", "elbow_flex (id 3) does not answer")]


def test_a_servo_with_another_id_is_guessed(broken):
    broken.burn(ELBOW, r.ID, 9)
    words = "elbow_flex (id 3) does not answer; id 9 answers: was it elbow_flex?"
    assert found(broken) == [("ids", words)]


def test_two_servos_with_one_id_are_told(broken):
    broken.double(3)
    assert ("ids", "two servos answer to id 3, that of elbow_flex") in found(broken)


def test_no_power_is_not_six_broken_servos(broken):
    broken.lose_power()
    assert found(broken) == [("bus", "none of the 6 servos answers")]


def test_a_bus_of_garbage_is_told_from_a_silent_one(broken):
    broken.spoil(10**9)
    ((about, words),) = found(broken)
    assert about == "bus"
    assert words.startswith("only corrupt answers from shoulder_pan (id 1)")


def test_what_the_drivers_repetitions_hide_is_counted(broken, monkeypatch):
    asked = []

    def spoil_every_tenth(self, servos, *rest):
        asked.append(servos)
        if len(servos) == 6 and len(asked) % 10 == 0:
            broken.spoil(1)
        return ask(self, servos, *rest)

    ask = Bus.ask
    monkeypatch.setattr(Bus, "ask", spoil_every_tenth)
    assert found(broken) == [
        ("bus", "shoulder_pan (id 1): 10 of 100 answers lost or corrupt")
    ]


@pytest.mark.parametrize(
    ("register", "value", "words"),
    [
        (r.MODEL, 1234, "elbow_flex is model 1234, expected 777 (STS3215)"),
        (r.MIN_VOLTAGE, 79, "elbow_flex has 7.4 V, expected 7.9 to 8 V"),
        (r.MAX_VOLTAGE, 70, "elbow_flex has 7.4 V, expected 4 to 7 V"),
        (r.OPERATING_MODE, 1, "elbow_flex is in operating mode 1, expected 0 (pos"),
        (r.STATUS_LEVEL, 0, "elbow_flex acknowledges no writes: status level 0"),
        (r.HOMING_OFFSET, -5, "elbow_flex has homing offset -5, and had 0 when it"),
    ],
)
def test_what_is_wrong_in_the_memory_is_a_fault(broken, register, value, words):
    broken.burn(ELBOW, register, value)
    ((_, told),) = found(broken)
    assert told.startswith(words)


@pytest.mark.parametrize(
    ("register", "value", "words"),
    [
        (r.MIN_POSITION, 1500, "elbow_flex limits itself to 1500 to 4095 ticks"),
        (r.FIRMWARE_MINOR, 9, "shoulder_pan 3.10, shoulder_lift 3.10, elbow_flex 3.9"),
        (r.RETURN_DELAY, 250, "elbow_flex waits 500 us before it answers"),
    ],
)
def test_what_is_odd_in_the_memory_is_advice(broken, register, value, words):
    broken.burn(ELBOW, register, value)
    ((_, told),) = found(broken, "advice")
    assert told.startswith(words)
    assert found(broken) == []


def test_a_hot_servo_is_a_fault_and_a_warm_one_advice(broken):
    broken.heat(ELBOW, 60)
    assert found(broken) == [
        ("temperature", "elbow_flex is at 60 C, the limit is 60 C")
    ]
    broken.heat(ELBOW, 50)
    assert found(broken) == []
    assert len(found(broken, "advice")) == 1


def test_error_bits_are_put_in_words(broken):
    broken.complain(ELBOW, 0x08)
    assert found(broken) == [("error bits", "elbow_flex is overcurrent")]


def test_a_calibration_that_puts_a_joint_outside_its_limits_is_told(broken, tmp_path):
    joints = nominal().joints
    lift = msgspec.structs.replace(
        joints["shoulder_lift"], zero=2800, low=1660, high=3940
    )
    store(Calibration(joints | {"shoulder_lift": lift}), tmp_path / "arm.json")
    broken.argument = f"{broken.bus.path}@{tmp_path / 'arm.json'}"
    ((about, words),) = found(broken)
    assert about == "position"
    assert words == "shoulder_lift is at -1.95 rad, outside -1.75 to 1.75"


def test_torque_that_somebody_left_on_is_told(broken):
    broken.enable(ELBOW)
    assert found(broken, "advice") == [("torque", "torque is on at elbow_flex")]


def test_a_missing_calibration_does_not_hide_the_rest(broken, tmp_path):
    broken.unplug(3)
    broken.argument = f"{broken.bus.path}@{tmp_path / 'none.json'}"
    assert [about for about, _ in found(broken)] == ["calibration", "ids"]


def test_the_calibration_is_told_by_its_digest(broken, tmp_path):
    store(nominal(), tmp_path / "arm.json")
    broken.argument = f"{broken.bus.path}@{tmp_path / 'arm.json'}"
    assert ("calibration", f"digest {nominal().digest}") in found(broken, "ok")


def test_a_wrong_port_is_told():
    (finding,) = doctor("hardware:so101//dev/nothing@nominal").of("fault")
    assert finding.about == "port"
    assert finding.found.startswith("no port /dev/nothing")


def test_a_busy_port_is_told(broken):
    with contextlib.closing(Bus(broken.bus.path, {})):
        ((about, words),) = found(broken)
    assert about == "port"
    assert "another program may have it" in words


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_a_port_without_permission_is_told(broken):
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        (fault,) = (f for f in plugin.examine(broken.argument) if f.level == "fault")
    finally:
        os.setresuid(0, 0, 0)
    assert fault.found.startswith(f"no permission for {broken.bus.path}")
    assert fault.cure.startswith("sudo usermod -aG dialout")


def test_serve_refuses_with_the_ordered_list(broken):
    broken.heat(ELBOW, 65)
    broken.enable(ELBOW)
    broken.burn(0, r.HOMING_OFFSET, 7)
    with pytest.raises(UnfitError) as refusal:
        insist(broken.address)
    lines = str(refusal.value).splitlines()
    assert lines[1].startswith("1. temperature: elbow_flex is at 65 C")
    assert lines[2].startswith("2. calibration: shoulder_pan has homing offset 7")
    assert "torque is on" not in str(refusal.value)


@pytest.mark.slow
def test_the_emulated_arm_is_fit_to_be_served(capsys):
    assert cli.main(["doctor", "hardware:so101", "--port", "emulated"]) == 0
    assert "PASS: 0 faults" in capsys.readouterr().out


@pytest.mark.slow
def test_move_brings_it_home_and_lets_go(broken):
    verdict = doctor(broken.address, move=True)
    assert verdict.passed
    assert any(f.about == "motion" for f in verdict.of("ok"))
    assert broken.written()
    assert not broken.driven()


def test_an_address_takes_its_port_from_a_flag():
    assert plugins.with_port("hardware:so101", "emulated") == "hardware:so101/emulated"
    assert plugins.with_port("hardware:so101", "/dev/x") == "hardware:so101//dev/x"
    assert plugins.with_port("hardware:so101/emulated", "") == "hardware:so101/emulated"
    with pytest.raises(plugins.PluginError, match="either in the address or as --port"):
        plugins.with_port("hardware:so101/emulated", "/dev/x")
