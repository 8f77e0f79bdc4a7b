"""Open-loop replay of imported runs in a world: how far it gets from what was measured.

python tests/integration/replay_errors.py    writes the tables of the READMEs
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from robostack.data import dfki
from robostack.data.episode import Episode
from robostack.robot import Variant
from robostack.sim import double_pendulum, pendulum
from robostack.sim._mujoco import mujoco
from robostack.spec import RobotSpec

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
FRICTIONLESS = Variant(friction=0.0, damping=0.0)
MOVING = 1.0  # [rad/s]: where nothing moves, nothing can be wrong

Change = Callable[[Episode], Episode]


class Start(NamedTuple):
    """A logged state, and the torques from there on."""

    position: np.ndarray  # (H+1, J)
    velocity: np.ndarray  # (J,)
    torque: np.ndarray  # (H, A)


def starts(
    episodes: Iterable[Episode], steps: int, every: int, change: Change | None = None
) -> list[Start]:
    """Return stretches of `steps` control periods that move."""
    found = []
    for episode in episodes:
        q, v = episode.observation.values()
        moves = np.abs(v).max(axis=1) > MOVING
        told = change(episode) if change else episode
        q, v = told.observation.values()
        for row in range(0, told.length - steps, every):
            if moves[row : row + steps].any():
                torque = told.action[row : row + steps]
                found.append(Start(q[row : row + steps + 1], v[row], torque))
    return found


def errors(world, stretches: list[Start], horizons: Iterable[int]) -> np.ndarray:
    """Return the mean absolute error [rad] (len(horizons), J) after so many steps."""
    ticks = round(world.spec.control_period_s / world.model.opt.timestep)
    found = np.array([_one(world, start, ticks) for start in stretches])
    return found[:, list(horizons)].mean(axis=0)


def _one(world, start: Start, ticks: int) -> np.ndarray:
    """Return the absolute error (H+1, J) of one replay."""
    data = world.data
    mujoco.mj_resetData(world.model, data)
    data.qpos[:], data.qvel[:] = start.position[0], start.velocity
    reached = [data.qpos.copy()]
    for torque in start.torque:
        data.ctrl[:] = torque
        mujoco.mj_step(world.model, data, nstep=ticks)
        reached.append(data.qpos.copy())
    return np.abs(np.array(reached) - start.position)


def episodes(folder: str, spec: RobotSpec, **options) -> list[Episode]:
    """Return the imported runs of a folder of the shared data."""
    return dfki.read(DATA / folder, spec, **options)


ACROBOT = ("ilqr_tvlqr_lqr", "mcpilco", "system_identification")
PENDULUM = (
    "ddp",
    "direct_collocation",
    "ilqr",
    "gravity_compensation",
    "pd__1nm_torque_limited_swingup_failure",
    "sac",
    "energy_shaping",
)


def change_action(episode: Episode, change) -> Episode:
    """Return `episode` with other torques."""
    return episode._replace(action=change(episode.action).astype(np.float32))


def change_position(episode: Episode, change) -> Episode:
    """Return `episode` with angles and velocities of another convention."""
    observation = {name: change(rows) for name, rows in episode.observation.items()}
    return episode._replace(observation=observation)


def without_shoulder(episode: Episode) -> Episode:
    """Return `episode` as if the motor of the shoulder had been off."""
    return change_action(episode, lambda torque: torque * (0.0, 1.0))


def _acrobot(kind: str) -> None:
    cases = [
        ("full", Variant(), None, "both torques"),
        ("full", FRICTIONLESS, None, "both torques, no friction"),
        ("full", Variant(), without_shoulder, "elbow's torque only"),
        ("acrobot", Variant(), None, "elbow's only, shoulder's friction cancelled"),
    ]
    for argument, variant, change, label in cases:
        spec = double_pendulum.spec(argument)
        runs = episodes(f"dfki_acrobot/{kind}", spec, passive_torque=9.0)
        world = double_pendulum.make(argument, variant)
        _report(f"{kind}: {label}", world, starts(runs, 50, 3, change))


def _pendulum(kind: str) -> None:
    path = f"dfki_pendulum/control_method_{kind}__data_measured.csv"
    runs = episodes(path, pendulum.spec())
    for variant, label in ((Variant(), ""), (FRICTIONLESS, ", no friction")):
        world = pendulum.make("", variant)
        _report(f"{kind}{label}", world, starts(runs, 50, 5))


def _report(label: str, world, found: list[Start]) -> None:
    table = errors(world, found, (5, 10, 25, 50))
    cells = " | ".join(" / ".join(f"{x:.3f}" for x in row) for row in table)
    sys.stdout.write(f"| {label} | {len(found)} | {cells} |\n")


if __name__ == "__main__":
    for folder in ACROBOT:
        _acrobot(folder)
    for run in PENDULUM:
        _pendulum(run)
