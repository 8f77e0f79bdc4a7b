"""The emulated SO-101 as a process: one bundle for twin and arm, kills, power."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from installed import need
from so101_examples import SPEED, Onlooker, swinging_bundle

from robostack import plugins
from robostack.link.client import Client
from robostack.link.errors import LinkError
from robostack.link.stop import request_stop
from robostack.node.embedded import embedded, subprocess_node

pytest.importorskip("scservo_sdk", reason="feetech-servo-sdk is not installed")

from robostack.hardware.so101 import arm
from robostack.hardware.so101.calibration import RADIANS_PER_TICK, nominal
from robostack.runtime.loop import Job, run_episode
from robostack.runtime.session import Session
from robostack.verbs.connection import connected

pytestmark = pytest.mark.alone

ALONE = "hardware:so101/emulated+arm"
TABLE = "hardware:so101/emulated"
BUSY_S = 0.25  # what a busy machine may add
DOOMED = """
import sys, time
from robostack.hardware.so101.calibration import nominal
from robostack.node.guardian import guarded, ward_of
from robostack.node.serve import make
from robostack.spec import float32
address, far = sys.argv[1], [0.8, -0.2, 0.0, 0.6, 0.8, 0.5]
robot = make(address)
robot.connect()
robot.reset()
ward = ward_of(address, robot) if sys.argv[2] == "guarded" else None
with guarded(ward, print):
    goal = nominal().ticks(float32(far))
    robot._servos.send(goal)  # as no node would: far away, at full speed
    robot.read()
    print(robot.facts()["port"], *goal, flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def apart(monkeypatch):
    """Have emulators in a folder where nobody else has any: `newest_port` looks there.

    Not in tmp_path, which may be too long for a socket's name.
    """
    with tempfile.TemporaryDirectory(prefix="rs-") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr(tempfile, "tempdir", None)
        yield
    tempfile.tempdir = None


def tell(capsys, figure):
    """Show a figure to whoever runs the tests."""
    with capsys.disabled():
        sys.stdout.write(f"\n{figure}\n")


def angles(seen):
    return nominal().radians(seen.position)


# one bundle for both


def drive(address, policy, steps):
    """Run `policy` in real time; return joints (T, 6), cube (T, 3) and its outcome."""
    seen = []
    session = Session(policy, "cpu")
    with subprocess_node(address) as node, Client(node.endpoint, timeout_s=5) as client:
        welcome = client.hello(policy.manifest.robot, policy.sha256)

        def act(reading):
            seen.append((reading["joint_position"], reading["cube_position"]))
            return session.act(reading, None)

        outcome = run_episode(client, welcome, act, Job(steps, seed=0))
    joints, cubes = (np.array(column) for column in zip(*seen, strict=True))
    return joints, cubes, outcome


def test_the_spec_at_the_table_is_that_of_the_world():
    need(TABLE)
    pytest.importorskip("mujoco")
    world = plugins.load("sim", "so101_table").spec("")
    ours = plugins.load("hardware", "so101").spec("emulated")
    assert ours == world
    assert ours.digest == world.digest


@pytest.mark.slow
def test_one_bundle_drives_twin_and_emulated_arm_alike(tmp_path, capsys):
    need("sim:so101_table")
    need(TABLE)
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    spec = plugins.load("sim", "so101_table").spec("")
    policy = swinging_bundle(tmp_path / "swing.onnx", spec)
    twin, cubes, outcome = drive("sim:so101_table", policy, 50)
    ours, our_cubes, our_outcome = drive(TABLE, policy, 50)
    settled = 10  # periods, in which the world leaves its noisy start
    apart = np.abs(twin - ours)[settled:]
    period_s, quick = spec.control_period_s, arm.CARE.servo_acceleration
    slow = SPEED * period_s + SPEED**2 / (2 * quick)  # one period, and the profile
    bound = slow + 2 * RADIANS_PER_TICK  # ticks of the goal and of the reading
    tell(
        capsys,
        f"so101 twin and emulated arm: apart by {apart.max() * 1e3:.1f} mrad at "
        f"most, {np.median(apart) * 1e3:.2f} in the median (bound "
        f"{bound * 1e3:.1f}: {SPEED * period_s * 1e3:.1f} of one period at "
        f"{SPEED:.2f} rad/s, {SPEED**2 / (2 * quick) * 1e3:.1f} of the profile, "
        f"{2 * RADIANS_PER_TICK * 1e3:.1f} of two ticks); moved over "
        f"{np.ptp(ours, axis=0).min():.2f} rad or more",
    )
    assert np.ptp(ours, axis=0).min() > 0.2  # the wrist has a margin to its end
    assert apart.max() < bound
    np.testing.assert_allclose(our_cubes[0], cubes[0], atol=1e-3)
    assert outcome.ended.refused == our_outcome.ended.refused == {}


@pytest.mark.slow
@pytest.mark.parametrize("address", ["sim:so101_table", TABLE])
def test_an_operator_pushes_the_cube_home_through_the_servos(address, capsys):
    need(address)
    world = plugins.load("sim", "so101_table")
    task = world.tasks()["push_left"]
    operator = world.operator("push_left", 3, 1.0)
    cubes = []

    def act(reading):
        cubes.append(reading["cube_position"])
        action = operator(reading)
        return reading["joint_position"] if action is None else action

    with subprocess_node(address) as node, Client(node.endpoint, timeout_s=5) as client:
        welcome = client.hello()
        outcome = run_episode(client, welcome, act, Job(task.horizon, task, seed=0))
    moved = np.linalg.norm(cubes[-1] - cubes[0])
    tell(capsys, f"{address}: pushed the cube {moved * 100:.1f} cm")
    assert outcome.success


# killed


@contextlib.contextmanager
def doomed(address, guarded):
    """Run a process that sent far goals; give it, an onlooker, and the goals."""
    command = [sys.executable, "-c", DOOMED, address, guarded]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        port, *goals = process.stdout.readline().split()
        with contextlib.closing(Onlooker(port)) as onlooker:
            yield process, onlooker, np.array(goals, float)
        process.kill()


def test_servos_without_a_guardian_run_on_to_their_goals():
    need(ALONE)
    with doomed(ALONE, "alone") as (process, onlooker, goals):
        time.sleep(0.1)
        process.kill()
        process.wait()
        time.sleep(1.0)
        seen = onlooker.look()
        assert all(seen.torque)
        np.testing.assert_allclose(seen.position, goals, atol=5)


@pytest.mark.parametrize("how", ["hold", "limp"])
def test_a_guardian_acts_for_a_node_that_was_killed(how, capsys):
    need(ALONE)
    address = ALONE if how == "hold" else f"{ALONE}+limp"
    with doomed(address, "guarded") as (process, onlooker, goals):
        time.sleep(0.1)
        before = onlooker.look()
        process.kill()
        killed_s = time.monotonic()
        time.sleep(0.5 if how == "hold" else 1.8)
        seen = onlooker.look()
        acted_s = onlooker.goals(before.written)[0] - killed_s
    tell(capsys, f"so101 {how}: guardian acted {acted_s * 1e3:.1f} ms after SIGKILL")
    assert acted_s < arm.ENDING.orphan_s
    assert any(seen.torque) is (how == "hold")
    if how == "hold":
        gap = (goals - np.array(seen.position)) * RADIANS_PER_TICK
        assert gap[0] > 0.2  # it stopped on the way
        assert np.abs(np.subtract(seen.goal, seen.position)).max() < 30


def test_a_node_killed_in_motion_leaves_servos_that_hold(capsys):
    need(ALONE)
    with subprocess_node(ALONE) as node, Client(node.endpoint, timeout_s=5) as client:
        client.hello()
        reading = client.begin()
        with contextlib.closing(Onlooker(newest_port())) as onlooker:
            target = np.array(reading.arrays["joint_position"].unpack())
            for _ in range(8):
                target = target + np.float32([0.09, 0.05, 0.05, 0.0, 0.09, 0.05])
                client.step(target)
            client.send(client.command(target + np.float32(0.09)))
            time.sleep(0.01)
            node.process.kill()
            killed_s = time.monotonic()
            time.sleep(0.5)
            first = onlooker.look()
            time.sleep(0.5)
            later = onlooker.look()
            acts = [s - killed_s for s in onlooker.goals() if s > killed_s]
    drift = np.abs(np.subtract(later.position, first.position)).max()
    told = [f"{s * 1e3:.1f}" for s in acts]
    tell(
        capsys,
        f"so101 node killed: goals rewritten {told} ms after SIGKILL, then "
        f"{drift:.2f} ticks of motion in 0.5 s",
    )
    assert all(later.torque)
    assert drift < 2
    assert all(s < arm.ENDING.orphan_s for s in acts)


def newest_port():
    """Return the port of this test's emulator that started last."""
    found = Path(tempfile.gettempdir()).glob("robostack-so101-*/tty")
    return str(max(found, key=lambda path: path.lstat().st_mtime))


def test_an_emulator_that_nobody_uses_ends_by_itself(tmp_path):
    command = [sys.executable, "-m", "robostack.hardware.so101.emulator", "--alone"]
    command += ["--linger", "0.3", "--folder", str(tmp_path / "arm")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        port = process.stdout.readline().strip()
        Onlooker(port).close()
        assert process.wait(5) == 0
    assert not (tmp_path / "arm").exists()


# guardian


@pytest.mark.slow
def test_a_node_whose_guardian_died_latches_a_fault_and_gets_another():
    need(ALONE)
    with embedded(ALONE) as node, Client(node.endpoint, timeout_s=5) as client:
        client.hello()
        client.begin()
        guardians = children("robostack.node.guardian")
        assert len(guardians) == 1
        os.kill(guardians[0], signal.SIGKILL)
        with pytest.raises(LinkError, match="guardian process ended"):
            hold_for_ever(client)
        assert node.node.supervisor.machine.state == "fault"
        deadline = time.monotonic() + 10
        while not (new := children("robostack.node.guardian")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert new != guardians


def hold_for_ever(client):
    while True:
        client.step(np.float32(arm.HOME))


def children(module, parent=None):
    """Return ids of the children of a process, or of this one, that run `module`."""
    ours = os.getpid() if parent is None else parent
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().split(b"\0")
            above = (path.parent / "stat").read_text().rpartition(")")[2].split()[1]
            if module.encode() in words and int(above) == ours:
                found.append(int(path.parent.name))
    return found


# stopped with a full queue, and power


def fill(client, action):
    """Send commands until the node's queue takes no more; return how many."""
    for queued in range(2000):
        try:
            client.send(client.command(action))
        except LinkError:
            return queued
    return 2000


def test_no_old_command_is_executed_after_a_stop_with_a_full_queue_and_power_back():
    need(ALONE)
    with embedded(ALONE) as node, Client(node.endpoint, timeout_s=5) as client:
        client.hello()
        client.begin()
        away = np.float32(arm.HOME) + np.float32([0.04] * 6)
        with contextlib.closing(Onlooker(newest_port())) as onlooker:
            stale = client.command(away)
            assert fill(client, away) > 100
            assert request_stop(node.endpoint, who="test").state == "estop"
            stopped_s = time.monotonic()
            onlooker.spoil(power=False, replays=True)
            time.sleep(0.2)
            back = onlooker.spoil(power=True)
            time.sleep(0.5)
            assert [s for s in onlooker.goals() if s > stopped_s] == []
            assert not any(onlooker.look().torque)
            supervisor = node.node.supervisor
            if not supervisor.clear("looked at it"):  # and learned of the power cut
                assert "its power was cut" in supervisor.machine.cause
                assert supervisor.clear("looked at the power, too")
            send_stale(client, stale)
            seen = onlooker.look()
            assert seen.written == back.written
            assert not any(seen.torque)
            client.begin()
            send_stale(client, stale)
            home = nominal().ticks(np.float32(arm.HOME))
            assert np.abs(onlooker.look().goal - home).max() < 20


def send_stale(client, stale):
    """Send commands of an episode that is over, and give the node time for them."""
    for _ in range(20):
        with contextlib.suppress(LinkError):
            client.send(stale)
    time.sleep(0.2)


# the end


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_serve_ends_arm_guardian_and_emulator_with_it(how, tmp_path):
    need(ALONE)
    where = f"ipc://{tmp_path}/node"
    command = [sys.executable, "-m", "robostack.cli", "serve", ALONE, "--bind", where]
    with (
        subprocess.Popen(command, stdout=subprocess.DEVNULL) as node,
        connected(where, None, 30.0) as client,
    ):
        client.hello()
        client.begin()
        folder = Path(newest_port()).parent
        below = [
            *children("robostack.node.guardian", node.pid),
            *children("robostack.hardware.so101.emulator", node.pid),
        ]
        node.send_signal(how)
        assert node.wait(15) == 0
    assert len(below) == 2
    assert not folder.exists()
    assert not any(Path(f"/proc/{pid}").exists() for pid in below)


@pytest.mark.slow
@pytest.mark.parametrize("latched", [False, True])
def test_a_healthy_arm_goes_home_before_it_goes_limp_and_a_stopped_one_does_not(
    latched,
):
    need(ALONE)
    with embedded(ALONE) as node, Client(node.endpoint, timeout_s=5) as client:
        client.hello()
        reading = client.begin()
        onlooker = Onlooker(newest_port())
        target = np.array(reading.arrays["joint_position"].unpack())
        for _ in range(6):
            target[4] += np.float32(0.09)
            client.step(target)
        if latched:
            request_stop(node.endpoint, who="test")
        else:
            client.end(terminated=False, reason="enough")
        time.sleep(0.3)
        begin = onlooker.look()
        roll = angles(begin)[4]
        assert roll > 0.2
        robot = node.node.pilot._robot
        lowered = []
        letting_go = robot._open.close
        robot._open.close = lambda: (lowered.append(onlooker.look()), letting_go())
    assert not any(lowered[0].torque)
    end = angles(lowered[0])[4]
    assert end == pytest.approx(roll if latched else 0.0, abs=0.1)
    onlooker.close()
