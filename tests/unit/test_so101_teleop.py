"""The operator: able when skilled, wrong often enough when not."""

import numpy as np
import pytest

from robostack.data.collect import collect
from robostack.data.episode import End, columns
from robostack.sim import so101_table
from robostack.sim.so101_table import table, teleop

TASKS = so101_table.tasks()


def episodes(task, skill, seeds):
    world = so101_table.make(task)
    return collect(
        world,
        TASKS[task],
        lambda seed: teleop.operator(task, seed, skill),
        seeds=seeds,
        labels={"task": task},
    )


def success_rate(task, logs):
    return np.mean([TASKS[task].success(columns(log))[-1] for log in logs])


@pytest.mark.parametrize("task", list(TASKS))
def test_skilled_operator_nearly_always_succeeds(task):
    assert success_rate(task, episodes(task, 1.0, range(20))) >= 0.9


def test_half_skilled_operator_leaves_much_to_learn():
    logs = episodes("push_left", 0.5, range(60))
    assert 0.3 <= success_rate("push_left", logs) <= 0.65


def test_same_seed_gives_the_same_episode():
    first, second = (episodes("push_left", 0.5, range(7, 8))[0] for _ in range(2))
    np.testing.assert_array_equal(first.action, second.action)
    np.testing.assert_array_equal(first.reward, second.reward)


def test_operator_ends_an_episode_as_truncated():
    ends = {log.end for log in episodes("push_left", 0.0, range(12))}
    assert End.TRUNCATED in ends


def test_applied_actions_stay_within_the_largest_step():
    log = episodes("push_left", 0.5, range(3, 4))[0]
    steps = np.abs(np.diff(log.action, axis=0)).max()
    assert steps <= table.MAX_SPEED * table.PERIOD_S + 1e-6
    assert log.labels == {"task": "push_left", "seed": "3"}


@pytest.mark.parametrize("seed", range(3))
def test_push_right_undoes_push_left(seed):
    """One world, never reset by hand: the cube goes left, and back to the right."""
    world = so101_table.make("push_left")
    world.seed(seed)
    world.reset()
    for task in ("push_left", "push_right", "push_left"):
        assert _push(world, task, seed), task


def _push(world, task, seed):
    """Drive until the truth says success; return whether it did in time."""
    operator = teleop.operator(task, seed, 1.0)
    for _ in range(2 * table.HORIZON):
        action = operator(world.read())
        if action is None:
            return bool(world.truth()[task.replace("push", "success")])
        before = world.read()["joint_position"]
        step = np.float32(table.SPEC.max_action_step)
        world.apply(np.clip(action, before - step, before + step))
        world.sleep_until(world.now() + table.PERIOD_S)
    return False
