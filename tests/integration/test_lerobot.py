"""LeRobot's own classes behind our driver: a type of our own, and its SO-101.

Runs only where the package `lerobot` is, see hardware/lerobot/README.md.
"""

import contextlib
import dataclasses
import importlib
import json
import math
from pathlib import Path

import numpy as np
import pytest

from robostack import plugins
from robostack.limits import derive
from robostack.plugins import PluginError
from robostack.spec import ArraySpec, SpecError, float32

pytest.importorskip("lerobot", reason="lerobot is not installed")

from lerobot.motors import Motor, MotorCalibration, MotorNormMode
from lerobot.robots import Robot, RobotConfig
from lerobot.teleoperators import Teleoperator, TeleoperatorConfig

from robostack.hardware import lerobot as plugin
from robostack.hardware.lerobot.driver import LeRobotError
from robostack.hardware.lerobot.features import FeatureError
from robostack.hardware.lerobot.teleoperator import LeRobotTeleoperator

pytestmark = pytest.mark.filterwarnings("ignore")  # of LeRobot's many imports
TICKS = 4095
CALIBRATION = {
    "lift": MotorCalibration(1, 0, 0, 1000, 3000),
    "roll": MotorCalibration(2, 0, 0, 500, 1500),
    "gripper": MotorCalibration(3, 0, 0, 2000, 2400),
}


class Bench:
    """What a robot and a teleoperator of this test have alike: three motors."""

    class bus:  # noqa: N801
        motors = {  # noqa: RUF012
            "lift": Motor(1, "sts3215", MotorNormMode.DEGREES),
            "roll": Motor(2, "sts3215", MotorNormMode.RANGE_M100_100),
            "gripper": Motor(3, "sts3215", MotorNormMode.RANGE_0_100),
        }
        model_resolution_table = {"sts3215": 4096}  # noqa: RUF012

    is_connected = False
    is_calibrated = True
    action_features = {  # noqa: RUF012
        "lift.pos": float,
        "roll.pos": float,
        "gripper.pos": float,
    }

    def _set_up(self):
        self.calibration = CALIBRATION
        self.at = dict.fromkeys(self.action_features, 10.0)

    def calibrate(self):
        raise AssertionError("nobody is there to calibrate")

    def configure(self):
        pass

    def connect(self, calibrate=True):
        assert not calibrate
        self.is_connected = True

    def disconnect(self):
        assert self.is_connected
        self.is_connected = False


@RobotConfig.register_subclass("robostack_bench")
@dataclasses.dataclass
class BenchRobotConfig(RobotConfig):
    max_relative_target: float | None = None
    calibrated: bool = True


class BenchRobot(Bench, Robot):
    config_class = BenchRobotConfig
    name = "robostack_bench"

    def __init__(self, config):
        super().__init__(config)
        self.config = config
        self.is_calibrated = config.calibrated
        self._set_up()

    @property
    def observation_features(self):
        return {**self.action_features, "front": (4, 6, 3)}

    def get_observation(self):
        return {**self.at, "front": np.full((4, 6, 3), 7, np.uint8)}

    def send_action(self, action):
        most = self.config.max_relative_target
        if most is not None:
            action = {
                k: np.clip(v, self.at[k] - most, self.at[k] + most)
                for k, v in action.items()
            }
        self.at = {k: float(v) for k, v in action.items()}
        return dict(self.at)


@TeleoperatorConfig.register_subclass("robostack_leader")
@dataclasses.dataclass
class BenchLeaderConfig(TeleoperatorConfig):
    pass


class BenchLeader(Bench, Teleoperator):
    config_class = BenchLeaderConfig
    name = "robostack_leader"
    feedback_features = {}  # noqa: RUF012

    def __init__(self, config):
        super().__init__(config)
        self._set_up()

    def get_action(self):
        return dict(self.at)

    def send_feedback(self, feedback):
        pass


@pytest.fixture(autouse=True)
def found(monkeypatch, tmp_path):
    """Let LeRobot find the classes, and write no calibration into the user's home."""
    lookup = {"robostack_bench": BenchRobot, "robostack_leader": BenchLeader}

    def make(config):
        return lookup[config.type](config)

    monkeypatch.setattr("lerobot.robots.utils.make_device_from_device_class", make)
    monkeypatch.setattr(
        "lerobot.teleoperators.utils.make_device_from_device_class", make
    )
    monkeypatch.setattr("lerobot.robots.robot.HF_LEROBOT_CALIBRATION", tmp_path)
    monkeypatch.setattr(
        "lerobot.teleoperators.teleoperator.HF_LEROBOT_CALIBRATION", tmp_path
    )


