"""What scripts that test papers' claims share: a small robot, and its experience."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import json
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import gymnasium
import msgspec
import numpy as np

from robostack import plugins
from robostack.learner import Batch, Learner, Statistics
from robostack.spec import Array, ArraySpec, RobotSpec, float32

BATCH_SIZE, GAMMA = 256, 0.99
SIZES = {"hidden": (64, 64)}
BOUND = 1e3  # of readings that have none

Row = tuple[Array, Array, float, float, Array]  # as Memory.columns has them


class Memory:
    """Transitions in the order they were lived."""

    def __init__(self) -> None:
        self._rows: list[Row] = []
        self._columns: tuple[Array, ...] = ()

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows)

    def add(self, row: Row) -> None:
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
    env: gymnasium.Env,
    memory: Memory,
    algorithm: str,
    seed: int,
    *,
    steps: int = 1,
    kind: type[Learner] | None = None,
    **settings: object,
) -> Learner:
    """Return a learner of a small size; `steps` are the updates of its schedules.

    It is of another `kind` than the algorithm's own, if told so.
    """
    module = plugins.load("policies", algorithm)
    config = msgspec.convert(SIZES | settings, module.Config)
    spec, known = robot(env), memory.statistics()
    kind = kind or module.Learner
    return kind(spec, config, statistics=known, steps=steps, seed=seed)


def go_on(
    learner: Learner,
    env: gymnasium.Env,
    memory: Memory,
    *,
    steps: int = 1,
    **settings: object,
) -> Learner:
    """Return the same learner, with other settings."""
    config = msgspec.to_builtins(learner._config) | settings
    algorithm = type(learner).__module__.rpartition(".")[2]
    online = make(env, memory, algorithm, 0, steps=steps, **config)
    online.begin(learner.state())
    return online


def live(
    env: gymnasium.Env, act: Callable[[Array], Array], steps: int, seed: int
) -> Iterator[Row]:
    """Yield `steps` transitions of `act`, over as many episodes as it takes."""
    observation, _ = env.reset(seed=seed)
    for _ in range(steps):
        action = act(float32(observation))
        after, reward, terminated, truncated, _ = env.step(action)
        discount = 0.0 if terminated else GAMMA
        yield float32(observation), action, float(reward), discount, float32(after)
        observation = env.reset()[0] if terminated or truncated else after


def logs_of_sac(world: str, seed: int, *, learned: int, logged: int) -> Memory:
    """Return `logged` steps of a SAC that learned for `learned` steps."""
    env, lived = gymnasium.make(world), Memory()
    rng = np.random.default_rng(seed)
    for row in live(env, at_random(env, rng), 500, seed):
        lived.add(row)
    learner = make(env, lived, "sac", seed)
    for row in live(env, sampled(learner, rng), learned, seed + 1):
        lived.add(row)
        learner.update(lived.sample(rng))
    logs = Memory()
    for row in live(env, sampled(learner, rng), logged, seed + 2):
        logs.add(row)
    return logs


def at_random(env: gymnasium.Env, rng: np.random.Generator) -> Callable[[Array], Array]:
    """Return who does anything."""
    low, high = env.action_space.low, env.action_space.high
    return lambda _: float32(rng.uniform(low, high))


def sampled(learner: Learner, rng: np.random.Generator) -> Callable[[Array], Array]:
    """Return the policy as it acts while it learns."""
    return lambda observation: learner.act(observation[None], rng)[0]


def score(
    env: gymnasium.Env, learner: Learner, *, episodes: int, noise: float = 0.0
) -> float:
    """Return the mean return; readings are disturbed by as much as `noise`."""
    rng = np.random.default_rng(0)

    def act(observation: Array) -> Array:
        disturbance = rng.uniform(-noise, noise, observation.shape)
        return learner.act(float32(observation + disturbance)[None], None)[0]

    return mean_return(env, act, episodes=episodes)


def mean_return(
    env: gymnasium.Env, act: Callable[[Array], Array], *, episodes: int
) -> float:
    """Return the mean return of `act`, from the same starts each time."""
    returns = []
    for episode in range(episodes):
        observation, _ = env.reset(seed=50_000 + episode)
        total, done = 0.0, False
        while not done:
            observation, reward, terminated, truncated, _ = env.step(act(observation))
            total, done = total + float(reward), terminated or truncated
        returns.append(total)
    return float(np.mean(returns))


class Clock:
    """Processor time of updates [s]."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def update(self, learner: Learner, batch: Batch) -> None:
        """Update `learner`, and count how long it takes."""
        before = time.process_time()
        learner.update(batch)
        self.seconds += time.process_time() - before


def read(path: Path) -> list[dict[str, object]]:
    """Return the runs that are in a file of one line of JSON each."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def write(path: Path, run: dict[str, object]) -> None:
    """Append a run to the file, and show it."""
    line = json.dumps(run)
    with path.open("a") as file:
        file.write(line + "\n")
    print(line, flush=True)


def left(path: Path, methods: Iterable[str], seeds: int) -> Iterator[tuple[int, str]]:
    """Yield seed and method of the runs that are not in the file."""
    done = {(run["seed"], run["method"]) for run in read(path)}
    every = [(seed, name) for seed in range(seeds) for name in methods]
    yield from (pair for pair in every if pair not in done)


def table(runs: list[dict[str, object]], columns: Iterable[str]) -> str:
    """Return mean and deviation over seeds, a line per method."""
    columns = tuple(columns)
    lines = [
        "| method | " + " | ".join(columns) + " |",
        "|---" * len(columns) + "|---|",
    ]
    for name in dict.fromkeys(run["method"] for run in runs):
        mine = [run for run in runs if run["method"] == name]
        cells = [spread([r[c] for r in mine if r.get(c) is not None]) for c in columns]
        lines.append(f"| {name}, {len(mine)} seeds | {' | '.join(cells)} |")
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    """Return mean and sample standard deviation."""
    if not values:
        return ""
    mean, deviation = np.mean(values), np.std(values, ddof=len(values) > 1)
    digits = 0 if abs(mean) > 10 else 2
    return f"{mean:.{digits}f} ± {deviation:.{digits}f}"
