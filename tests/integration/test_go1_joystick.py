"""A third-party policy walks through bundle, runtime, link and node; wrong ones stop.

Its action scale is 0.5. With another the graph still answers within bounds, since the
bundle clips. What gives it away is a first command far from where the dog stands, that
it throws the joints back and forth, or at last that the trunk tilts.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import pytest
from installed import need

from robostack import cli
from robostack.attach import attach
from robostack.clock import MonotonicClock
from robostack.link.client import Client, arrays
from robostack.link.errors import LeftError
from robostack.node.embedded import embedded, subprocess_node
from robostack.node.serve import Options
from robostack.runtime.loop import Job, run_episode
from robostack.runtime.session import Session
from robostack.sim import go1
from robostack.sim.go1 import walk

ROOT = Path(__file__).resolve().parents[2]
CONTRACT = ROOT / "sim" / "go1" / "joystick.toml"
TASK = walk.TASK


@pytest.fixture(scope="module")
def policy(shared_data):
    """Return the path of the policy, or skip."""
    need("sim:go1")
    return shared_data / "go1_joystick_onnx" / "go1_policy.onnx"


@pytest.fixture
def bundle_of(policy, tmp_path):
    """Return how to attach the policy with an action scale of one's choice."""

    def make(scale=0.5):
        contract, path = tmp_path / "c.toml", tmp_path / "go1.onnx"
        text = CONTRACT.read_text()
        assert "action_scale = 0.5" in text
        contract.write_text(text.replace("scale = 0.5", f"scale = {scale}"))
        return attach(policy, contract, path).bundle

    return make


class Drive(NamedTuple):
    """What became of an episode, as a referee saw it."""

    positions: np.ndarray  # (T + 1, 3) of the trunk [m]
    upright: bool  # at the last reading: not yet fallen
    stopped: str  # the state and why the node left ACTIVE, or ""
    clamps: int
    later: bool  # it stands 2 s after


OWN = go1.limits()
OPEN = msgspec.structs.replace(OWN, gate=())  # lets one begin anywhere


def drive(bundle, seed, steps=500, limits=OWN):
    """Run `bundle` in lockstep over a link; return what happened."""
    session, world = Session(bundle, "cpu"), go1.make()
    options = Options(lockstep=True, limits=limits)
    positions, stopped, clamps, standing = [], "", 0, True
    with embedded(world, options=options) as node, Client(node.endpoint) as client:
        welcome = client.hello(bundle.manifest.robot, bundle.sha256)
        assert welcome.lockstep
        reading = client.begin(seed, {"task": "walk"})
        try:
            for step in range(steps + 1):
                seen = arrays(reading.arrays)
                positions.append(arrays(reading.truth)["base_position"])
                standing = stands(world)
                if step == steps or not standing:
                    break
                client.send(client.command(session.act(seen)))
                reading = client.receive(5.0)
                clamps += reading.clamped
        except LeftError as left:
            stopped = str(left)
        world.sleep_until(world.now() + 2.0)
        later = stands(world)
    return Drive(np.array(positions), standing, stopped, clamps, later)


def stands(world):
    """Return whether the dog is on its legs."""
    gravity, position = world.read()["gravity"], world.truth()["base_position"]
    columns = {"gravity": gravity[None], "truth.base_position": position[None]}
    return bool(walk.standing(columns)[0])


def test_the_policy_walks_nine_metres_in_ten_seconds(bundle_of):
    done = drive(bundle_of(), seed=0)
    assert done.stopped == ""
    assert len(done.positions) == 501
    assert done.positions[-1, 0] - done.positions[0, 0] >= 9.0
    assert done.upright
    assert done.clamps < 75  # of 500: the limit is a limit, and not in its way


def test_the_runtime_succeeds_at_the_task(bundle_of):
    bundle = bundle_of()
    session = Session(bundle, "cpu")
    with embedded("sim:go1", lockstep=True) as node, Client(node.endpoint) as client:
        welcome = client.hello(bundle.manifest.robot, bundle.sha256)
        job = Job(max_steps=TASK.horizon, task=TASK, seed=1)
        outcome = run_episode(client, welcome, session.act, job)
    assert outcome.success
    assert not outcome.terminated
    assert outcome.returns > 0.9 * 15


@pytest.mark.parametrize("scale", [1.0, 2.0, -5.0])
def test_a_large_wrong_scale_is_stopped_before_anything_moves(bundle_of, scale):
    bundle = bundle_of(scale)
    for seed in range(2):
        done = drive(bundle, seed)
        assert "the first command is far from the robot" in done.stopped
        assert len(done.positions) == 1
        assert done.later


@pytest.mark.parametrize("scale", [-0.5, -1.0])
def test_a_well_sized_wrong_scale_is_stopped_by_its_posture(bundle_of, scale):
    bundle = bundle_of(scale)
    for seed in range(3):
        done = drive(bundle, seed)
        assert "fault: gravity is" in done.stopped
        assert done.upright
        assert len(done.positions) < 25  # half a second


@pytest.mark.parametrize("scale", [2.0, pytest.param(3.0, marks=pytest.mark.slow), 5.0])
def test_who_throws_it_about_is_stopped_by_the_node_not_by_the_floor(bundle_of, scale):
    bundle = bundle_of(scale)
    drives = [drive(bundle, seed, limits=OPEN) for seed in range(6)]
    for done in drives:
        assert "fault" in done.stopped
        assert "back and forth beyond the largest step" in done.stopped
        assert done.upright
        assert len(done.positions) < 25  # half a second
    assert sum(done.later for done in drives) >= 2


def test_the_command_line_attaches_it_and_the_contract_is_shipped(policy, tmp_path):
    words = ["bundle", "attach", policy, CONTRACT, tmp_path / "go1.onnx"]
    assert cli.main([str(word) for word in words]) == 0
    words = ["bundle", "verify", tmp_path / "go1.onnx", "--robot", "sim:go1"]
    assert cli.main([str(word) for word in words]) == 0


@pytest.mark.slow
@pytest.mark.alone
def test_it_walks_in_real_time_against_a_node_in_a_process_of_its_own(bundle_of):
    bundle = bundle_of()
    session = Session(bundle, "cpu")
    with subprocess_node("sim:go1") as node, Client(node.endpoint) as client:
        assert not client.hello(bundle.manifest.robot, bundle.sha256).lockstep
        for seed in range(3):  # a busy computer may let the watchdog end one
            session.reset()
            with contextlib.suppress(LeftError):
                way_m, took_s = walk_10_s(client, session, seed)
                break
    assert way_m >= 9.0
    assert took_s == pytest.approx(10.0, abs=0.2)


def walk_10_s(client, session, seed):
    """Return how far [m] 500 periods took it, and how long [s] they were for us."""
    clock = MonotonicClock()
    first = reading = client.begin(seed, {})
    start = clock.now()
    while reading.seq < 500:
        client.send(client.command(session.act(arrays(reading.arrays))))
        reading = client.receive(1.0)
    took_s = clock.now() - start
    client.end()
    before, after = (arrays(r.truth)["base_position"] for r in (first, reading))
    return after[0] - before[0], took_s
