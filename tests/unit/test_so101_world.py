"""The table with physics."""

import numpy as np
import pytest

from robostack.robot import Variant
from robostack.sim import so101_table
from robostack.sim.so101_table import kinematics, scene, table

POSES = np.random.default_rng(0).uniform(-1.0, 1.0, (20, 6))


@pytest.fixture
def world():
    world = so101_table.make("push_left")
    yield world
    world.close()


def advance(world, periods):
    world.sleep_until(world.now() + periods * table.PERIOD_S)


def put_cube(world, x, y):
    place = world.model.joint("cube").qposadr[0]
    world.data.qpos[place : place + 2] = x, y


def test_limits_are_those_of_the_package():
    model = scene.mujoco.MjModel.from_xml_path(str(scene.arm_path()))
    ranges = [model.actuator(name).ctrlrange for name in table.JOINTS]
    np.testing.assert_array_equal(np.array(ranges).T, [table.LOW, table.HIGH])


def test_zones_and_table_are_where_the_numbers_say(world):
    for side, center in table.ZONE_CENTER.items():
        zone = world.model.geom(f"{side}_zone")
        np.testing.assert_allclose(zone.pos[:2], center)
        np.testing.assert_allclose(zone.size[:2], table.ZONE_HALF)
    top = world.model.geom("table")
    assert top.pos[2] + top.size[2] == pytest.approx(table.TABLE_Z)


def test_primitives_and_meshes_are_the_same_arm():
    pair = [scene.build(meshes=meshes).compile() for meshes in (False, True)]
    np.testing.assert_array_equal(pair[0].body_mass, pair[1].body_mass)
    np.testing.assert_array_equal(pair[0].body_inertia, pair[1].body_inertia)
    for pose in POSES:
        tips = [_tip(model, pose) for model in pair]
        np.testing.assert_allclose(tips[0], tips[1], atol=1e-12)


def _tip(model, pose):
    data = scene.mujoco.MjData(model)
    places = [model.joint(scene.ARM + name).qposadr[0] for name in table.JOINTS]
    data.qpos[places] = pose
    scene.mujoco.mj_kinematics(model, data)
    return data.site(scene.TIP).xpos.copy()


def test_solve_leads_the_tip_to_a_place_with_the_gripper_looking_down():
    arm, joints = kinematics.Arm(), np.array(table.HOME)
    place = np.array([0.22, 0.05, 0.03])
    for _ in range(60):
        joints = joints + arm.solve(
            joints, np.clip(place - arm.tip(joints), -0.01, 0.01)
        )
    np.testing.assert_allclose(arm.tip(joints), place, atol=1e-3)
    assert 1.0 < joints[1:4].sum() < 2.0  # [rad] below the horizon


def test_same_seed_same_start_and_another_seed_another(world):
    starts = []
    for seed in (1, 1, 2):
        world.seed(seed)
        world.reset()
        starts.append(world.read()["cube_position"])
    np.testing.assert_array_equal(starts[0], starts[1])
    assert np.abs(starts[0] - starts[2]).max() > 1e-3


def test_arm_reaches_its_target_within_two_periods(world):
    world.reset()
    advance(world, 4)
    target = np.float32(table.HOME) + np.float32([0.1, 0, 0, 0, 0, 0])
    world.apply(target)
    advance(world, 2)
    np.testing.assert_allclose(world.read()["joint_position"], target, atol=0.02)


def test_stop_holds_the_arm_where_it_is_and_not_where_it_was_going(world):
    world.reset()
    world.apply(np.float32(table.HOME) + np.float32([1.5, 0, 0, 0, 0, 0]))
    advance(world, 1)
    world.stop()
    advance(world, 4)
    held = world.read()["joint_position"]
    assert held[0] < 1.0
    advance(world, 20)
    np.testing.assert_allclose(world.read()["joint_position"], held, atol=0.02)


def test_tip_is_the_forward_kinematics_of_the_joints(world):
    world.reset()
    reading = world.read()
    tip = kinematics.Arm().tip(reading["joint_position"])
    np.testing.assert_allclose(reading["tip_position"], tip, atol=1e-5)


def test_observation_holds_nothing_of_the_referee(world):
    assert set(world.truth()) & set(world.spec.observation) == {
        "cube_position",
        "tip_position",
    }
    assert "success_left" in world.truth()


def test_truth_tells_success_although_the_tracker_is_noisy():
    world = so101_table.make("", Variant(noise=0.05))
    world.reset()
    put_cube(world, *table.ZONE_CENTER["left"])
    advance(world, 4)
    off = world.read()["cube_position"] - world.truth()["cube_position"]
    assert np.abs(off).max() > 0.005
    assert world.truth()["success_left"] == 1.0
    assert world.truth()["success_right"] == 0.0


def test_frames_show_where_the_cube_is(world):
    world.reset()
    before = world.frames()
    put_cube(world, 0.22, 0.1)
    advance(world, 2)
    after = world.frames()
    for camera in world.spec.cameras:
        assert before[camera].shape == (128, 128, 3)
        red = [np.argwhere(_is_red(f[camera])).mean(0) for f in (before, after)]
        assert np.abs(red[0] - red[1]).max() > 10  # [pixels]


def _is_red(frame):
    pixels = frame.astype(int)
    return (pixels[..., 0] > 100) & (pixels[..., 1:].max(-1) < 60)