@pytest.fixture
def contract(monkeypatch):
    folder = Path(__file__).parents[1] / "contract"
    monkeypatch.syspath_prepend(folder)
    monkeypatch.syspath_prepend(folder.parent)
    return importlib.import_module("test_robot")


def configured(tmp_path, **settings):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"homing_speed": 20.0, "period_s": 0.002, **settings}))
    return path


@pytest.fixture
def robot(tmp_path):
    robot = plugin.make(f"robostack_bench@{configured(tmp_path)}")
    with contextlib.closing(robot):
        yield robot


def test_units_follow_from_the_calibration_and_are_stated(robot):
    action = robot.spec.action
    assert action.names == ("lift", "roll", "gripper")
    assert action.units == ("rad", "rad", "1")
    assert action.high[0] == pytest.approx(math.pi * 2000 / TICKS)
    assert action.high[1] == pytest.approx(math.pi * 1000 / TICKS)
    assert (action.low[2], action.high[2]) == (0.0, 1.0)
    assert robot.spec.tracks == "joint_position"
    assert robot.spec.cameras["front"].height == 4
    assert "0.0174532925 x LeRobot's" in robot.spec.conventions["lift.pos"]
    assert derive(robot.spec).low


def test_readings_and_actions_are_the_same_angle_in_other_units(robot):
    robot.connect()
    reading = robot.read()["joint_position"]
    half = math.pi * 1000 / TICKS
    assert reading == pytest.approx([math.radians(10), 0.1 * half, 0.1])
    sent = robot.apply(float32([0.5, half, 0.25]))
    assert sent == pytest.approx([0.5, half, 0.25])
    assert robot._robot.at["lift.pos"] == pytest.approx(math.degrees(0.5))
    assert robot._robot.at["roll.pos"] == pytest.approx(100.0)
    assert robot._robot.at["gripper.pos"] == pytest.approx(25.0)
    frame = robot.frames()["front"]
    assert frame.shape == (4, 6, 3)
    assert (frame == 7).all()


def test_what_lerobot_clips_is_what_was_applied(tmp_path):
    told = configured(tmp_path, robot={"max_relative_target": 1.0})
    with contextlib.closing(plugin.make(f"robostack_bench@{told}")) as robot:
        robot.connect()
        sent = robot.apply(float32([0.5, 0.0, 0.1]))
        assert sent[0] == pytest.approx(math.radians(11.0))
        assert robot.facts()["max_relative_target"] == "1.0"


def test_reset_goes_home_and_stop_holds_what_is_measured(robot):
    robot.connect()
    robot.reset()
    assert robot.read()["joint_position"] == pytest.approx(robot.spec.home, abs=1e-6)
    robot.apply(float32([0.3, 0.1, 0.9]))
    robot.stop()
    robot.stop()
    assert robot.read()["joint_position"] == pytest.approx([0.3, 0.1, 0.9], abs=1e-6)
    with pytest.raises(SpecError):
        robot.apply(float32([np.nan, 0, 0]))
    robot.close()
    robot.close()
    assert not robot._robot.is_connected


@pytest.mark.parametrize(
    "fact",
    [
        "limits_follow_from_the_spec",
        "spec_survives_the_wire",
        "stop_works_before_connect_and_twice",
        "one_thread_may_make_it_and_another_drive_it",
    ],
)
def test_it_keeps_the_contract(robot, fact, contract):
    getattr(contract, f"test_{fact}")(robot)


@pytest.mark.parametrize(
    "fact",
    [
        "reading_is_what_the_spec_says",
        "reading_is_within_bounds_after_reset",
        "reading_is_a_copy",
        "apply_takes_read_only_actions_and_returns_what_was_sent",
        "reset_leaves_the_robot_within_one_step_of_home",
        "robot_works_again_after_stop",
        "stop_may_come_from_another_thread_at_any_time",
        "frames_are_what_the_spec_says",
    ],
)
def test_it_keeps_the_contract_when_ready(robot, fact, contract):
    robot.connect()
    robot.reset()
    getattr(contract, f"test_{fact}")(robot)


def test_a_robot_that_connects_in_part_is_let_go(robot, monkeypatch):
    def connect(self, calibrate=True):
        self.is_connected = True
        raise RuntimeError("motor 6 is missing")

    monkeypatch.setattr(BenchRobot, "connect", connect)
    with pytest.raises(RuntimeError, match="motor 6"):
        robot.connect()
    assert not robot._robot.is_connected


