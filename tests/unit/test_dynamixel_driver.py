"""The Dynamixel driver on an emulated bus whose time the test moves, fault by fault."""

import contextlib
import sys

import msgspec
import numpy as np
import pytest
from servo_examples import EventfulClock

from robostack import plugins
from robostack.plugins import PluginError
from robostack.spec import float32

pytest.importorskip("dynamixel_sdk", reason="dynamixel-sdk is not installed")

from robostack.hardware import dynamixel as plugin
from robostack.hardware._servo_bus import BusError, ServoError
from robostack.hardware.dynamixel import registers as r
from robostack.hardware.dynamixel.bus import Bus
from robostack.hardware.dynamixel.chain import (
    NOMINAL,
    RADIANS_PER_TICK,
    ChainError,
    load,
    spec_of,
)
from robostack.hardware.dynamixel.driver import Dynamixel
from robostack.hardware.dynamixel.emulator import emulate

CHAIN = load(NOMINAL)
SPEC = spec_of(CHAIN)
HOME = float32(SPEC.home)
SMALL = float32([0.1, 0.1, 0.1, 0.1, 0.1, 0.001])
WAIST, ELBOW, GRIPPER = 0, 2, 5


@pytest.fixture
def clock():
    return EventfulClock()


@pytest.fixture
def bus(clock):
    with emulate(CHAIN, clock) as bus:
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


def make(bus, clock, chain=CHAIN):
    """Return a driver on that bus, patient with a computer that is busy."""
    place = contextlib.nullcontext(bus.path)
    return Dynamixel(lambda: place, chain, clock, patience_s=0.1)


def torque(bus):
    return [servo.torque for servo in bus.servos]


def places(bus):
    bus.settle()
    return CHAIN.values([servo.position for servo in bus.servos])


def until_seen(robot):
    """Return when what was written before has been obeyed."""
    robot.read()


# what it is


def test_without_the_sdk_the_extra_is_named(monkeypatch):
    for name in ("driver", "bus", "state"):
        module = f"robostack.hardware.dynamixel.{name}"
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "dynamixel_sdk", None)
    assert plugin.spec("emulated").name == "dynamixel6"
    with pytest.raises(PluginError, match=r"pip install 'robostack\[dynamixel\]'"):
        plugin.make("emulated")


@pytest.mark.parametrize("argument", ["", "/dev/ttyUSB0"])
def test_address_without_a_port_or_a_chain_is_refused(argument):
    with pytest.raises(PluginError, match=r"dynamixel//dev/ttyUSB0@arm\.toml"):
        plugin.make(argument)


def test_port_may_hold_slashes():
    argument = plugins.parse(f"hardware:dynamixel//dev/ttyNONE@{NOMINAL}").argument
    robot = plugin.make(argument)
    with pytest.raises(BusError, match="no port /dev/ttyNONE; there are"):
        robot.connect()
    robot.close()


def test_a_chain_names_units_and_steps():
    assert SPEC.action.names[GRIPPER] == "gripper"
    assert SPEC.action.units == ("rad",) * 5 + ("m",)
    assert SPEC.observation["joint_velocity"].units[GRIPPER] == "m/s"
    assert SPEC.max_action_step[WAIST] == pytest.approx(2.0 * 0.02)
    assert SPEC.max_action_step[GRIPPER] == pytest.approx(2.0 * 0.02 * 0.05 / 6.283185)


def test_ticks_turn_with_sign_and_stay_within_limits():
    ticks = CHAIN.ticks([0.1, 9.0, 0.1, 0, 0, 0.0125])
    assert ticks.tolist() == [2048 + 65, 2048 + 1173, 2048 - 65, 2048, 2048, 3072]
    np.testing.assert_allclose(CHAIN.values(ticks)[ELBOW], 0.1, atol=1e-3)
    rates = CHAIN.rates([10] * 6)
    assert rates[WAIST] == pytest.approx(10 * 0.229 * 6.283185 / 60)
    assert rates[ELBOW] == -rates[WAIST]
    assert rates[GRIPPER] == pytest.approx(10 * 0.229 / 60 * 0.05)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("id = 2", "id = 1", "expected different ids"),
        ("id = 2", "id = 253", "expected an id in 0..252"),
        ("XM540-W270", "AX-12A", "expected model 'auto' or one of XL330"),
        ("home = -0.6", "home = -2.6", "expected low <= home <= high"),
        ("high = 0.02", "high = 0.2", r"expected low and high within ticks 0..4095"),
        ("sign = -1", "sign = -2", "cannot use the chain file"),
        ("profile_velocity = 2.5", "profile_velocity = 0.0", "expected speed and pro"),
        ("bus_watchdog_s = 0.5", "bus_watchdog_s = 0.03", "expected bus_watchdog_s ab"),
        ("baud = 1_000_000", "baud = 57_600", r"takes 11\d.\d ms at 57600 baud"),
        ('name = "dyn', 'nane = "dyn', "cannot use the chain file"),
        ("pwm_limit = 0.5", "pwm_limit = 1.5", "expected 0 < pwm_limit <= 1"),
    ],
)
def test_a_broken_chain_file_is_one_sentence(tmp_path, old, new, sentence):
    text = NOMINAL.read_text()
    assert old in text
    (tmp_path / "arm.toml").write_text(text.replace(old, new))
    with pytest.raises(ChainError, match=sentence):
        plugin.spec(f"emulated@{tmp_path}/arm.toml")


