"""The pendulums against their equations of motion, and their tasks by hand."""

from __future__ import annotations

import numpy as np
import pytest

from robostack.plugins import PluginError
from robostack.robot import Variant
from robostack.sim import double_pendulum, pendulum
from robostack.sim._mujoco import mujoco
from robostack.training.evaluate import evaluate, open_arena

# design_C.1_model_1.0.yml of the DFKI
M1, M2, L1, R1, R2 = (
    0.5234602302310271,
    0.6255677234174437,
    0.2,
    0.2,
    0.25569305436052964,
)
I1, I2, IR, GEAR = 0.031887199591513114, 0.05086984812807257, 6.287203962819607e-05, 6.0
CF1, CF2, B1, B2, G = 0.16, 0.12, 0.001, 0.001, 9.81


def mass_matrix(q):
    """Return the DFKI's mass matrix; inertias are about the joints."""
    coupling = L1 * M2 * R2 * np.cos(q[1])
    rotor = GEAR**2 * IR
    m11 = I1 + I2 + M2 * L1**2 + 2 * coupling + rotor + IR
    m12 = I2 + coupling - GEAR * IR
    return np.array([[m11, m12], [m12, I2 + rotor]])


def bias(q, v):
    """Return the DFKI's gravity and Coriolis torques."""
    twist = L1 * M2 * R2 * np.sin(q[1])
    gravity2 = M2 * G * R2 * np.sin(q[0] + q[1])
    gravity1 = M1 * G * R1 * np.sin(q[0]) + M2 * G * L1 * np.sin(q[0]) + gravity2
    coriolis = [-twist * v[1] * (2 * v[0] + v[1]), twist * v[0] ** 2]
    return np.array([gravity1, gravity2]) + coriolis


@pytest.mark.parametrize("seed", range(4))
def test_the_double_pendulum_has_the_equations_of_the_identified_model(seed):
    random = np.random.default_rng(seed)
    q, v = random.uniform(-3, 3, 2), random.uniform(-9, 9, 2)
    world = double_pendulum.make("full")
    world.data.qpos[:], world.data.qvel[:] = q, v
    mujoco.mj_forward(world.model, world.data)
    ours = np.array([_column(world, joint) for joint in (0, 1)])
    assert ours == pytest.approx(mass_matrix(q), rel=1e-9)
    assert world.data.qfrc_bias == pytest.approx(bias(q, v), rel=1e-9)
    assert world.model.dof_damping == pytest.approx([B1, B2])
    coulomb = np.array([CF1, CF2]) * np.pi / 2
    assert world.model.dof_frictionloss == pytest.approx(coulomb)


def _column(world, joint):
    """Return one column of the mass matrix."""
    unit, column = np.zeros(2), np.zeros(2)
    unit[joint] = 1.0
    mujoco.mj_mulM(world.model, world.data, column, unit)
    return column


def test_the_pendulum_has_its_fitted_inertia_and_weight():
    world = pendulum.make()
    world.data.qpos[:] = np.pi / 2
    mujoco.mj_forward(world.model, world.data)
    column = np.zeros(1)
    mujoco.mj_mulM(world.model, world.data, column, np.ones(1))
    assert column[0] == pytest.approx(0.1849, abs=1e-4)
    assert world.data.qfrc_bias[0] == pytest.approx(3.6125, abs=1e-4)
    assert world.model.dof_frictionloss[0] == pytest.approx(0.1662)


@pytest.mark.parametrize(
    ("kind", "driven", "free"), [("acrobot", "elbow", 0), ("pendubot", "shoulder", 1)]
)
def test_the_passive_motor_cancels_the_friction_it_knows_of(kind, driven, free):
    assert double_pendulum.spec(kind).action.names == (driven,)
    nominal = [CF1 * np.pi / 2, CF2 * np.pi / 2]
    assert double_pendulum.make(kind).model.dof_frictionloss[free] == 0.0
    rough = double_pendulum.make(kind, Variant(friction=1.5)).model
    assert rough.dof_frictionloss[free] == pytest.approx(nominal[free] / 2)
    smooth = double_pendulum.make(kind, Variant(friction=0.5)).model
    assert smooth.dof_frictionloss[free] == 0.0


def swing(world, torque, seconds=0.5):
    """Return the angles [rad] that a torque swings the joints to, from rest."""
    world.seed(0)
    world.reset()
    world.apply(np.full(world.spec.action.size, torque, np.float32))
    world.sleep_until(world.now() + seconds)
    return world.truth()["joint_position"]


