"""What scripts that test papers' claims share: a small robot, and its experience."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from collections.abc import Callable, Iterator

import gymnasium
import msgspec
import numpy as np

from robostack import plugins
from robostack.learner import Batch, Learner, Statistics
from robostack.spec import Array, ArraySpec, RobotSpec, float32

BATCH_SIZE, GAMMA = 256, 0.99
SIZES = {"hidden": (64, 64)}
BOUND = 1e3  # of readings that have none


class Memory:
    """Transitions in the order they were lived."""

    def __init__(self) -> None:
        self._rows: list[tuple[Array, Array, float, float, Array]] = []
        self._columns: tuple[Array, ...] = ()

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, row: tuple[Array, Array, float, float, Array]) -> None:
        self._rows.append(row)

    def columns(self) -> tuple[Array, ...]:
        """Return observation, action, reward, discount and next observation."""
        if not self._columns or len(self._columns[2]) != len(self._rows):
            pairs = zip(*self._rows, strict=True)
            self._columns = tuple(float32(np.array(column)) for column in pairs)
        return self._columns

    def sample(self, rng: np.random.Generator, size: int = BATCH_SIZE) -> Batch:
        """Draw a batch; of a memory that grows, without making all columns anew."""
        drawn = [self._rows[i] for i in rng.integers(len(self._rows), size=size)]
        return Batch(*(float32(np.array(c)) for c in zip(*drawn, strict=True)))

    def statistics(self) -> Statistics:
        observation = self.columns()[0]
        return Statistics(observation.mean(0), observation.std(0), 0.0, 1.0)


def robot(env: gymnasium.Env) -> RobotSpec:
    """Return the spec of an environment of boxes."""
    size = env.observation_space.shape[0]
    actions = tuple(f"a{i}" for i in range(env.action_space.shape[0]))
    low, high = (getattr(env.action_space, e).tolist() for e in ("low", "high"))
    names = tuple(f"o{i}" for i in range(size))
    return RobotSpec(
        name=type(env.unwrapped).__name__,
        control_period_s=0.05,
        command_timeout_s=0.2,
        control="normalized",
        tracks="",
        observation={"all": ArraySpec.uniform(names, "", -BOUND, BOUND)},
        cameras={},
        action=ArraySpec(actions, ("",) * len(actions), tuple(low), tuple(high)),
        home=(0.0,) * len(actions),
        max_action_step=tuple(b - a for a, b in zip(low, high, strict=True)),
        conventions={},
    )


def make(
    env: gymnasium.Env, memory: Memory, algorithm: str, seed: int, **settings: object
) -> Learner:
    """Return a learner of a small size."""
    module = plugins.load("policies", algorithm)
    config = msgspec.convert(SIZES | settings, module.Config)
    statistics = memory.statistics()
    return module.Learner(robot(env), config, statistics=statistics, steps=1, seed=seed)


def go_on(
    learner: Learner, env: gymnasium.Env, memory: Memory, **settings: object
) -> Learner:
    """Return the same learner, with other settings."""
    config = msgspec.to_builtins(learner._config) | settings
    algorithm = type(learner).__module__.rpartition(".")[2]
    online = make(env, memory, algorithm, 0, **config)
    online.load(learner.state())
    return online


def live(
    env: gymnasium.Env, act: Callable[[Array], Array], steps: int, seed: int
) -> Iterator[tuple[Array, Array, float, float, Array]]:
    """Yield `steps` transitions of `act`, over as many episodes as it takes."""
    observation, _ = env.reset(seed=seed)
    for _ in range(steps):
        action = act(float32(observation))
        after, reward, terminated, truncated, _ = env.step(action)
        discount = 0.0 if terminated else GAMMA
        yield float32(observation), action, float(reward), discount, float32(after)
        observation = env.reset()[0] if terminated or truncated else after


def sampled(learner: Learner, rng: np.random.Generator) -> Callable[[Array], Array]:
    """Return the policy as it acts while it learns."""
    return lambda observation: learner.act(observation[None], rng)[0]


def score(
    env: gymnasium.Env, learner: Learner, *, episodes: int, noise: float = 0.0
) -> float:
    """Return the mean return; readings are disturbed by as much as `noise`."""
    rng, returns = np.random.default_rng(0), []
    for episode in range(episodes):
        observation, _ = env.reset(seed=50_000 + episode)
        total, done = 0.0, False
        while not done:
            seen = float32(observation + rng.uniform(-noise, noise, observation.shape))
            action = learner.act(seen[None], None)[0]
            observation, reward, terminated, truncated, _ = env.step(action)
            total, done = total + float(reward), terminated or truncated
        returns.append(total)
    return float(np.mean(returns))
