"""Gymnasium's tasks as worlds: exactly what gymnasium itself gives, and its logs."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import pytest

from robostack.plugins import PluginError
from robostack.robot import Variant
from robostack.sim import gym
from robostack.sim._mujoco import WorldError
from robostack.sim.gym.known import HORIZON, KNOWN, SLIDES
from robostack.spec import SpecError, concatenate, float32

import gymnasium  # isort: skip  # after _mujoco, which chooses how to draw

h5py = pytest.importorskip("h5py")


def gymnasium_make(task):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that v4 is old
        return gymnasium.make(task)


@pytest.mark.parametrize(
    "task",
    ["Hopper-v5", "HalfCheetah-v5", "InvertedPendulum-v5", "Reacher-v5", "Ant-v5"],
)
def test_resets_and_steps_are_those_of_gymnasium(task):
    world, env = gym.make(task), gymnasium_make(task)
    random = np.random.default_rng(0)
    world.seed(5)
    world.reset()
    expected, _ = env.reset(seed=5)
    for _ in range(60):
        observed = concatenate(world.spec, world.read())
        assert observed == pytest.approx(expected, rel=1e-6, abs=1e-6)
        action = float32(random.uniform(world.spec.action.low, world.spec.action.high))
        world.apply(action)
        world.sleep_until(world.now() + world.spec.control_period_s)
        expected, reward, terminated, _, _ = env.step(action)
        truth = world.truth()
        assert truth["reward"][0] == pytest.approx(reward, rel=1e-6)
        assert truth["terminated"][0] == terminated
        if terminated:
            world.reset()
            expected, _ = env.reset()
    env.close()
    world.close()


def test_the_task_reads_rewards_and_ends_from_the_log():
    world, task = gym.make("Hopper-v5"), gym.tasks("Hopper-v5")["default"]
    world.seed(0)
    world.reset()
    readings, truths, actions = [world.read()], [world.truth()], []
    while not truths[-1]["terminated"][0]:
        actions.append(world.apply(np.float32([1.0, 1.0, 1.0])))
        world.sleep_until(world.now() + 0.008)
        readings.append(world.read())
        truths.append(world.truth())
    observation = {k: np.stack([r[k] for r in readings]) for k in readings[0]}
    truth = {f"truth.{k}": np.stack([t[k] for t in truths]) for k in truths[0]}
    columns = {**observation, **truth, "action": np.stack(actions)}
    assert (task.reward(columns) == columns["truth.reward"][1:, 0]).all()
    assert task.terminated(columns).tolist() == [False] * (len(actions) - 1) + [True]
    from_readings = {**observation, "action": columns["action"]}
    assert (task.terminated(from_readings) == task.terminated(columns)).all()
    assert task.horizon == 1000


def test_a_reward_that_nobody_logged_is_asked_for_by_name():
    columns = {
        "joint_position": np.zeros((2, 5), np.float32),
        "action": np.zeros((1, 3)),
    }
    with pytest.raises(SpecError, match=r"expected the column truth\.reward"):
        gym.tasks()["default"].reward(columns)


@pytest.mark.parametrize("task", KNOWN)
def test_the_table_is_what_gymnasium_says(task):
    env, known = gymnasium_make(task), KNOWN[task]
    inner, model = env.unwrapped, env.unwrapped.model
    names = [model.joint(joint).name for joint in range(model.njnt)]
    slides = {n for n, kind in zip(names, model.jnt_type, strict=True) if kind == 2}
    driven = [names[joint] for joint in model.actuator_trnid[:, 0]]
    assert list(known.velocity) == names
    assert list(known.position) == names[len(names) - len(known.position) :]
    assert set(names) & SLIDES == slides
    assert list(known.action) == driven
    assert inner.action_space.high == pytest.approx(known.limit)
    assert inner.action_space.low == pytest.approx(-known.limit)
    assert inner.dt == pytest.approx(known.period_s)
    assert env.spec.max_episode_steps == HORIZON
    assert len(known.position) + len(known.velocity) == env.observation_space.shape[0]
    env.close()


@pytest.mark.parametrize("task", KNOWN)
def test_ends_are_found_in_readings_as_gymnasium_finds_them(task):
    world, known = gym.make(task), KNOWN[task]
    random = np.random.default_rng(1)
    world.seed(1)
    world.reset()
    ends = 0
    for _ in range(300):
        world.apply(
            float32(random.uniform(world.spec.action.low, world.spec.action.high))
        )
        world.sleep_until(world.now() + world.spec.control_period_s)
        row = {name: array[None] for name, array in world.read().items()}
        terminated = bool(world.truth()["terminated"][0])
        assert bool(known.terminated(row)[0]) is terminated
        ends += terminated
        if terminated:
            world.reset()
    world.close()
    if "Cheetah" not in task and "Swimmer" not in task:
        assert ends > 0


class Log(NamedTuple):
    name: str
    task: str
    has_state: bool


LOGS = [
    Log("gym_rollouts/hopper-medium-like.hdf5", "Hopper-v4", True),
    Log("gym_rollouts/halfcheetah-medium-like.hdf5", "HalfCheetah-v4", True),
    Log("cs285_halfcheetah_expert/halfcheetah-expert.hdf5", "HalfCheetah-v4", False),
]


@pytest.mark.parametrize("log", LOGS, ids=lambda log: log.name)
def test_one_step_from_a_logged_state_is_the_logged_step(shared_data, log):
    world = gym.make(log.task)
    with h5py.File(shared_data / log.name) as file:
        rows = np.arange(0, len(file["actions"]) - 1, len(file["actions"]) // 150)
        fields = {
            name: np.asarray(file[name])[rows]
            for name in ("observations", "actions", "next_observations", "rewards")
        }
        qpos, qvel = _states(file, rows, log.has_state, world.model.nq)
    world.reset()
    for i in range(len(rows)):
        world._env.set_state(qpos[i], qvel[i])
        world.data.qacc_warmstart[:] = 0.0
        world.apply(float32(fields["actions"][i]))
        world.sleep_until(world.now() + world.spec.control_period_s)
        reached = concatenate(world.spec, world.read())
        logged = fields["next_observations"][i]
        assert reached == pytest.approx(logged, rel=1e-5, abs=1e-5)
        if (
            np.abs(fields["actions"][i]) <= 1
        ).all():  # a world clips, gymnasium did not
            reward = world.truth()["reward"][0]
            assert reward == pytest.approx(fields["rewards"][i], abs=1e-4)
    world.close()


def _states(file, rows, has_state, nq):
    """Return the states of `rows`; the forward position matters to nobody."""
    if has_state:
        return np.asarray(file["infos/qpos"])[rows], np.asarray(file["infos/qvel"])[
            rows
        ]
    observation = np.asarray(file["observations"])[rows].astype(np.float64)
    forward = np.zeros((len(rows), 1))
    return np.hstack([forward, observation[:, : nq - 1]]), observation[:, nq - 1 :]


def test_variants_reach_the_model_of_gymnasium():
    heavy, plain = gym.make("Hopper-v5", Variant(mass=2.0)), gym.make("Hopper-v5")
    assert heavy.model.body_mass == pytest.approx(2 * plain.model.body_mass)
    weak = gym.make("Hopper-v5", Variant(gear=0.5))
    assert weak.model.actuator_gainprm[0, 0] == pytest.approx(0.5)


def test_backlash_is_refused():
    with pytest.raises(WorldError, match="without backlash"):
        gym.make("Hopper-v5", Variant(backlash=0.1))


@pytest.mark.parametrize(
    ("task", "sentence"),
    [("Hoper-v5", "Did you mean: `Hopper`"), ("CartPole-v1", "expected a MuJoCo task")],
)
def test_a_task_that_is_none_is_refused(task, sentence):
    with pytest.raises(PluginError, match=sentence):
        gym.spec(task)


def test_a_task_outside_the_table_is_asked_of_gymnasium():
    spec = gym.spec("Humanoid-v5")
    assert spec.observation["observation"].size == 348
    assert spec.action.high == pytest.approx([0.4] * 17)
    assert spec.control_period_s == pytest.approx(0.015)
    assert gym.tasks("Pusher-v5")["default"].horizon == 100