@pytest.mark.parametrize("module", [pendulum, double_pendulum])
@pytest.mark.parametrize(
    "weaker", [Variant(mass=1.5), Variant(friction=2.0), Variant(gear=0.7)]
)
def test_heavier_rougher_or_weaker_swings_less(module, weaker):
    nominal, less = swing(module.make(), 1.0), swing(module.make("", weaker), 1.0)
    assert abs(less[-1]) < 0.9 * abs(nominal[-1])


@pytest.mark.parametrize("kind", ["acrobot", "pendubot"])
def test_a_positive_torque_turns_its_joint_to_positive_angles(kind):
    world = double_pendulum.make(kind)
    angles = swing(world, 0.8, 0.1)
    for joint in world.spec.action.names:
        assert angles[double_pendulum.JOINTS.index(joint)] > 0.005


def test_damping_brakes_the_pendulum():
    world = double_pendulum.make("full")
    thick = double_pendulum.make("full", Variant(damping=100.0))
    assert abs(swing(thick, 1.0)[1]) < 0.9 * abs(swing(world, 1.0)[1])


@pytest.mark.parametrize("kind", ["acrobot", "pendubot", "full"])
def test_with_backlash_motor_and_link_differ_within_it(kind):
    world = double_pendulum.make(kind, Variant(backlash=0.1))
    link = swing(world, 1.0)
    difference = np.abs(world.read()["joint_position"] - link)
    driven = [joint in world.spec.action.names for joint in double_pendulum.JOINTS]
    assert ((difference > 1e-3) == driven).all()
    assert (difference < 0.055).all()


def test_the_limited_pendulum_cannot_hold_its_arm_level_and_the_rig_can():
    assert (
        pendulum.spec("limited").action.high[0]
        < 3.6125
        < pendulum.spec().action.high[0]
    )


def columns(position, velocity, action):
    """Return columns of an episode."""
    return {
        "joint_position": np.float32(position),
        "joint_velocity": np.float32(velocity),
        "action": np.float32(action),
    }


def test_the_reward_of_a_swing_up_is_height_less_speed_and_torque():
    task = double_pendulum.tasks()["swing_up"]
    upright, level, hanging = [np.pi, 0], [np.pi / 2, 0], [0, 0]
    episode = columns(
        [hanging, upright, level, hanging],
        [[0, 0], [0, 0], [0, 0], [2, 4]],
        [[0], [2], [0]],
    )
    by_hand = [1.0, 0.5 - 0.001 * 4, 0.0 - 0.0005 * 20]
    assert task.reward(episode) == pytest.approx(by_hand, abs=1e-6)
    assert not task.terminated(episode).any()


def test_an_episode_ends_where_the_readings_of_an_angle_do():
    """Beyond, a spinning arm reads, and is paid, as if it hung still."""
    task, end = double_pendulum.tasks()["swing_up"], double_pendulum.TURNS
    rows = [[0, 0], [end - 0.01, 0], [0.01 - end, -end], [end, 0], [0, 0]]
    episode = columns(rows, np.zeros((5, 2)), np.zeros((4, 1)))
    assert task.terminated(episode).tolist() == [False, True, True, False]


def test_an_arm_that_is_driven_round_and_round_ends_its_episode():
    arena = open_arena("sim:pendulum")
    try:
        found = evaluate(lambda _: np.float32([5.0]), arena, episodes=1)
    finally:
        arena.world.close()
    assert 50 < found.lengths[0] < 150


@pytest.mark.parametrize(
    ("position", "velocity", "success"),
    [
        ([np.pi, 0.0], [0.0, 0.0], True),
        ([-np.pi, 0.0], [0.0, 0.0], True),
        ([3 * np.pi, 2 * np.pi], [0.0, 0.0], True),
        ([0.0, np.pi], [0.0, 0.0], False),  # folded: the tip is 0.1 m above the pivot
        ([np.pi, np.pi], [0.0, 0.0], False),
        ([np.pi + 0.4, 0.0], [0.0, 0.0], True),  # cos 0.4 = 0.921
        ([np.pi + 0.5, 0.0], [0.0, 0.0], False),  # cos 0.5 = 0.878
        ([np.pi, 0.0], [2.0, 0.0], False),  # in flight
        ([np.pi, 0.0], [0.0, -2.0], False),
    ],
)
def test_success_is_to_be_up_and_slow(position, velocity, success):
    task = double_pendulum.tasks()["swing_up"]
    rows = columns([position] * 2, [velocity] * 2, [[0]])
    assert (task.success(rows) == success).all()


@pytest.mark.parametrize("module", [pendulum, double_pendulum])
def test_an_unknown_argument_names_the_nearest(module):
    with pytest.raises(PluginError, match="did you mean"):
        module.spec("pendubott" if module is double_pendulum else "limitd")
    with pytest.raises(PluginError):
        module.tasks("pendubott")
