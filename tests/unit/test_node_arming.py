"""What has to be right before a node first holds a robot: limits, sensors, rate."""

import time

import msgspec
import numpy as np
import pytest
from node_bench import Bench
from robot_examples import LockstepFake

from robostack.clock import ManualClock
from robostack.hardware.fake.driver import FakeRobot
from robostack.limits import derive
from robostack.node import arming
from robostack.node.arming import ArmingError, misfits, rehearse

SPEC = FakeRobot.spec
LIMITS = derive(SPEC)


class Hardware(FakeRobot):
    """The fake robot, with its time in the test's hand and a sense that can be bent."""

    def __init__(self, **bent):
        self.clock = ManualClock()
        super().__init__(self.clock)
        self.bent = bent
        self.reads = 0
        self.slow = ()  # numbers of readings that take longer than a period

    def read(self):
        self.reads += 1
        if self.reads - 1 in self.slow:
            time.sleep(SPEC.control_period_s * 1.2)
        return super().read() | {k: np.float32(v) for k, v in self.bent.items()}


def test_a_good_robot_is_read_ten_times():
    robot = Hardware()
    rehearse(robot, LIMITS)
    assert robot.reads == 10


def test_a_world_is_not_read_before_its_reset():
    world = LockstepFake()
    world.read = None
    rehearse(world, LIMITS)


@pytest.mark.parametrize(
    ("bent", "words"),
    [
        ({"joint_velocity": [0.0, np.nan]}, "joint_velocity is not finite"),
        ({"joint_position": [0.0]}, "expected joint_position as float32 (2,)"),
        ({"joint_position": [0.0, 1.9]}, "joint_position of elbow is 1.9, expected"),
        ({"joint_position": [-1.9, 0.0]}, "joint_position of shoulder is -1.9"),
        ({"joint_torque": [0.0]}, "expected readings"),
    ],
)
def test_bad_sensors_are_a_fault_before_any_hold(bent, words):
    bench = Bench(Hardware(**bent))
    assert bench.machine.state == "fault"
    assert words in bench.machine.cause


def test_a_reading_a_little_out_of_bounds_is_none():
    rehearse(Hardware(joint_position=[0.0, 1.7]), LIMITS)


def test_slow_sensors_are_a_fault():
    robot = Hardware()
    robot.slow = range(3, 1000, 10)
    bench = Bench(robot)
    assert bench.machine.state == "fault"
    assert "expected a reading within the control period of 20 ms" in (
        bench.machine.cause
    )
    assert robot.reads == 30


def test_one_slow_reading_is_forgiven():
    robot = Hardware()
    robot.slow = (3,)
    assert Bench(robot).machine.state == "hold"


def test_a_fault_is_not_cleared_while_the_sensors_are_bad():
    bench = Bench(Hardware())
    bench.supervisor.fault(OSError("no answer"))
    bench.robot.bent = {"joint_velocity": [np.nan, 0.0]}
    assert not bench.supervisor.clear("plugged it in")
    assert bench.machine.state == "fault"
    bench.robot.bent = {}
    assert bench.supervisor.clear("plugged it in")
    assert bench.machine.state == "hold"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"high": (1.5, 1.6)}, "elbow may go from -1.5 to 1.6, and the robot"),
        ({"low": (-1.6, -1.5)}, "shoulder may go from -1.6 to 1.5"),
        ({"low": (0.1, -1.5)}, "home, 0, is outside 0.1 to 1.5 of shoulder"),
        ({"low": (-1.5, np.nan)}, "elbow may go from nan"),
        ({"step": (0.1, 0.0)}, "expected steps above zero of elbow"),
        ({"first": (np.inf, 0.1)}, "expected steps above zero of shoulder"),
        ({"names": ("elbow", "shoulder")}, "expected shoulder, elbow, got elbow, sh"),
        ({"command_timeout_s": 1.0}, "expected HOLD before SAFE, got 1 s and 0.5 s"),
    ],
)
def test_limits_that_are_not_the_robots_are_a_fault(changes, words):
    limits = msgspec.structs.replace(LIMITS, **changes)
    assert next(misfits(limits, SPEC)).startswith(words)
    with pytest.raises(ArmingError, match="these limits are not for fake"):
        rehearse(Hardware(), limits)
    world = LockstepFake()
    assert Bench(world, limits).machine.state == "fault"


def test_narrower_limits_are_allowed():
    narrow = msgspec.structs.replace(LIMITS, low=(-1.0, -1.0), high=(1.0, 1.0))
    assert list(misfits(narrow, SPEC)) == []


def test_of_few_durations_the_longest_counts():
    assert arming.p99([0.1, 0.3, 0.2]) == 0.3
    assert arming.p99([0.0] * 199 + [1.0]) == 0.0