def test_another_calibration_than_the_files_is_refused(tmp_path):
    told = configured(tmp_path, robot={"calibrated": False})
    robot = plugin.make(f"robostack_bench@{told}")
    with pytest.raises(LeRobotError, match="lerobot-calibrate"):
        robot.connect()
    assert not robot._robot.is_connected


def test_a_feature_without_unit_is_asked_for(tmp_path, monkeypatch):
    extra = {**BenchRobot.action_features, "x.vel": float}
    monkeypatch.setattr(BenchRobot, "action_features", extra)
    with pytest.raises(FeatureError, match=r'no unit is known for x\.vel .*"ranges"'):
        plugin.make(f"robostack_bench@{configured(tmp_path)}")
    known = {"x.vel": {"unit": "m/s", "low": -0.3, "high": 0.3}}
    path = configured(tmp_path, ranges=known)
    robot = plugin.make(f"robostack_bench@{path}")
    assert robot.spec.action.units[3] == "m/s"
    assert robot.spec.control == "normalized"


def test_unknown_types_and_fields_are_named(tmp_path):
    with pytest.raises(PluginError, match="robostack_bench"):
        plugin.make("robostack_bensh")
    with pytest.raises(PluginError, match="configuration of robostack_bench"):
        plugin.make(f"robostack_bench@{configured(tmp_path, robot={'baud': 1})}")
    with pytest.raises(PluginError, match="cannot use"):
        plugin.make(f"robostack_bench@{configured(tmp_path, speeed=1)}")
    assert plugins.load("hardware", "lerobot") is plugin


def test_a_leader_speaks_in_the_robots_order_and_units(robot, tmp_path):
    half = math.pi * 1000 / TICKS
    names, units = ("gripper", "roll", "lift"), ("1", "rad", "rad")
    action = ArraySpec(names, units, (0.0, -1.0, -0.1), (1.0, 1.0, 0.1))
    leader = LeRobotTeleoperator(f"robostack_leader@{configured(tmp_path)}", action)
    leader.connect()
    assert leader.read() == pytest.approx([0.1, 0.1 * half, 0.1])  # lift was clipped
    leader.close()
    leader.close()
    other = ArraySpec(names, ("rad",) * 3, (-1.0,) * 3, (1.0,) * 3)
    with pytest.raises(SpecError, match=r"gripper is in 1 .* in rad at the robot"):
        LeRobotTeleoperator(f"robostack_leader@{configured(tmp_path)}", other)


def test_lerobots_own_so101_moves_emulated_servos(tmp_path, monkeypatch):
    so101 = pytest.importorskip("robostack.hardware.so101.emulator")
    from robostack.hardware.so101 import registers as r
    from robostack.hardware.so101.calibration import nominal

    def patient(port, _length):  # the emulated servos share this interpreter
        port.packet_start_time = port.getCurrentTime()
        port.packet_timeout = 2000.0

    feetech = "lerobot.motors.feetech.feetech.patch_setPacketTimeout"
    monkeypatch.setattr(feetech, patient)
    with so101.so101() as bus:
        joints = nominal().joints
        told = {
            name: {
                "id": joint.id,
                "drive_mode": 0,
                "homing_offset": 0,
                "range_min": 800,
                "range_max": 3300,
            }
            for name, joint in joints.items()
        }
        for servo in bus.servos:  # as lerobot-calibrate leaves them
            servo._put(servo.memory, r.MIN_POSITION, 800)
            servo._put(servo.memory, r.MAX_POSITION, 3300)
        (tmp_path / "left.json").write_text(json.dumps(told))
        fields = {"port": bus.path, "id": "left", "calibration_dir": str(tmp_path)}
        path = configured(
            tmp_path, robot=fields, period_s=0.02, homing_speed=1.0, speed=1.0
        )
        robot = plugin.make(f"so101_follower@{path}")
        with contextlib.closing(robot):
            robot.connect()
            robot.reset()
            assert robot.facts()["type"] == "so_follower"
            reading = robot.read()["joint_position"]
            assert reading == pytest.approx(robot.spec.home, abs=0.1)
            ticks = np.array([servo.position for servo in bus.servos])
            angles = (ticks[:5] - 2050) * 2 * math.pi / TICKS
            assert reading[:5] == pytest.approx(angles, abs=5e-3)
            assert reading[5] == pytest.approx((ticks[5] - 800) / 2500, abs=5e-3)
            assert all(servo.torque for servo in bus.servos)
        assert not any(servo.torque for servo in bus.servos)
