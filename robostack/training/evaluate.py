"""How good a policy is: episodes in a world, in this process, judged by its task.

The policy is deterministic and its actions pass the limits that a node would apply, so
that what is measured here is what a robot would do. The task looks at what was read and
at what was applied; the policy never hears of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from robostack import plugins
from robostack.clock import Ticker
from robostack.learner import Learner
from robostack.limiting import ActionLimiter
from robostack.limits import derive
from robostack.robot import Task, Variant, World
from robostack.spec import Array, RobotSpec, concatenate, difference, float32

Policy = Callable[[dict[str, Array]], Array]


class EvaluationError(ValueError):
    """A world or task that a policy cannot be tried in."""


class Evaluation(NamedTuple):
    """What became of E episodes."""

    returns: npt.NDArray[np.float64]  # (E,) undiscounted, of the task's own reward
    lengths: npt.NDArray[np.int64]  # (E,) [steps]
    successes: npt.NDArray[np.bool_]  # (E,) at the end of each

    def metrics(self) -> dict[str, float]:
        """Return what is logged."""
        return {
            "evaluation/return": float(self.returns.mean()),
            "evaluation/return_std": float(self.returns.std()),
            "evaluation/success": float(self.successes.mean()),
            "evaluation/length": float(self.lengths.mean()),
        }


class Arena(NamedTuple):
    """A world and a task in it."""

    world: World
    task: Task


def open_arena(address: str, task: str = "", variant: Variant | None = None) -> Arena:
    """Return the world at `address`, such as sim:gym/Hopper-v5, and one of its tasks.

    Without a name the task is the world's first.
    """
    place = plugins.parse(address)
    if place.kind != "sim":
        raise EvaluationError(
            f"expected a world such as sim:gym/Hopper-v5 to act in, got {address}"
        )
    module = plugins.load(place.kind, place.name)
    tasks: Mapping[str, Task] = module.tasks(place.argument)
    if task and task not in tasks:
        raise EvaluationError(plugins.unknown(f"task of {address}", task, list(tasks)))
    chosen = tasks[task or next(iter(tasks))]
    world: World = module.make(place.argument, variant or Variant())
    world.connect()
    return Arena(world, chosen)


def require(arena: Arena, spec: RobotSpec, address: str) -> None:
    """Raise EvaluationError, with the differences, unless the world is of `spec`."""
    if lines := difference(spec, arena.world.spec):
        raise EvaluationError(
            f"expected a world of the data's robot, {address} differs (here: the data, "
            f"there: the world):\n  " + "\n  ".join(lines)
        )


def deterministic(learner: Learner) -> Policy:
    """Return the mean action (A,) of `learner` as a function of one reading."""
    return lambda reading: learner.act(concatenate(learner.spec, reading)[None], None)[
        0
    ]


def evaluate(
    policy: Policy, arena: Arena, *, episodes: int, seed: int = 0
) -> Evaluation:
    """Run `policy` for `episodes` episodes, seeded by `seed`, `seed` + 1, ..."""
    results = [_episode(policy, arena, seed + i) for i in range(episodes)]
    returns, lengths, successes = zip(*results, strict=True)
    return Evaluation(np.array(returns), np.array(lengths), np.array(successes))


class _Result(NamedTuple):
    returns: float
    length: int
    success: bool


def _episode(policy: Policy, arena: Arena, seed: int) -> _Result:
    world, task = arena
    try:
        world.seed(seed)
        world.reset()
        result = _Result(0.0, 0, success=False)
        for step in steps(policy, world, task.horizon):
            returns = result.returns + float(task.reward(step)[0])
            success = bool(task.success(step)[-1])
            result = _Result(returns, result.length + 1, success)
            if task.terminated(step)[0]:
                break
        return result
    finally:
        world.stop()


def steps(
    policy: Policy, world: World, horizon: int, *, shaped: bool = True
) -> Iterator[dict[str, Array]]:
    """Drive `world`, that was reset; give every step as an episode of one step.

    Actions pass the limits of a node; `action` is what was applied. Not `shaped`, they
    pass those on bounds and steps alone, which follow from the actions applied so far:
    an episode can then be repeated from its actions, bit for bit.
    """
    spec, limits = world.spec, derive(world.spec)
    if not shaped:
        limits = msgspec.structs.replace(limits, velocity=(), acceleration=(), jerk=())
    limit = ActionLimiter(limits)
    last = _columns(world)
    limit.start(last[spec.tracks] if spec.tracks else float32(spec.home))
    ticker = Ticker(world, spec.control_period_s)
    for _ in range(horizon):
        action = policy({name: last[name] for name in spec.observation})
        applied = world.apply(limit(spec.action.validate(action)).action)
        limit.settle(applied)
        ticker.wait()
        now = _columns(world)
        step = {name: np.stack([last[name], now[name]]) for name in now}
        yield step | {"action": applied[None]}
        last = now


def _columns(world: World) -> dict[str, Array]:
    """Return what a task is a function of, at this moment."""
    truth = {f"truth.{name}": array for name, array in world.truth().items()}
    return world.read() | truth
