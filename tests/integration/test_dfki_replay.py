"""Measured torques of the real rigs, replayed in our worlds from logged states."""

from __future__ import annotations

import numpy as np
import pytest
from replay_errors import (
    FRICTIONLESS,
    change_action,
    change_position,
    episodes,
    errors,
    starts,
    without_shoulder,
)

from robostack.sim import double_pendulum, pendulum

TENTH, FIFTH, SECOND = 5, 10, 50  # [control periods of 20 ms]

CONTROLLERS = ("ilqr_tvlqr_lqr", "mcpilco")
BOUND = {  # [rad] of shoulder and elbow after 0.2 s, a tenth above what was measured
    "ilqr_tvlqr_lqr": (0.032, 0.054),
    "mcpilco": (0.13, 0.215),
    "system_identification": (0.031, 0.053),
}


@pytest.fixture(scope="module")
def runs(shared_data):
    """Return all runs with both torques, by folder."""
    spec = double_pendulum.spec("full")
    return {kind: episodes(f"dfki_acrobot/{kind}", spec) for kind in BOUND}


def error(runs, kind, *, change=None, variant=None, at=FIFTH, argument="full"):
    """Return the mean error [rad] of shoulder and elbow; every 0.2 s of each run."""
    world = double_pendulum.make(argument, *([variant] if variant else []))
    return errors(world, starts(runs[kind], at, 10, change), [at])[0]


@pytest.mark.parametrize("kind", BOUND)
def test_a_fifth_of_a_second_of_the_real_rig_is_reproduced(runs, kind):
    assert (error(runs, kind) < BOUND[kind]).all()


@pytest.mark.parametrize("kind", BOUND)
def test_without_friction_the_error_is_clearly_larger(runs, kind):
    nominal, without = error(runs, kind), error(runs, kind, variant=FRICTIONLESS)
    assert (without > 1.4 * nominal).all()


def test_after_a_second_the_double_pendulum_has_diverged(runs):
    late = error(runs, "mcpilco", at=SECOND)
    assert (late > 5 * error(runs, "mcpilco")).all()


WRONG = {
    "torques in percent": lambda e: change_action(e, lambda u: u / 100),
    "no torque": lambda e: change_action(e, lambda u: u * 0),
    "torques the other way": lambda e: change_action(e, lambda u: -u),
    "torques of the motors, before the gear of 6": lambda e: change_action(
        e, lambda u: u / 6
    ),
    "torques of the joints swapped": lambda e: change_action(e, lambda u: u[:, ::-1]),
    "joints swapped": lambda e: change_position(e, lambda q: q[:, ::-1].copy()),
    "elbow relative to the world": lambda e: change_position(
        e, lambda q: np.cumsum(q, axis=1)
    ),
    "0 is upright": lambda e: e._replace(
        observation={
            "joint_position": e.observation["joint_position"] + np.float32([np.pi, 0]),
            "joint_velocity": e.observation["joint_velocity"],
        }
    ),
    "elbow the other way": lambda e: change_position(e, lambda q: q * [1, -1]),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("kind", BOUND)
def test_a_wrong_convention_does_not_pass(runs, kind, wrong):
    assert (error(runs, kind, change=WRONG[wrong]) > BOUND[kind]).any()


def test_the_acrobot_cancels_the_friction_of_its_shoulder_as_the_rig_did(runs):
    uncompensated = error(runs, "ilqr_tvlqr_lqr", change=without_shoulder)
    spec = double_pendulum.spec("acrobot")
    ours = {"ilqr_tvlqr_lqr": episodes("dfki_acrobot/ilqr_tvlqr_lqr", spec)}
    cancelled = error(ours, "ilqr_tvlqr_lqr", argument="acrobot")
    assert (cancelled < (0.04, 0.065)).all()
    assert (uncompensated > 2 * cancelled).all()


@pytest.mark.parametrize("kind", CONTROLLERS)
def test_every_real_swing_up_ends_in_success_and_none_begins_there(shared_data, kind):
    task = double_pendulum.tasks()["swing_up"]
    logged = episodes(f"dfki_acrobot/{kind}", double_pendulum.spec())
    assert len(logged) == 10
    for episode in logged:
        columns = {**episode.observation, "action": episode.action}
        success, reward = task.success(columns), task.reward(columns)
        assert success[-50:].all()
        assert not success[:50].any()
        assert reward[-50:].mean() > 0.95
        assert reward[:10].mean() < 0.2


PENDULUM_BOUND = {"ddp": 0.013, "direct_collocation": 0.0135}  # [rad] after 0.2 s


def pendulum_error(kind, *, change=None, variant=None, at=FIFTH):
    """Return the mean error [rad] of the arm; every 0.1 s of the run."""
    path = f"dfki_pendulum/control_method_{kind}__data_measured.csv"
    world = pendulum.make("", *([variant] if variant else []))
    logged = episodes(path, pendulum.spec())
    return errors(world, starts(logged, at, 5, change), [at])[0, 0]


@pytest.mark.parametrize("kind", PENDULUM_BOUND)
def test_a_fifth_of_a_second_of_the_real_pendulum_is_reproduced(shared_data, kind):
    assert pendulum_error(kind) < PENDULUM_BOUND[kind]


@pytest.mark.parametrize("kind", PENDULUM_BOUND)
def test_half_a_second_without_friction_is_clearly_worse(shared_data, kind):
    nominal = pendulum_error(kind, at=25)
    assert pendulum_error(kind, variant=FRICTIONLESS, at=25) > 1.5 * nominal


@pytest.mark.parametrize(
    "wrong", ["no torque", "torques the other way", "0 is upright"]
)
@pytest.mark.parametrize("kind", PENDULUM_BOUND)
def test_a_wrong_convention_of_the_pendulum_does_not_pass(shared_data, kind, wrong):
    def upright(e):
        position, velocity = e.observation.values()
        observation = {
            "joint_position": position + np.float32(np.pi),
            "joint_velocity": velocity,
        }
        return e._replace(observation=observation)

    change = upright if wrong == "0 is upright" else WRONG[wrong]
    assert pendulum_error(kind, change=change) > 3 * PENDULUM_BOUND[kind]
