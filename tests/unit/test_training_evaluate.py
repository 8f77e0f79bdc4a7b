import msgspec
import numpy as np
import pytest

from robostack.robot import Task
from robostack.spec import float32
from robostack.training import evaluate as evaluating
from robostack.training.evaluate import Arena, EvaluationError, evaluate


class Steps:
    """A world of the `robot` of conftest: positions are what was applied last."""

    def __init__(self, spec):
        self.spec = spec
        self.seeds, self.resets, self.stops = [], 0, 0
        self._now_s = 0.0

    def seed(self, seed):
        self.seeds.append(seed)

    def reset(self):
        self.resets += 1
        self._position = self._target = np.zeros(2, np.float32)

    def read(self):
        velocity = np.zeros(2, np.float32)
        return {"joint_position": self._position, "joint_velocity": velocity}

    def truth(self):
        return {"position": self._position}

    def apply(self, action):
        self._target = action.copy()
        return action

    def now(self):
        return self._now_s

    def sleep_until(self, deadline):
        self._position = self._target
        self._now_s = deadline

    def stop(self):
        self.stops += 1


def reach(goal, horizon=20):
    """Return the task to bring the hip to `goal`: -1 a step until there."""

    def there(columns):
        return columns["truth.position"][:, 0] >= goal - 1e-4

    return Task(
        instruction="reach",
        horizon=horizon,
        reward=lambda columns: float32(-np.ones(len(columns["action"]))),
        success=there,
        terminated=lambda columns: there(columns)[1:],
    )


def always(value):
    return lambda reading: float32([value, 0.0])


def test_an_episode_ends_when_the_task_does(robot):
    world = Steps(robot)
    result = evaluate(always(1.0), Arena(world, reach(0.35)), episodes=2, seed=7)
    # 0.05 first, from where it was measured, then 0.1 a step: 0.05, 0.15, 0.25, 0.35
    assert result.lengths.tolist() == [4, 4]
    assert result.returns.tolist() == [-4.0, -4.0]
    assert result.successes.tolist() == [True, True]
    assert world.seeds == [7, 8]
    assert (world.resets, world.stops) == (2, 2)
    assert world.now() == pytest.approx(8 * 0.02)


def test_an_episode_ends_at_the_horizon(robot):
    arena = Arena(Steps(robot), reach(9.0, horizon=6))
    result = evaluate(always(1.0), arena, episodes=1)
    assert result.lengths.tolist() == [6]
    assert result.successes.tolist() == [False]
    assert result.metrics()["evaluation/return"] == -6.0


def test_the_policy_never_sees_the_truth(robot):
    seen = set()

    def policy(reading):
        seen.update(reading)
        return float32([0.0, 0.0])

    evaluate(policy, Arena(Steps(robot), reach(1.0, horizon=2)), episodes=1)
    assert seen == {"joint_position", "joint_velocity"}


def test_a_policy_that_answers_nan_is_an_error_and_the_world_stops(robot):
    world = Steps(robot)
    with pytest.raises(ValueError, match="not finite: hip"):
        evaluate(always(np.nan), Arena(world, reach(1.0)), episodes=1)
    assert world.stops == 1


def test_a_world_of_another_robot_is_refused_with_the_difference(robot):
    other = msgspec.structs.replace(robot, control_period_s=0.01)
    with pytest.raises(EvaluationError, match=r"control_period_s.*0.02.*0.01"):
        evaluating.require(Arena(Steps(other), reach(1.0)), robot, "sim:steps")


def test_hardware_is_no_world_to_evaluate_in():
    from robostack import plugins

    if not plugins.names("hardware"):
        pytest.skip("there is no hardware plug-in")
    name = plugins.names("hardware")[0]
    with pytest.raises(EvaluationError, match="expected a world"):
        evaluating.open_arena(f"hardware:{name}")


def test_an_unknown_task_names_the_nearest():
    with pytest.raises(EvaluationError, match="did you mean 'default'"):
        evaluating.open_arena("sim:gym/Hopper-v5", "defaults")
