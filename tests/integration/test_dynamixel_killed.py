"""A driver's process is killed, and the servos stop by their own watchdog."""

import signal
import subprocess
import sys
import time

import numpy as np
import pytest

pytest.importorskip("dynamixel_sdk", reason="dynamixel-sdk is not installed")

from robostack.gym import RobotEnv
from robostack.hardware.dynamixel import make
from robostack.hardware.dynamixel.chain import NOMINAL, RADIANS_PER_TICK, load
from robostack.hardware.dynamixel.emulator import emulate
from robostack.link.errors import RefusedError
from robostack.node.embedded import embedded
from robostack.robot import Task

pytestmark = pytest.mark.alone

CHAIN = load(NOMINAL)
STAND = Task(
    "stand still",
    1000,
    lambda columns: np.zeros(len(columns["action"]), np.float32),
    lambda columns: np.zeros(len(columns["joint_position"]), bool),
    lambda columns: np.zeros(len(columns["action"]), bool),
)
DRIVE = """
import sys, time
from robostack.hardware.dynamixel import make
from robostack.spec import float32

robot = make(sys.argv[1])
robot.connect()
robot.reset()
goal = float32(robot.spec.home)
goal[0] = robot.spec.action.high[0]
while True:
    robot.read()
    robot.apply(goal)
    print("moving", flush=True)
    time.sleep(0.02)
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSTOP])
def test_servos_stop_and_hold_when_nobody_talks_to_them(end):
    with emulate(CHAIN) as bus:
        driver = subprocess.Popen(
            [sys.executable, "-c", DRIVE, f"{bus.path}@{NOMINAL}"],
            stdout=subprocess.PIPE,
        )
        with driver:
            assert driver.stdout.readline() == b"moving\n"
            driver.send_signal(end)
            silent_s = time.monotonic()
            while not all(servo.tripped for servo in bus.servos):
                assert time.monotonic() - silent_s < CHAIN.bus_watchdog_s + 2.0
                time.sleep(0.005)
            driver.kill()
        time.sleep(0.3)
        at = [servo.position for servo in bus.servos]
        time.sleep(0.3)
        still = np.array([servo.position for servo in bus.servos])
        np.testing.assert_allclose(still, at, atol=3)
        assert all(servo.torque for servo in bus.servos)
        way = (still[0] - 2048) * RADIANS_PER_TICK
        assert 0.1 < way < CHAIN.joints["waist"].high - 0.2


def test_a_node_that_holds_feeds_the_watchdog_and_a_dead_bus_is_a_fault(tmp_path):
    watchdog_s = 1.5  # long, for computers that are busy
    text = NOMINAL.read_text().replace("bus_watchdog_s = 0.5", "bus_watchdog_s = 1.5")
    (tmp_path / "arm.toml").write_text(text)
    with emulate(CHAIN) as bus:
        robot = make(f"{bus.path}@{tmp_path}/arm.toml")
        with embedded(robot) as node:
            env = RobotEnv(node.endpoint, STAND)
            env.reset(seed=0)
            time.sleep(1.3 * watchdog_s)
            assert all(servo.torque for servo in bus.servos)
            assert not any(servo.tripped for servo in bus.servos)
            bus.power(on=False)
            with pytest.raises(
                RefusedError, match="in fault: BusError: no answer from wa"
            ):
                env.reset(seed=0)
            env.close()
