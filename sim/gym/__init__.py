"""Any MuJoCo task of Gymnasium as a robot: `sim:gym/Hopper-v5`.

The argument is Gymnasium's name of the task; without one it is Hopper-v5. Specs and
tasks of the common names (known.py) need neither gymnasium nor mujoco; for any other,
the environment is made once to ask it.
"""

from __future__ import annotations

import numpy as np

from robostack.robot import Columns, Mask, Task, Variant, World
from robostack.spec import Array, ArraySpec, RobotSpec, SpecError, float32

from .known import HORIZON, KNOWN, SLIDES, Known, Rows

DEFAULT = "Hopper-v5"
BOUND = 100.0  # of readings: Gymnasium's own are infinite; in m, rad, m/s, rad/s
NOMINAL = Variant()

CONVENTIONS = {
    "source": "Gymnasium's observation in its order, as float32",
    "bounds": "finite stand-ins for Gymnasium's infinite ones",
    "action": "Gymnasium's own units: what its XML takes as control",
}


def spec(argument: str = "") -> RobotSpec:
    """Return the spec of Gymnasium task `argument`."""
    task = argument or DEFAULT
    if task in KNOWN:
        return known_spec(task, KNOWN[task])
    from .world import derived_spec

    return derived_spec(task)


def tasks(argument: str = "") -> dict[str, Task]:
    """Return `default`: the rewards and ends that Gymnasium gave, as logged in truth.

    Logs without `truth.terminated` are judged by their observations where the task is
    a known one; rewards cannot be had without `truth.reward`.
    """
    name = argument or DEFAULT
    if name in KNOWN:
        return {"default": _task(name, HORIZON, KNOWN[name].terminated)}
    from .world import derived_horizon

    return {"default": _task(name, derived_horizon(name), None)}


def make(argument: str = "", variant: Variant = NOMINAL) -> World:
    """Return the world."""
    from .world import GymWorld

    return GymWorld(argument or DEFAULT, spec(argument), variant)


def known_spec(name: str, known: Known) -> RobotSpec:
    """Return the spec of a task in the table."""
    velocity = ArraySpec(
        tuple(f"{joint}_velocity" for joint in known.velocity),
        tuple("m/s" if joint in SLIDES else "rad/s" for joint in known.velocity),
        (-BOUND,) * len(known.velocity),
        (BOUND,) * len(known.velocity),
    )
    position = ArraySpec(
        known.position,
        tuple("m" if joint in SLIDES else "rad" for joint in known.position),
        (-BOUND,) * len(known.position),
        (BOUND,) * len(known.position),
    )
    action = ArraySpec.uniform(known.action, "", -known.limit, known.limit)
    observation = {"joint_position": position, "joint_velocity": velocity}
    return gym_spec(name, known.period_s, observation, action)


def gym_spec(
    name: str, period_s: float, observation: dict[str, ArraySpec], action: ArraySpec
) -> RobotSpec:
    """Return the spec of a Gymnasium task."""
    bounds = list(zip(action.low, action.high, strict=True))
    return RobotSpec(
        name=f"gym/{name}",
        control_period_s=period_s,
        command_timeout_s=max(0.1, 3 * period_s),
        control="normalized",
        tracks="",
        observation=observation,
        cameras={},
        action=action,
        home=tuple(float(np.clip(0.0, low, high)) for low, high in bounds),
        max_action_step=tuple(high - low for low, high in bounds),
        conventions=CONVENTIONS,
    )


def _task(name: str, horizon: int, judge: Rows | None) -> Task:
    def reward(columns: Columns) -> Array:
        if "truth.reward" not in columns:
            raise SpecError(
                f"expected the column truth.reward, which sim:gym/{name} logs, got "
                f"{sorted(columns)}; the rewards of other logs have to come with them"
            )
        return float32(columns["truth.reward"][1:, 0])

    def success(columns: Columns) -> Mask:
        return np.zeros(len(columns["action"]) + 1, np.bool_)

    def terminated(columns: Columns) -> Mask:
        if "truth.terminated" in columns:
            return np.asarray(columns["truth.terminated"][1:, 0] > 0.5)
        if judge is not None:
            return judge(columns)[1:]
        raise SpecError(
            f"expected the column truth.terminated, which sim:gym/{name} logs, got "
            f"{sorted(columns)}"
        )

    return Task(
        f"earn Gymnasium's reward in {name}", horizon, reward, success, terminated
    )
