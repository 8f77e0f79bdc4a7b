import time

import gymnasium
import msgspec
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from robot_examples import LockstepFake

from robostack.gym import RobotEnv
from robostack.hardware import fake
from robostack.link.errors import LeftError
from robostack.link.stop import request_stop
from robostack.node.embedded import embedded
from robostack.node.serve import Options
from robostack.plugins import PluginError
from robostack.robot import Task

pytestmark = [  # advice, not rules: our actions have units
    pytest.mark.filterwarnings("ignore:.*symmetric and normalized space"),
    pytest.mark.filterwarnings("ignore:.*environment not having a spec"),
]
OPEN = msgspec.structs.replace(fake.limits(), gate=())  # random actions begin anywhere
REACH = Task(
    instruction="hold both joints at 0.3 rad",
    horizon=20,
    reward=lambda c: -np.abs(c["joint_position"][1:] - 0.3).sum(-1),
    success=lambda c: np.abs(c["joint_position"] - 0.3).max(-1) < 0.1,
    terminated=lambda c: np.abs(c["joint_position"][1:]).max(-1) > 0.6,
)


@pytest.fixture
def env():
    options = Options(lockstep=True, limits=OPEN)
    with embedded(LockstepFake(), options=options) as node:
        env = RobotEnv(node.endpoint, REACH)
        yield env
        env.close()


def test_passes_the_checker(env):
    check_env(env)


def test_passes_the_checker_in_real_time():
    with embedded("hardware:fake", options=Options(limits=OPEN)) as node:
        env = RobotEnv(node.endpoint, REACH)
        check_env(env)
        env.close()


def test_a_first_action_far_from_a_real_robot_is_a_truncation_with_its_cause():
    env = RobotEnv("hardware:fake", REACH)
    env.reset(seed=0)
    *_, terminated, truncated, info = env.step(np.float32([0.0, 1.4]))
    assert (terminated, truncated) == (False, True)
    assert "far from the robot: elbow 1.4 away" in info["cause"]
    env.close()


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize(
    ("world", "task"), [("sim:pendulum", "swing_up"), ("sim:gym/Hopper-v5", "default")]
)
def test_a_world_passes_the_checker(world, task, flat):
    pytest.importorskip("mujoco")
    env = RobotEnv(world, task, flat=flat)
    check_env(env)
    env.close()


def test_flat_observation_is_in_the_order_of_the_spec(env):
    options = Options(lockstep=True, limits=OPEN)
    with embedded(LockstepFake(), options=options) as node:
        flat = RobotEnv(node.endpoint, REACH, flat=True)
        for e in (env, flat):
            e.reset(seed=3)
        for _ in range(3):
            named, *_ = env.step(np.float32([0.3, -0.2]))
            observation, *_ = flat.step(np.float32([0.3, -0.2]))
        both = [named["joint_position"], named["joint_velocity"]]
        assert np.array_equal(observation, np.concatenate(both))
        flat.close()


def test_reward_and_end_come_from_the_task(env):
    env.reset(seed=0)
    steps = [env.step(np.float32([0.3, 0.3])) for _ in range(20)]
    observation, reward, terminated, truncated, info = steps[-1]
    error = np.abs(observation["joint_position"] - 0.3).sum()
    assert reward == pytest.approx(-error)
    assert (terminated, truncated) == (False, True)
    assert info["success"]
    assert not any(step[3] for step in steps[:-1])


def test_termination_is_not_truncation(env):
    env.reset(seed=0)
    for _ in range(19):
        *_, terminated, truncated, _ = env.step(np.float32([1.5, 1.5]))
        if terminated:
            break
    assert (terminated, truncated) == (True, False)


def test_truth_is_in_the_info_and_nowhere_else(env):
    observation, info = env.reset(seed=7)
    assert set(observation) == {"joint_position", "joint_velocity"}
    assert info["truth"]["target"].shape == (2,)


def test_same_seed_same_episode(env):
    paths = []
    for _ in range(2):
        env.reset(seed=5)
        actions = np.random.default_rng(0).uniform(-0.1, 0.1, (10, 2))
        paths.append([env.step(np.float32(a))[0]["joint_position"] for a in actions])
    assert np.array_equal(paths[0], paths[1])


def test_step_before_reset_is_an_error(env):
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(np.zeros(2, np.float32))


def test_an_estop_is_an_error_and_not_a_truncation(env):
    env.reset(seed=0)
    request_stop(env._client.endpoint, who="test")
    with pytest.raises(LeftError, match="estop: stopped by 'test'"):
        env.step(np.zeros(2, np.float32))


def test_a_slow_caller_in_real_time_is_truncated():
    env = RobotEnv("hardware:fake", REACH)
    env.reset(seed=0)
    time.sleep(0.3)  # three times the command time-out
    *_, terminated, truncated, info = env.step(np.zeros(2, np.float32))
    assert (terminated, truncated) == (False, True)
    assert "no fresh command" in info["cause"]
    env.reset(seed=0)
    env.close()


def test_unknown_task_names_those_there_are():
    pytest.importorskip("mujoco")
    with pytest.raises(PluginError, match="swing_up"):
        RobotEnv("sim:pendulum", "swing")