def test_a_missing_chain_file_is_one_sentence(tmp_path):
    with pytest.raises(ChainError, match=r"no chain file .*arm.toml: copy .*nominal"):
        plugin.spec(f"/dev/ttyUSB0@{tmp_path}/arm.toml")


# connect


@pytest.mark.parametrize(
    ("register", "value", "sentence"),
    [
        (r.MODEL, 1060, "forearm is an XL430-W250, expected XM430-W350"),
        (r.MODEL, 12, "forearm is model 12, expected one of XL330"),
        (r.OPERATING_MODE, 1, "forearm is in operating mode 1, expected 3"),
        (r.HOMING_OFFSET, -85, "forearm has homing offset -85, expected 0"),
        (r.DRIVE_MODE, 1, "forearm is reversed in the servo"),
        (r.DRIVE_MODE, 8, "forearm takes a goal as leave to enable torque"),
        (r.STARTUP, 1, "forearm has startup configuration 1, expected 0"),
        (r.SHUTDOWN, 0x30, "forearm does not protect itself from heat"),
        (r.MAX_POSITION, 3000, r"forearm may go to ticks .*only to .0, 3000."),
        (r.VELOCITY_LIMIT, 50, "forearm has velocity limit 1.20 rad/s"),
        (r.PWM_LIMIT, 443, "forearm has PWM limit 50%, below 100%"),
        (r.MAX_TEMPERATURE, 60, "forearm switches off at 60 C, before our"),
    ],
)
def test_connect_names_what_does_not_fit(robot, bus, register, value, sentence):
    bus.servos[3].configure(register, value)
    with pytest.raises(ServoError, match=sentence):
        robot.connect()


def test_facts_tell_the_chain_and_each_servo(robot):
    assert robot.facts() == {"chain": CHAIN.digest}
    robot.connect()
    assert robot.facts()["servo.shoulder"] == "XM540-W270 firmware 46"
    assert len(robot.facts()) == 7


# reset


def test_reset_goes_home_slowly(robot, bus, clock):
    bus.servos[WAIST].place(2048 + 0.9 / RADIANS_PER_TICK)
    robot.connect()
    begin = clock.now()
    robot.reset()
    np.testing.assert_allclose(places(bus), HOME, atol=CHAIN.care.arrival)
    assert clock.now() - begin >= 0.9 / CHAIN.care.homing_speed
    assert all(torque(bus))
    assert {r.BUS_WATCHDOG.get(s.memory) for s in bus.servos} == {25}
    assert r.GOAL_PWM.get(bus.servos[GRIPPER].memory) == 442
    assert r.GOAL_CURRENT.get(bus.servos[GRIPPER].memory) == 149


def test_reset_refuses_from_far_outside_and_gives_no_torque(robot, bus):
    bus.servos[WAIST]._stops = (0, 4095)
    bus.servos[WAIST].place(10.0)
    robot.connect()
    with pytest.raises(ServoError, match=r"waist is at -3\.13 rad, outside -2\.8 to"):
        robot.reset()
    assert not any(torque(bus))


def test_reset_enables_nothing_if_a_servo_did_not_take_its_goal(robot, bus):
    robot.connect()
    bus.servos[ELBOW].place(1600.0)
    bus.servos[ELBOW].configure(r.MAX_POSITION, 1500)
    with pytest.raises(ServoError, match="elbow did not take its goal"):
        robot.reset()
    assert not any(torque(bus))


# read and apply


def test_apply_returns_whole_ticks_within_limits(ready, bus, clock):
    asked = float32(HOME + SMALL)
    asked[WAIST] = 9.0
    sent = ready.apply(asked)
    assert sent[WAIST] == pytest.approx(SPEC.action.high[WAIST], abs=RADIANS_PER_TICK)
    assert (sent <= float32(SPEC.action.high)).all()
    np.testing.assert_allclose(sent[1:], asked[1:], atol=RADIANS_PER_TICK / 2)
    for _ in range(20):  # fed by reading
        until_seen(ready)
        clock.advance(0.1)
    np.testing.assert_allclose(places(bus), sent, atol=5 * RADIANS_PER_TICK)


