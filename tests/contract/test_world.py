"""What every world has to do, beyond what test_robot.py asks of every robot."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from installed import missing, need

from robostack import plugins
from robostack.robot import Variant
from robostack.spec import concatenate, float32

ADDRESSES = [f"sim:{name}" for name in plugins.names("sim")] + [
    "sim:double_pendulum/pendubot",
    "sim:double_pendulum/full",
    "sim:pendulum/limited",
    "sim:gym/HalfCheetah-v5",
]
STEPS = 25


@pytest.fixture(params=ADDRESSES)
def module(request):
    """Return the plug-in and the argument of one world after the other."""
    need(request.param)
    address = plugins.parse(request.param)
    return plugins.load("sim", address.name), address.argument


@pytest.fixture
def make(module):
    """Return how to make the world, and close what was made."""
    made = []

    def make(variant=None):
        plugin, argument = module
        world = plugin.make(argument, *([variant] if variant else []))
        world.connect()
        made.append(world)
        return world

    yield make
    for world in made:
        world.close()


def script(spec, steps=STEPS):
    """Return random actions (steps, A) around home, a tenth of the bounds wide."""
    random = np.random.default_rng(7)
    low, high = np.float32(spec.action.low), np.float32(spec.action.high)
    wide = (high - low) * random.uniform(-0.1, 0.1, (steps, spec.action.size))
    return np.clip(float32(spec.home) + wide.astype(np.float32), low, high)


def drive(world, seed=0, actions=None):
    """Return the columns of one episode, as a node would log them."""
    world.seed(seed)
    world.reset()
    actions = script(world.spec) if actions is None else actions
    rows, truths, applied = [world.read()], [world.truth()], []
    for action in actions:
        applied.append(world.apply(action))
        world.sleep_until(world.now() + world.spec.control_period_s)
        rows.append(world.read())
        truths.append(world.truth())
    columns = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    for name in truths[0]:
        columns[f"truth.{name}"] = np.stack([truth[name] for truth in truths])
    return columns | {"action": np.stack(applied)}


def observed(world, columns):
    """Return the observations (T+1, O)."""
    return concatenate(world.spec, columns)


def test_the_same_seed_gives_the_same_episode(make):
    first, second = drive(make(), seed=3), drive(make(), seed=3)
    assert first.keys() == second.keys()
    assert all((first[name] == second[name]).all() for name in first)


def test_a_world_forgets_the_episode_before(make):
    world = make()
    first = drive(world, seed=3)
    drive(world, seed=4)
    again = drive(world, seed=3)
    assert all((first[name] == again[name]).all() for name in first)


def test_another_seed_begins_elsewhere(make):
    world = make()
    first, second = drive(world, seed=3), drive(world, seed=4)
    assert any((first[name][0] != second[name][0]).any() for name in first)


def test_the_same_noise_comes_of_the_same_seed(make):
    variant = Variant(noise=0.01)
    first, second = drive(make(variant), seed=3), drive(make(variant), seed=3)
    assert all((first[name] == second[name]).all() for name in first)


def test_time_passes_in_sleep_only_and_never_goes_back(make):
    world = make()
    world.reset()
    start, period = world.now(), world.spec.control_period_s
    world.read(), world.truth()
    world.apply(float32(world.spec.home))
    assert world.now() == start
    for step in range(1, 200):
        world.sleep_until(start + step * period)
        assert world.now() == pytest.approx(start + step * period, abs=1e-9)
    world.sleep_until(start)
    assert world.now() == pytest.approx(start + 199 * period, abs=1e-9)
    world.reset()
    assert world.now() >= start + 199 * period - 1e-9


def test_readings_are_of_the_spec_and_hold_no_truth(make, module):
    world = make()
    columns = drive(world)
    plugin, argument = module
    assert plugin.spec(argument) == world.spec
    reading = world.read()
    assert list(reading) == list(world.spec.observation)
    for name, array in world.spec.observation.items():
        rows = columns[name]
        assert array.validate(reading[name]).dtype == np.float32
        assert (rows >= float32(array.low)).all()
        assert (rows <= float32(array.high)).all()
    assert set(world.truth()) - set(reading)
    for truth in world.truth().values():
        assert truth.dtype == np.float32
        assert truth.ndim == 1


def test_truth_stays_true_where_readings_are_noisy(make):
    plain, noisy = make(), make(Variant(noise=0.02))
    a, b = drive(plain), drive(noisy)
    truths = [name for name in a if name.startswith("truth.")]
    assert all((a[name] == b[name]).all() for name in truths)
    spread = np.abs(observed(plain, a) - observed(noisy, b)).max(axis=0)
    assert (spread > 0).all()


def test_reading_twice_gives_the_same_and_a_copy(make):
    world = make(Variant(noise=0.02))
    world.reset()
    first = world.read()
    before = {name: array.copy() for name, array in first.items()}
    for array in first.values():
        array[:] = 1e6
    second = world.read()
    assert all((second[name] == before[name]).all() for name in before)


def test_tasks_judge_whole_episodes_and_single_steps_alike(make, module):
    plugin, argument = module
    world = make()
    columns = drive(world)
    for task in plugin.tasks(argument).values():
        reward = task.reward(columns)
        success, terminated = task.success(columns), task.terminated(columns)
        assert (reward.shape, success.shape) == ((STEPS,), (STEPS + 1,))
        assert (terminated.shape, terminated.dtype) == ((STEPS,), np.bool_)
        assert success.dtype == np.bool_
        assert reward.dtype == np.float32
        assert np.isfinite(reward).all()
        assert task.instruction
        assert task.horizon > 0
        for row in (0, STEPS - 1):
            step = {name: rows[row : row + 2] for name, rows in columns.items()}
            step["action"] = columns["action"][row : row + 1]
            assert task.reward(step) == pytest.approx(reward[row : row + 1])
            assert (task.success(step) == success[row : row + 2]).all()
            assert (task.terminated(step) == terminated[row : row + 1]).all()


def test_doing_nothing_is_no_success(make, module):
    plugin, argument = module
    world = make()
    home = np.tile(float32(world.spec.home), (STEPS, 1))
    columns = drive(world, actions=home)
    for task in plugin.tasks(argument).values():
        assert not task.success(columns).any()


def test_home_holds_where_reset_leaves_it(make):
    world = make()
    if world.spec.name.startswith("gym/"):
        pytest.skip("legs fall")
    columns = drive(world, actions=np.tile(float32(world.spec.home), (STEPS, 1)))
    position = columns["joint_position"]
    assert np.abs(position - position[0]).max() < 0.15  # starts differ by as much


VARIANTS = {
    "mass": Variant(mass=2.0),
    "gear": Variant(gear=0.5),
    "delay": Variant(delay=3),
}


@pytest.mark.parametrize("axis", VARIANTS)
def test_a_variant_changes_the_motion(make, axis):
    plain, varied = make(), make(VARIANTS[axis])
    a, b = drive(plain), drive(varied)
    assert np.abs(observed(plain, a)[-1] - observed(varied, b)[-1]).max() > 1e-3


def test_a_delayed_action_comes_so_many_periods_later(make):
    plain, late = make(), make(Variant(delay=2))
    actions = script(plain.spec)
    home = np.tile(float32(plain.spec.home), (2, 1))
    shifted = drive(plain, actions=np.concatenate([home, actions[:-2]]))
    delayed = drive(late, actions=actions)
    assert (observed(plain, shifted) == observed(late, delayed)).all()
    assert (delayed["action"] == actions).all()


def test_a_weaker_gear_is_a_smaller_torque(make):
    plain, weak = make(), make(Variant(gear=0.5))
    if plain.spec.control == "position":
        pytest.skip("a position target does not scale with the gear")
    actions = script(plain.spec)
    halved, weakened = drive(plain, actions=actions / 2), drive(weak, actions=actions)
    difference = observed(plain, halved) - observed(weak, weakened)
    assert np.abs(difference).max() < 1e-3


def test_actions_are_limited_to_their_bounds(make):
    world = make()
    world.reset()
    beyond = float32(world.spec.action.high) + 10
    assert (world.apply(beyond) == float32(world.spec.action.high)).all()


def test_stop_comes_from_any_thread_and_holds_until_reset(make):
    world = make()
    world.stop()
    world.reset()
    other = threading.Thread(target=lambda: (world.stop(), world.stop()))
    other.start()
    other.join()
    sent = world.apply(float32(world.spec.action.high))
    assert (sent == float32(world.spec.home)).all()
    world.reset()
    high = float32(world.spec.action.high)
    assert (world.apply(high) == high).all()


def test_a_stop_drops_actions_on_their_way(make):
    late, still = make(Variant(delay=3)), make()
    for world in (late, still):
        world.seed(0)
        world.reset()
    late.apply(float32(late.spec.action.high))
    for world in (late, still):
        world.stop()
        world.sleep_until(world.now() + 5 * world.spec.control_period_s)
    a, b = late.read(), still.read()
    assert all((a[name] == b[name]).all() for name in a)


def test_frames_have_the_shape_of_their_camera(make):
    world = make()
    world.reset()
    frames = world.frames()
    assert list(frames) == list(world.spec.cameras)
    for name, camera in world.spec.cameras.items():
        assert frames[name].shape == (camera.height, camera.width, 3)
        assert frames[name].dtype == np.uint8
        assert frames[name].std() > 5


def test_frames_come_at_the_rate_of_the_camera_from_any_thread(make):
    world = make()
    world.reset()
    for name, camera in world.spec.cameras.items():
        first = world.frames()[name]
        world.apply(float32(world.spec.action.high))
        world.sleep_until(world.now() + 2 * camera.period_s)
        with ThreadPoolExecutor(1) as thread:
            second = thread.submit(world.frames).result()[name]
        assert (second != first).any()
        assert (world.frames()[name] == second).all()


def test_every_frame_can_be_dropped(make):
    world = make(Variant(dropped_frames=1.0))
    world.reset()
    for name, camera in world.spec.cameras.items():
        first = world.frames()[name]
        world.apply(float32(world.spec.action.high))
        world.sleep_until(world.now() + 2 * camera.period_s)
        assert (world.frames()[name] == first).all()


def test_close_works_twice_and_before_connect(make, module):
    plugin, argument = module
    world = plugin.make(argument)
    world.close()
    world.close()


@pytest.mark.parametrize("address", ADDRESSES)
def test_spec_and_tasks_need_no_mujoco(address):
    code = f"""
import sys
from robostack import plugins
address = plugins.parse({address!r})
module = plugins.load("sim", address.name)
assert module.spec(address.argument).action.size
assert module.tasks(address.argument)
assert "mujoco" not in sys.modules and "gymnasium" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_worlds_draw_without_display_and_leave_no_log(tmp_path):
    """In a process of its own, since MuJoCo reads MUJOCO_GL when it is imported."""
    code = f"""
from robostack import plugins
for text in {[address for address in ADDRESSES if not missing(address)]!r}:
    address = plugins.parse(text)
    world = plugins.load("sim", address.name).make(address.argument)
    world.reset()
    assert set(world.frames()) == set(world.spec.cameras)
    world.close()
"""
    hidden = ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY")
    environment = {k: v for k, v in os.environ.items() if k not in hidden}
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True,
        timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []
