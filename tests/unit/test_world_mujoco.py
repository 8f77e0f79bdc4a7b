"""What all MuJoCo worlds share, on a model small enough to compute by hand."""

from __future__ import annotations

import numpy as np
import pytest

from robostack.robot import Variant
from robostack.sim._headless import choose_gl
from robostack.sim._mujoco import (
    ModelWorld,
    RenderError,
    WorldError,
    compile_variant,
    mujoco,
)
from robostack.spec import ArraySpec, CameraSpec, RobotSpec, SpecError

SPEC = RobotSpec(
    name="wheel",
    control_period_s=0.02,
    command_timeout_s=0.1,
    control="torque",
    tracks="",
    observation={
        "joint_position": ArraySpec.uniform(("wheel",), "rad", -5.0, 5.0),
        "joint_velocity": ArraySpec.uniform(("wheel",), "rad/s", -50.0, 50.0),
    },
    cameras={"front": CameraSpec(height=32, width=48, period_s=0.04)},
    action=ArraySpec.uniform(("wheel",), "N m", -4.0, 4.0),
    home=(0.0,),
    max_action_step=(8.0,),
    conventions={},
)

INERTIA = 0.1  # [kg m^2] of the wheel, which turns about its centre of mass


NOMINAL = Variant()


def world(variant=NOMINAL, damping=0.0, friction=0.0, rotor=0.0, spec=SPEC):
    xml = f"""
    <mujoco>
      <option timestep="0.002" gravity="0 0 0" integrator="implicitfast"/>
      <worldbody>
        <light pos="0 -1 1"/>
        <camera name="front" pos="0 -1 0" xyaxes="1 0 0 0 0 1"/>
        <body>
          <joint name="wheel" axis="0 -1 0" damping="{damping}"
                 frictionloss="{friction}" armature="{rotor}"/>
          <inertial pos="0 0 0" mass="1" diaginertia="{INERTIA} {INERTIA} {INERTIA}"/>
          <geom type="box" size="0.3 0.1 0.05"/>
        </body>
      </worldbody>
      <actuator><motor joint="wheel"/></actuator>
    </mujoco>"""
    model = compile_variant(mujoco.MjSpec.from_string(xml), variant)
    made = ModelWorld(spec, model, variant)
    made.reset()
    return made


def speed_after(made, torque, seconds=1.0):
    """Return the speed [rad/s] that `torque` [N m] gives, from rest."""
    made.apply(np.float32([torque]))
    made.sleep_until(made.now() + seconds)
    return float(made.data.qvel[0])


def test_a_torque_gives_its_acceleration():
    assert speed_after(world(), 2.0) == pytest.approx(2.0 / INERTIA)


@pytest.mark.parametrize(
    ("variant", "speed"),
    [
        (Variant(mass=2.0), 10.0),
        (Variant(gear=0.5), 10.0),
        (Variant(gear=0.5, mass=0.5), 20.0),
        (Variant(delay=25), 10.0),
        (Variant(friction=3.0, damping=3.0), 20.0),
    ],
)
def test_each_axis_of_a_variant_scales_what_it_says(variant, speed):
    assert speed_after(world(variant), 2.0) == pytest.approx(speed)


def test_mass_scales_the_rotor_too():
    assert speed_after(world(rotor=INERTIA), 2.0) == pytest.approx(10.0)
    assert speed_after(world(Variant(mass=2.0), rotor=INERTIA), 2.0) == pytest.approx(
        5.0
    )


def test_friction_is_subtracted_and_scaled():
    assert speed_after(world(friction=0.5), 2.0) == pytest.approx(15.0, rel=0.01)
    tripled = world(Variant(friction=3.0), friction=0.5)
    assert speed_after(tripled, 2.0) == pytest.approx(5.0, rel=0.02)


def test_damping_limits_the_speed_and_is_scaled():
    assert speed_after(world(damping=0.5), 2.0, 9.0) == pytest.approx(4.0, rel=1e-3)
    doubled = world(Variant(damping=2.0), damping=0.5)
    assert speed_after(doubled, 2.0, 9.0) == pytest.approx(2.0, rel=1e-3)


def test_backlash_lets_the_link_lag_behind_the_motor_by_half_of_it():
    made = world(Variant(backlash=0.2))
    made.apply(np.float32([0.5]))
    made.sleep_until(made.now() + 1.0)
    assert made.data.qpos[1] == pytest.approx(-0.1, abs=0.01)
    assert made.read()["joint_position"][0] == pytest.approx(made.data.qpos[0])
    made.apply(np.float32([-0.5]))
    made.sleep_until(made.now() + 1.0)
    assert made.data.qpos[1] == pytest.approx(0.1, abs=0.01)