def test_velocity_is_read_in_rad_and_metres_per_second(ready, bus, clock):
    ready.apply(float32(HOME + 5 * SMALL))
    until_seen(ready)
    clock.advance(0.2)
    velocity = ready.read()["joint_velocity"]
    turning = [s.velocity * RADIANS_PER_TICK for s in bus.servos]
    assert velocity[WAIST] == pytest.approx(turning[WAIST], abs=0.02)
    assert velocity[WAIST] > 1.0
    assert velocity[ELBOW] == pytest.approx(-turning[ELBOW], abs=0.02)


def test_every_goal_goes_with_its_profile(ready, bus):
    ready.apply(HOME)
    until_seen(ready)
    for servo in bus.servos:
        speed = r.PROFILE_VELOCITY.get(servo.memory) * r.VELOCITY_UNIT
        assert speed == pytest.approx(2.5, rel=0.01)
        quick = r.PROFILE_ACCELERATION.get(servo.memory) * r.ACCELERATION_UNIT
        assert quick == pytest.approx(30.0, rel=0.01)
    goals = [p for p in bus.written if p.instruction == 0x83]
    assert {p.parameters[0] for p in goals} == {108}


@pytest.mark.parametrize(
    ("bits", "words"),
    [
        (0x20, "elbow is overloaded"),
        (0x04, "elbow is overheated"),
        (0x01, "elbow is at a wrong voltage"),
    ],
)
def test_error_bits_are_faults_that_name_the_joint(ready, bus, bits, words):
    bus.servos[ELBOW].stuck_errors = bits
    with pytest.raises(ServoError, match=words):
        ready.read()
    with pytest.raises(ServoError, match="expected reset"):
        ready.apply(HOME)
    with pytest.raises(ServoError, match=words):
        ready.reset()


def test_heat_is_a_fault_before_it_is_one_to_the_servo(ready, bus):
    bus.servos[GRIPPER].temperature = CHAIN.care.hottest_c
    with pytest.raises(ServoError, match=r"gripper is at 65 C \(limit 65 C\)"):
        ready.read()
    assert bus.servos[GRIPPER].torque


@pytest.mark.parametrize(
    ("address", "data", "words"),
    [
        (64, b"\0", "gripper has no torque"),
        (98, b"\0", "gripper has no bus watchdog any more"),
        (100, b"\x75\x03", "gripper has another PWM limit"),
    ],
)
def test_what_a_servo_forgot_is_found_out(ready, bus, address, data, words):
    assert bus.servos[GRIPPER].write(address, data) == 0
    with pytest.raises(ServoError, match=words):
        ready.read()


# the servos' own watchdog


def test_a_silent_driver_leaves_the_servos_stopped_within_their_watchdog(
    ready, bus, clock
):
    ready.apply(float32(HOME + 15 * SMALL * [1, 1, 1, 1, 1, 0]))
    until_seen(ready)
    clock.advance(CHAIN.bus_watchdog_s - 0.1)
    bus.settle()
    assert not any(servo.tripped for servo in bus.servos)
    clock.advance(0.15)
    bus.settle()
    assert all(servo.tripped for servo in bus.servos)
    clock.advance(0.3)  # to brake
    at = places(bus)
    clock.advance(2.0)
    np.testing.assert_allclose(places(bus), at, atol=2 * RADIANS_PER_TICK)
    assert at[WAIST] < 1.4  # on its way to 1.5
    assert all(torque(bus))
    assert ready.ending.orphan == "hold"
    assert ready.ending.orphan_s == CHAIN.bus_watchdog_s


def trip(ready, bus, clock):
    """Send the arm far away and fall silent on the way."""
    ready.apply(float32(HOME + 15 * SMALL * [1, 1, 1, 1, 1, 0]))
    until_seen(ready)
    clock.advance(0.4)
    bus.settle()
    clock.advance(0.6)
    bus.settle()


def test_a_tripped_watchdog_is_a_fault_until_reset(ready, bus, clock):
    trip(ready, bus, clock)
    with pytest.raises(ServoError, match=r"waist stopped by itself: it heard nothing"):
        ready.read()
    with pytest.raises(ServoError, match="expected reset"):
        ready.apply(HOME)
    ready.stop()
    assert all(servo.tripped for servo in bus.servos)
    ready.reset()
    np.testing.assert_allclose(places(bus), HOME, atol=CHAIN.care.arrival)
    ready.apply(HOME)
    ready.read()
    assert not any(servo.tripped for servo in bus.servos)


def test_goals_sent_to_tripped_servos_do_not_move_them(ready, bus, clock):
    trip(ready, bus, clock)
    at = places(bus)
    ready.apply(HOME)  # before anybody read
    ready.stop()
    for _ in range(5):
        clock.advance(0.2)
        bus.settle()
    np.testing.assert_allclose(places(bus), at, atol=0.01)


