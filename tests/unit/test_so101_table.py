"""The table without physics: its numbers, its tasks, its arguments."""

import subprocess
import sys

import numpy as np
import pytest

from robostack.plugins import PluginError
from robostack.sim import so101_table
from robostack.sim.so101_table import table

GOAL = [0.22, 0.10, table.CUBE_REST_Z]
MIDDLE = [0.22, 0.0, table.CUBE_REST_Z]


def columns(*cube, **truth):
    rows = {f"truth.{name}": np.float32(value) for name, value in truth.items()}
    return {"cube_position": np.float32(cube), "action": np.zeros((1, 6)), **rows}


def test_spec_and_tasks_need_no_mujoco():
    code = (
        "import sys; from robostack.sim import so101_table as w;"
        "w.spec(''), w.tasks(''); assert 'mujoco' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_cube_at_rest_in_its_zone_is_a_success_and_ends_the_episode():
    task = so101_table.tasks()["push_left"]
    resting = columns(GOAL, GOAL)
    assert task.success(resting).tolist() == [True, True]
    assert task.terminated(resting).tolist() == [True]


def test_cube_that_still_moves_is_no_success():
    task = so101_table.tasks()["push_left"]
    moving = columns([0.22, 0.095, table.CUBE_REST_Z], GOAL)
    assert not task.success(moving).any()


@pytest.mark.parametrize("place", [MIDDLE, [0.22, -0.1, 0.0176], [0.3, 0.1, 0.0176]])
def test_cube_elsewhere_is_no_success(place):
    task = so101_table.tasks()["push_left"]
    assert not task.success(columns(place, place)).any()


def test_cube_fallen_off_the_table_is_no_success():
    task = so101_table.tasks()["push_left"]
    fallen = [0.22, 0.10, -0.5]
    assert not task.success(columns(fallen, fallen)).any()


def test_success_believes_the_truth_and_not_the_tracker():
    task = so101_table.tasks()["push_left"]
    tracked = columns(GOAL, GOAL, cube_position=[MIDDLE, MIDDLE])
    assert not task.success(tracked).any()
    lost = columns(MIDDLE, MIDDLE, cube_position=[GOAL, GOAL])
    assert task.success(lost).all()


def test_reward_is_progress_plus_bonus_less_a_cost_per_step():
    task = so101_table.tasks()["push_left"]
    nearer = columns(MIDDLE, [0.22, 0.01, table.CUBE_REST_Z])
    assert task.reward(nearer) == pytest.approx([0.1 - 0.01], abs=1e-6)
    assert task.reward(columns(GOAL, GOAL)) == pytest.approx([5.0 - 0.01], abs=1e-6)


def test_reward_of_a_cube_that_flies_away_is_bounded():
    task = so101_table.tasks()["push_left"]
    assert task.reward(columns(MIDDLE, [9.0, 9.0, 0.0])) == pytest.approx([-0.31])


def test_the_goal_of_one_task_is_no_success_of_the_other():
    assert not so101_table.tasks()["push_right"].success(columns(GOAL, GOAL)).any()


def test_unknown_argument_names_the_nearest():
    with pytest.raises(PluginError, match="did you mean 'push_left'"):
        so101_table.spec("push_lft")


def test_two_tasks_at_once_are_refused():
    with pytest.raises(PluginError, match="one task to start for"):
        so101_table.spec("push_left+push_right")


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_task_starts_outside_its_own_zone(side):
    start = table.start(f"push_{side}")
    for y in (start.low[1], start.high[1]):
        assert not table.inside(side, np.array([0.22, y, table.CUBE_REST_Z]))
