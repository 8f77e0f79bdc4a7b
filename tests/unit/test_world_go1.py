"""The Go1 is the package's, its readings are MuJoCo's, and its task judges by rows."""

from __future__ import annotations

import importlib.util
import math

import numpy as np
import pytest
from installed import need

from robostack.plugins import PluginError
from robostack.robot import Variant
from robostack.sim import go1
from robostack.sim.go1 import dog, walk
from robostack.spec import float32

SENSORS = {"linear_velocity": "local_linvel", "gyro": "gyro"}  # ours: the model's


@pytest.fixture
def world():
    need("sim:go1")
    world = go1.make("0.5,0.1,-0.2")
    world.seed(0)
    world.reset()
    yield world
    world.close()


@pytest.fixture(scope="module")
def model():
    """Return the model as Playground compiles it."""
    need("sim:go1")
    from robostack.sim._mujoco import mujoco
    from robostack.sim.go1 import scene

    return mujoco.MjModel.from_xml_path(str(scene.scene_path()))


def test_joints_and_limits_are_those_of_the_model(model):
    names = [f"{name}_joint" for name in dog.JOINTS]
    assert [model.joint(i + 1).name for i in range(12)] == names
    low, high = model.jnt_range[1:].T
    assert low == pytest.approx(dog.LOW)
    assert high == pytest.approx(dog.HIGH)
    assert model.actuator_ctrlrange == pytest.approx(model.jnt_range[1:])
    assert [model.actuator(i).name for i in range(12)] == list(dog.JOINTS)


def test_home_is_the_keyframe_of_the_model(model):
    home = model.key("home")
    assert home.ctrl == pytest.approx(dog.HOME)
    assert home.qpos[7:] == pytest.approx(dog.HOME)
    assert home.qpos[:7] == pytest.approx([0, 0, dog.HOME_HEIGHT, 1, 0, 0, 0])


def test_the_physics_is_that_of_the_model(model, world):
    """What we leave out are pictures."""
    assert world.model.opt.timestep == model.opt.timestep == 0.004
    for name in ("body_mass", "body_inertia", "dof_damping", "dof_frictionloss"):
        assert getattr(world.model, name) == pytest.approx(getattr(model, name)), name
    assert world.model.actuator_gainprm == pytest.approx(model.actuator_gainprm)
    touching = model.geom_contype | model.geom_conaffinity
    ours = world.model.geom_contype | world.model.geom_conaffinity
    assert touching.sum() == ours.sum() == 5  # four feet and the floor


def test_readings_are_what_the_sensors_of_the_model_say(world):
    from robostack.sim._mujoco import mujoco

    random = np.random.default_rng(0)
    turn = random.normal(size=4)
    world.data.qpos[3:7] = turn / np.linalg.norm(turn)
    world.data.qvel[:] = random.normal(size=18)
    mujoco.mj_forward(world.model, world.data)
    reading = world._sense()
    for name, sensor in SENSORS.items():
        assert reading[name] == pytest.approx(world.data.sensor(sensor).data, abs=1e-5)
    imu = world.data.site("imu").xmat.reshape(3, 3)
    assert reading["gravity"] == pytest.approx(imu.T @ [0, 0, -1], abs=1e-6)
    assert reading["joint_velocity"] == pytest.approx(world.data.qvel[6:], abs=1e-6)


def test_the_command_is_what_was_asked_for(world):
    assert world.read()["command"] == pytest.approx([0.5, 0.1, -0.2])
    assert dog.command("") == (1.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("fast", "expected sim:go1/FORWARD,LEFT,TURN .*got 'fast'"),
        ("1,0", "got '1,0'"),
        ("2,0,0", "expected forward from -1.5 to 1.5, got 2"),
        ("0,0,nan", "expected turn from -1.2 to 1.2, got nan"),
    ],
)
def test_a_bad_command_is_one_sentence(argument, sentence):
    for ask in (go1.spec, go1.tasks, go1.make):
        with pytest.raises(PluginError, match=sentence):
            ask(argument)


def test_every_command_has_the_same_spec():
    assert go1.spec("0,0,1").digest == go1.spec().digest


def test_a_missing_package_is_one_sentence(monkeypatch):
    pytest.importorskip("mujoco")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PluginError, match=r"not installed: pip install.*\[go1\]"):
        go1.make()


def test_it_stands_at_home_with_any_variant():
    need("sim:go1")
    for variant in (Variant(mass=1.3), Variant(backlash=0.02), Variant(gear=0.8)):
        world = go1.make("", variant)
        world.seed(0)
        world.reset()
        for _ in range(100):
            world.apply(float32(dog.HOME))
            world.sleep_until(world.now() + dog.PERIOD_S)
        assert world.truth()["base_position"][2] > 0.2, variant
        assert abs(world.truth()["way"]).max() < 0.2, variant
        world.close()


def rows(count=3, **changes):
    """Return columns of a dog that walks at 1 m/s as it was told, with `changes`."""
    good = {
        "linear_velocity": [1.0, 0.0, 0.0],
        "gyro": [0.0, 0.0, 0.0],
        "gravity": [0.0, 0.0, -1.0],
        "command": [1.0, 0.0, 0.0],
        "truth.base_position": [5.0, 0.0, 0.28],
        "truth.way": [5.0, 0.0, 0.0],
        "truth.way_commanded": [5.0, 0.0, 0.0],
        "action": dog.HOME,
    }
    columns = {k: np.tile(float32(v), (count, 1)) for k, v in (good | changes).items()}
    columns["action"] = columns["action"][1:]
    return columns


def test_walking_as_commanded_earns_all_and_succeeds():
    assert walk.TASK.reward(rows()) == pytest.approx([0.03, 0.03])
    assert walk.TASK.success(rows()).all()
    assert not walk.TASK.terminated(rows()).any()


def test_the_reward_is_playgrounds_tracking():
    earned = walk.TASK.reward(
        rows(linear_velocity=[0.5, 0.0, 0.0], gyro=[0.0, 0.0, 0.5])
    )
    assert earned == pytest.approx(0.02 * 1.5 * math.exp(-1.0), abs=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {"gravity": [0.9, 0.0, -0.44]},
        {"gravity": [0.0, 0.0, 1.0]},
        {"truth.base_position": [5.0, 0.0, 0.1]},
    ],
)
def test_who_fell_earns_nothing_and_is_at_the_end(changes):
    columns = rows(**changes)
    assert walk.TASK.terminated(columns).all()
    assert not walk.TASK.success(columns).any()
    assert (walk.TASK.reward(columns) == 0).all()


@pytest.mark.parametrize(
    "changes",
    [
        {"linear_velocity": [0.5, 0.0, 0.0]},
        {"linear_velocity": [1.0, 0.4, 0.0]},
        {"gyro": [0.0, 0.0, 1.0]},
        {"truth.way": [4.0, 0.0, 0.0]},
        {"truth.way": [5.0, 0.0, 1.0]},
    ],
)
def test_who_walks_otherwise_does_not_succeed_and_goes_on(changes):
    columns = rows(**changes)
    assert not walk.TASK.success(columns).any()
    assert not walk.TASK.terminated(columns).any()


def test_logs_without_truths_are_judged_by_what_is_sensed():
    columns = {k: v for k, v in rows().items() if not k.startswith("truth.")}
    assert walk.TASK.success(columns).all()
    assert not walk.TASK.terminated(columns).any()