def test_clearing_the_watchdog_does_not_let_the_old_goal_go_on(ready, bus, clock):
    trip(ready, bus, clock)
    at = places(bus)
    with pytest.raises(ServoError):
        ready.read()
    moved = []
    write = Bus.write

    def slowly(self, servo, register, value):
        write(self, servo, register, value)
        if register == r.BUS_WATCHDOG and value == 0:
            clock.advance(0.05)  # a bus with trouble
            moved.append(np.abs(places(bus) - at)[WAIST])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Bus, "write", slowly)
        ready.reset()
    assert len(moved) == 6
    assert max(moved) < 0.05


def test_a_driver_that_finds_an_orphaned_arm_takes_it_over(ready, bus, clock):
    trip(ready, bus, clock)
    ready._open.close()  # as if its process had died
    heir = make(bus, clock)
    heir.connect()
    heir.read()
    assert all(torque(bus))
    heir.reset()
    heir.apply(HOME)
    heir.close()
    assert not any(torque(bus))


# stop and close


def test_stop_holds_where_the_arm_is(ready, bus, clock):
    ready.apply(float32(HOME + 5 * SMALL))
    until_seen(ready)
    clock.advance(0.1)
    ready.stop()
    at = places(bus)
    assert (at - HOME < 4 * SMALL).all()
    for _ in range(20):
        until_seen(ready)
        clock.advance(0.1)
    np.testing.assert_allclose(places(bus), at, atol=0.1)


def test_close_lets_the_arm_down_before_it_lets_go(ready, bus, clock):
    begin = clock.now()
    ready.close()
    assert not any(torque(bus))
    assert clock.now() - begin == pytest.approx(CHAIN.care.lowering_s)
    faded = [p for p in bus.written if p.instruction == 0x83 and p.parameters[0] == 100]
    assert len(faded) == 10


# power


def test_no_goal_is_executed_after_a_power_cycle(ready, bus, clock):
    ready.apply(float32(HOME + SMALL))
    until_seen(ready)
    clock.advance(0.4)
    bus.power(on=False)
    bus.power(on=True)
    fallen = places(bus)
    ready.apply(float32(HOME + 2 * SMALL))  # the servos have no torque to obey with
    ready.stop()
    clock.advance(1.0)
    assert places(bus)[WAIST] == pytest.approx(fallen[WAIST], abs=0.01)
    with pytest.raises(ServoError, match="waist has no torque"):
        ready.read()
    assert not any(torque(bus))
    with pytest.raises(ServoError, match="expected reset"):
        ready.apply(HOME)
    ready.reset()
    ready.apply(HOME)


def test_an_adapter_that_replays_moves_nothing(ready, bus, clock):
    bus.replays = True
    bus.power(on=False)
    ready.apply(float32(HOME + 5 * SMALL))
    ready.apply(float32(HOME + 6 * SMALL))
    bus.power(on=True)
    bus.replays = False
    clock.advance(0.3)
    with pytest.raises(ServoError, match="waist has no torque"):
        ready.read()
    assert not any(torque(bus))
    assert places(bus)[WAIST] == pytest.approx(HOME[WAIST], abs=0.1)
    ready.reset()
    np.testing.assert_allclose(places(bus), HOME, atol=CHAIN.care.arrival)


# auto models and cameras of a chain file


def test_auto_takes_any_model_but_current_needs_one_that_measures(bus, clock):
    free = {
        name: msgspec.structs.replace(joint, model="auto")
        for name, joint in CHAIN.joints.items()
    }
    chain = msgspec.structs.replace(CHAIN, joints=free)
    bus.servos[GRIPPER].configure(r.MODEL, 1060)
    robot = make(bus, clock, chain)
    with pytest.raises(ServoError, match="gripper is an XL430-W250 and cannot limit"):
        robot.connect()
    bus.servos[GRIPPER].configure(r.MODEL, 1200)
    robot.connect()
    robot.reset()
    assert r.GOAL_CURRENT.get(bus.servos[GRIPPER].memory) == 400
    robot.close()


def test_a_chain_file_may_have_cameras(tmp_path, clock):
    text = NOMINAL.read_text()
    camera = "\n[cameras.front]\nsource = 'pattern'\nheight = 4\nwidth = 6\n"
    (tmp_path / "arm.toml").write_text(text + camera + "period_s = 0.01\n")
    robot = plugin.make(f"emulated@{tmp_path}/arm.toml", clock)
    with contextlib.closing(robot):
        assert robot.spec == plugin.spec(f"emulated@{tmp_path}/arm.toml")
        robot.connect()
        assert robot.frames()["front"].shape == (4, 6, 3)
        assert robot.ages()["front"] < 1.0
        assert robot.facts()["servo.waist"].startswith("XM430-W350")
        assert robot.ending.close == "limp"
