"""The driver of the e-series on an emulated controller, fault by fault."""

import contextlib
import socket
import time

import numpy as np
import pytest

from robostack import plugins
from robostack.limits import derive
from robostack.plugins import PluginError
from robostack.spec import SpecError, float32

pytest.importorskip("rtde_control", reason="ur-rtde is not installed")

from robostack.hardware import ur as plugin
from robostack.hardware.ur import kinematics, models
from robostack.hardware.ur.connection import ConnectionLostError
from robostack.hardware.ur.driver import UR, StoppedError
from robostack.hardware.ur.emulation import emulated

pytestmark = pytest.mark.slow  # ur_rtde sleeps half a second here and there

HOME = float32(models.HOME)
UR5E = models.MODELS["ur5e"]


@pytest.fixture
def arm():
    with emulated("ur5e") as arm:
        yield arm


@pytest.fixture
def robot(arm):
    robot = UR(lambda: contextlib.nullcontext(arm.host), UR5E, care=models.PATIENT)
    with contextlib.closing(robot):
        yield robot


def eventually(fact, seconds=5.0):
    """Wait for something that happens in another process."""
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def drive(robot, steps=40, offset=0.01):
    target = HOME.copy()
    for k in range(steps):
        robot.read()
        target[0] = offset * min(k, 10)
        robot.apply(target)
        time.sleep(0.02)


def test_connect_starts_no_program_and_says_which_arm_it_is(arm, robot):
    assert robot.facts() == {}
    robot.connect()
    robot.read()
    told = arm.tell()
    assert told["runtime"] == "STOPPED"
    assert told["commands"] == {}
    assert robot.facts()["serial"] == "20235500001"
    assert robot.facts()["polyscope"].startswith("5.12")
    with pytest.raises(ConnectionLostError, match=r"reset\(\) first"):
        robot.apply(HOME)


def test_reset_sets_a_watchdog_that_outlasts_two_periods(arm, robot):
    robot.connect()
    robot.reset()
    told = arm.tell()
    assert told["watchdog_s"] == pytest.approx(1 / models.PATIENT.watchdog_hz)
    assert robot.ending.orphan_s == pytest.approx(told["watchdog_s"])
    assert 2 * models.PERIOD_S < 1 / models.CARE.watchdog_hz < 0.5


@pytest.mark.slow
def test_it_follows_targets_and_tells_where_the_tip_is(arm, robot):
    robot.connect()
    robot.reset()
    drive(robot, 50)
    reading = robot.read()
    expected = HOME + float32([0.1, 0, 0, 0, 0, 0])
    assert reading["joint_position"] == pytest.approx(expected, abs=2e-3)
    frame = kinematics.flange(UR5E, reading["joint_position"])
    assert reading["tip_position"] == pytest.approx(frame[:3, 3], abs=1e-4)
    assert reading["tip_axes"][:3] == pytest.approx(frame[:3, 0], abs=1e-4)
    assert reading["tip_axes"][3:] == pytest.approx(frame[:3, 1], abs=1e-4)
    assert arm.tell()["watchdog_trips"] == 0


def test_what_is_said_to_be_sent_is_what_the_controller_got(arm, robot):
    robot.connect()
    robot.reset()
    beyond = float32([0, -1.5, 4.0, -1.5, -1.5, 0])
    sent = robot.apply(beyond)
    assert sent[2] == pytest.approx(np.pi - models.MARGIN)
    eventually(lambda: arm.tell()["target"] == pytest.approx(sent.astype(float)))
    with pytest.raises(SpecError):
        robot.apply(float32([np.nan] * 6))


def test_stop_ends_the_servo_at_rest(arm, robot):
    robot.connect()
    robot.reset()
    drive(robot, 8, offset=0.02)
    assert arm.tell()["servoing"]
    robot.stop()
    told = arm.tell()
    assert not told["servoing"]
    assert not any(told["velocity"])


@pytest.mark.slow
def test_reading_alone_keeps_the_program_alive(arm, robot):
    robot.connect()
    robot.reset()
    robot.stop()
    for _ in range(60):
        robot.read()
        time.sleep(0.02)
    assert arm.tell()["watchdog_trips"] == 0
    robot.apply(HOME)


def test_a_silent_node_has_its_program_ended_by_the_controller(arm, robot):
    robot.connect()
    robot.reset()
    drive(robot, 5)
    eventually(lambda: arm.tell()["runtime"] == "STOPPED")
    assert arm.tell()["watchdog_trips"] == 1
    assert not arm.tell()["servoing"]
    with pytest.raises(StoppedError, match="STOPPED, expected PLAYING"):
        robot.apply(HOME)
    robot.reset()
    robot.apply(HOME)


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ("protective_stop", "protective stop .* unlock it at the pendant"),
        pytest.param("safeguard_stop", "safeguard stop", marks=pytest.mark.slow),
        pytest.param(
            "emergency_stop",
            "emergency stop of the robot's own",
            marks=pytest.mark.slow,
        ),
        pytest.param("mode IDLE", "IDLE, expected RUNNING", marks=pytest.mark.slow),
    ],
)
def test_a_stop_is_named_and_latched_until_cleared_and_reset(arm, robot, order, words):
    robot.connect()
    robot.reset()
    drive(robot, 5)
    arm.order(order)
    with pytest.raises(StoppedError, match=words):
        drive(robot)
    robot.stop()
    with pytest.raises(StoppedError, match=words):
        robot.reset()
    arm.order("release")
    time.sleep(0.05)
    with pytest.raises(ConnectionLostError, match="expected reset"):
        robot.apply(HOME)
    sent = arm.tell()["commands"]["11"]
    robot.reset()
    assert arm.tell()["commands"]["11"] > sent