def test_noise_is_in_parts_of_the_range():
    made = world(Variant(noise=0.01))
    made.seed(0)
    made.reset()
    readings = []
    for _ in range(4000):
        made.sleep_until(made.now() + 0.002)
        readings.append(np.concatenate(list(made.read().values())))
    assert np.std(readings, axis=0) == pytest.approx([0.1, 1.0], rel=0.05)
    assert np.mean(readings, axis=0) == pytest.approx([0.0, 0.0], abs=0.06)


def test_readings_end_at_their_bounds():
    made = world()
    made.data.qpos[0] = 7.0
    assert made.read()["joint_position"] == [5.0]


@pytest.mark.parametrize("bad", [[np.nan], [np.inf], [1.0, 2.0], []])
def test_actions_that_are_none_are_refused(bad):
    made = world()
    with pytest.raises(SpecError):
        made.apply(np.float32(bad))
    assert made.data.ctrl[0] == 0


def test_nothing_is_sent_before_the_first_reset_or_after_a_stop():
    made = world()
    made.stop()
    assert speed_after(made, 2.0) == 0.0
    made.reset()
    assert speed_after(made, 2.0) > 1.0
    made.stop()
    assert made.data.ctrl[0] == 0.0


def test_sleeping_part_of_a_step_takes_a_whole_one_once():
    made = world()
    start = made.now()
    made.sleep_until(start + 0.0005)
    assert made.now() - start == pytest.approx(0.002)
    made.sleep_until(start + 0.0015)
    assert made.now() - start == pytest.approx(0.002)


def test_diverged_physics_is_an_error_not_a_silent_restart():
    made = world()
    made.data.qvel[0] = np.nan
    with pytest.raises(WorldError, match="physics of wheel diverged"):
        made.sleep_until(made.now() + 0.02)


def test_a_control_period_between_physics_steps_is_refused():
    import msgspec

    odd = msgspec.structs.replace(SPEC, control_period_s=0.0213)
    with pytest.raises(WorldError, match="multiple of the physics step"):
        world(spec=odd)


def test_a_camera_gives_one_frame_per_period():
    made = world()
    first = made.frames()["front"]
    made.apply(np.float32([4.0]))
    made.sleep_until(made.now() + 0.038)
    assert (made.frames()["front"] == first).all()
    made.sleep_until(made.now() + 0.102)
    assert (made.frames()["front"] != first).any()
    made.close()


def test_frames_are_dropped_as_often_as_said():
    made = world(Variant(dropped_frames=0.5))
    made.seed(1)
    made.reset()
    made.apply(np.float32([4.0]))
    last, repeated = made.frames()["front"], 0
    for _ in range(100):
        made.sleep_until(made.now() + 0.04)
        frame = made.frames()["front"]
        repeated += int((frame == last).all())
        last = frame
    made.close()
    assert 30 < repeated < 70


def test_a_computer_that_cannot_draw_says_which_packages_it_lacks(monkeypatch):
    def broken(*_):
        raise ImportError("Cannot initialize a EGL device display")

    monkeypatch.setattr(mujoco, "Renderer", broken)
    made = world()
    with pytest.raises(RenderError, match="libegl1 libopengl0 libgl1-mesa-dri"):
        made.frames()
    made.close()


@pytest.mark.parametrize(
    ("environment", "platform", "has_egl", "choice"),
    [
        ({}, "linux", True, "egl"),
        ({}, "linux", False, "disable"),
        ({"MUJOCO_GL": ""}, "linux", True, "egl"),
        ({"MUJOCO_GL": "osmesa"}, "linux", True, "osmesa"),
        ({"DISPLAY": ":0"}, "linux", True, "egl"),
        ({"DISPLAY": ":0"}, "linux", False, None),
        ({"WAYLAND_DISPLAY": "wayland-0"}, "linux", False, None),
        ({}, "darwin", True, None),
    ],
)
def test_egl_is_chosen_where_it_is_there(environment, platform, has_egl, choice):
    choose_gl(environment, platform, lambda _: has_egl)
    assert environment.get("MUJOCO_GL") == choice


def test_a_weaker_servo_has_the_same_target():
    xml = """
    <mujoco>
      <worldbody><body>
        <joint name="wheel" axis="0 -1 0" damping="0.5"/>
        <inertial pos="0 0 0" mass="1" diaginertia="0.1 0.1 0.1"/>
      </body></worldbody>
      <actuator><position joint="wheel" kp="8" forcerange="-2 2"/></actuator>
    </mujoco>"""
    model = compile_variant(mujoco.MjSpec.from_string(xml), Variant(gear=0.5))
    data = mujoco.MjData(model)
    data.ctrl[0] = 1.0
    mujoco.mj_step(model, data)
    assert data.actuator_force[0] == pytest.approx(1.0)  # half of the limit of 2
    mujoco.mj_step(model, data, nstep=5000)
    assert data.qpos[0] == pytest.approx(1.0, abs=1e-3)
