"""A Gymnasium environment, stepped once per control period.

`apply` only stores the action; the environment steps when time does, so that what is
read after `sleep_until(now + period)` is what `env.step(action)` returned. The wrappers
of Gymnasium (time limit, checks) are left off: nodes and tasks have their own.
"""

from __future__ import annotations

import functools
import warnings
from typing import Any

import numpy as np

from robostack.plugins import PluginError
from robostack.robot import Variant
from robostack.spec import Array, ArraySpec, RobotSpec

from .._mujoco import ModelWorld, Values, WorldError, vary
from . import gym_spec

# gymnasium imports mujoco, so it comes after _mujoco
import gymnasium  # isort: skip
from gymnasium.envs.mujoco import MujocoEnv  # isort: skip

_WIDE = 1e4  # bound of readings of which nothing is known
_FOREVER = 1000  # [steps] the horizon of a task that has none


class GymWorld(ModelWorld):
    """A MuJoCo task of Gymnasium; its reward and its end are truths."""

    def __init__(self, task: str, spec: RobotSpec, variant: Variant) -> None:
        if variant.backlash:
            raise WorldError(
                f"expected a variant without backlash for sim:gym/{task}, got "
                f"{variant.backlash} rad: Gymnasium's models have fixed joints"
            )
        self._env = _environment(task)
        vary(self._env.model, variant)
        self._action = np.zeros(spec.action.size, np.float32)
        self._observation, self._reward, self._terminated = np.zeros(0), 0.0, False
        self._seed: int | None = None
        super().__init__(
            spec, self._env.model, variant, joints=(), tick_s=float(self._env.dt)
        )
        self.data = self._env.data
        self._restart()

    def seed(self, seed: int) -> None:
        """Make the next `reset` the one of `env.reset(seed=seed)`."""
        super().seed(seed)
        self._seed = seed

    def close(self) -> None:
        """Stop, and close the environment."""
        super().close()
        self._env.close()

    def _restart(self) -> None:
        observation, _ = self._env.reset(seed=self._seed)
        self._seed = None  # the next reset goes on from here, as in Gymnasium
        self._observation = np.asarray(observation)
        self._reward, self._terminated = 0.0, False
        self._safe()

    def _drive(self, action: Array) -> None:
        self._action = action

    def _step(self, ticks: int) -> None:
        for _ in range(ticks):
            observation, reward, terminated, _, _ = self._env.step(self._action)
            self._observation = np.asarray(observation)
            self._reward, self._terminated = float(reward), terminated
        if not np.isfinite(self._observation).all():
            raise WorldError(f"the physics of {self.spec.name} diverged")

    def _sense(self) -> dict[str, Values]:
        arrays = self.spec.observation
        ends = np.cumsum([array.size for array in arrays.values()])[:-1]
        return dict(zip(arrays, np.split(self._observation, ends), strict=True))

    def _know(self) -> dict[str, Values]:
        """Return reward and end of the step that led here, and the whole state."""
        return {
            "reward": np.array([self._reward]),
            "terminated": np.array([float(self._terminated)]),
            "qpos": self.data.qpos.copy(),
            "qvel": self.data.qvel.copy(),
        }


@functools.lru_cache
def derived_spec(task: str) -> RobotSpec:
    """Return the spec of a task that is not in the table, by making it once."""
    env = _environment(task)
    try:
        space, actions = env.observation_space, env.action_space
        if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1:
            raise PluginError(
                f"expected a task whose observation is one vector, got {task}: {space}"
            )
        names = [f"observation_{i}" for i in range(space.shape[0])]
        action = ArraySpec(
            tuple(f"action_{i}" for i in range(actions.shape[0])),
            ("",) * actions.shape[0],
            tuple(actions.low.astype(float).tolist()),
            tuple(actions.high.astype(float).tolist()),
        )
        observation = {"observation": ArraySpec.uniform(names, "", -_WIDE, _WIDE)}
        return gym_spec(task, float(env.dt), observation, action)
    finally:
        env.close()


def derived_horizon(task: str) -> int:
    """Return after how many steps Gymnasium truncates the task."""
    return gymnasium.spec(task).max_episode_steps or _FOREVER


def _environment(task: str) -> Any:  # a MujocoEnv, whose spaces are typed too loosely
    try:
        with warnings.catch_warnings():  # that there is a newer version of the task
            warnings.simplefilter("ignore")
            env = gymnasium.make(task, disable_env_checker=True).unwrapped
    except gymnasium.error.Error as error:
        raise PluginError(
            f"expected sim:gym/NAME with a name that Gymnasium knows, such as "
            f"Hopper-v5, got {task!r}: {error}"
        ) from error
    if not isinstance(env, MujocoEnv):
        env.close()
        raise PluginError(f"expected a MuJoCo task of Gymnasium, got {task!r}")
    return env