@pytest.mark.slow
@pytest.mark.parametrize("which", ["", " commands"])
def test_a_cut_connection_is_a_fault_and_only_reset_opens_another(arm, robot, which):
    robot.connect()
    robot.reset()
    drive(robot, 5)
    arm.order("cut" + which)
    with pytest.raises((ConnectionLostError, StoppedError)):
        drive(robot)
    robot.stop()
    with pytest.raises(ConnectionLostError):
        robot.apply(HOME)
    robot.reset()
    assert arm.tell()["watchdog_s"]
    drive(robot, 3)


def test_a_pulled_cable_is_a_fault_and_stop_does_not_wait(arm, robot):
    robot.connect()
    robot.reset()
    drive(robot, 5)
    arm.order("freeze")
    with pytest.raises(ConnectionLostError, match="nothing new"):
        drive(robot, 200)
    before = time.monotonic()
    robot.stop()
    assert time.monotonic() - before < 1.0
    with pytest.raises(ConnectionLostError):
        robot.read()
    arm.order("thaw")
    eventually(lambda: not arm.tell()["servoing"])


@pytest.mark.slow
def test_stop_interrupts_the_way_home(arm, robot):
    robot.connect()
    apply = robot._servo

    def apply_and_stop(connection, target):
        apply(connection, target)
        robot.stop()

    robot._servo = apply_and_stop
    with pytest.raises(StoppedError, match="somebody stopped"):
        robot.reset()
    assert not arm.tell()["servoing"]


@pytest.mark.parametrize(
    ("order", "words"),
    [("remote off", "Remote Control"), ("mode POWER_OFF", "POWER_OFF")],
)
def test_connect_refuses_an_arm_that_would_not_obey(arm, robot, order, words):
    arm.order(order)
    time.sleep(0.05)
    with pytest.raises(StoppedError, match=words):
        robot.connect()


def test_connect_refuses_another_size(arm):
    other = UR(lambda: contextlib.nullcontext(arm.host), models.MODELS["ur10e"])
    with pytest.raises(StoppedError, match="expected a ur10e, got a UR5"):
        other.connect()


@pytest.mark.slow
def test_a_second_driver_cannot_take_the_arm(arm, robot):
    robot.connect()
    robot.reset()
    second = UR(lambda: contextlib.nullcontext(arm.host), UR5E)
    with contextlib.closing(second):
        second.connect()
        with pytest.raises(ConnectionLostError, match="already in use"):
            second.reset()
    robot.reset()
    robot.apply(HOME)


def test_nobody_there_is_said_in_a_sentence():
    nobody = UR(lambda: contextlib.nullcontext("127.0.0.1"), UR5E)
    with pytest.raises(ConnectionLostError, match=r"cannot reach 127\.0\.0\.1:29999"):
        nobody.connect()


def test_a_port_that_stays_silent_does_not_hold_us_up(monkeypatch):
    from robostack.hardware.ur import connection

    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        monkeypatch.setattr(connection, "RTDE_PORT", port)
        monkeypatch.setattr(connection, "DASHBOARD_PORT", port)
        care = models.Care(connect_s=0.05)
        robot = UR(lambda: contextlib.nullcontext("127.0.0.1"), UR5E, care=care)
        with pytest.raises(ConnectionLostError, match="expected RTDE data"):
            robot.connect()


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("", "expected hardware:ur/MODEL@HOST"),
        ("ur5e", "expected hardware:ur/MODEL@HOST"),
        ("ur5@192.168.0.10", "ur3e, ur5e, ur10e, ur16e"),
        ("ur5e@192.168.0.10:30004", "without a port"),
        ("ur5e@192.168.0.256", "expected an IPv4 address"),
        ("ur5e@-x", "host name"),
    ],
)
def test_a_wrong_address_is_explained(argument, words):
    with pytest.raises(PluginError, match=words):
        plugin.spec(argument)


@pytest.mark.parametrize("name", models.MODELS)
def test_every_size_has_limits_within_its_joints_and_speeds(name):
    spec = plugin.spec(f"{name}@192.168.0.10")
    limits = derive(spec)
    assert spec.action.high[2] < np.pi
    assert max(spec.action.high) < 2 * np.pi
    steps = np.array(spec.max_action_step) / spec.control_period_s
    assert (steps <= np.array(models.MODELS[name].speed) + 1e-9).all()
    assert len(limits.low) == 6


@pytest.mark.parametrize("angle", [0.0, 1e-6, 1.0, np.pi - 1e-6, np.pi])
def test_rotation_vectors_and_matrices_are_inverses(angle):
    axis = np.array([2.0, -1.0, 2.0]) / 3.0
    turn = kinematics.rotation(axis * angle)
    assert turn @ turn.T == pytest.approx(np.eye(3), abs=1e-9)
    again = kinematics.rotation(kinematics.rotation_vector(turn))
    assert again == pytest.approx(turn, abs=1e-5)


def test_flange_is_where_the_makers_table_puts_it():
    frame = kinematics.flange(UR5E, np.zeros(6))
    assert frame[:3, 3] == pytest.approx([-0.8172, -0.2329, 0.0628], abs=1e-4)


def test_the_vendor_package_is_named_where_it_is_missing(monkeypatch):
    import sys

    for module in ("driver", "connection"):
        monkeypatch.delitem(sys.modules, f"robostack.hardware.ur.{module}")
    monkeypatch.setitem(sys.modules, "dashboard_client", None)
    with pytest.raises(PluginError, match=r"not installed: .*robostack\[ur\]"):
        plugin.make("emulated")
    assert plugins.load("hardware", "ur").spec("emulated").name == "ur5e"
