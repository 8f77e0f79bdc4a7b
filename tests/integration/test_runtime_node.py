"""The runtime against real nodes: lockstep and real time, late policies, operators."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import msgspec
import numpy as np
import pytest
from author_bench import Scripted, SlowSolver, linear_bundle, reading
from robot_examples import LockstepFake

from robostack.data import recording
from robostack.data.dataset import open_dataset
from robostack.data.ingest import Source, ingest
from robostack.hardware.fake.driver import FakeRobot
from robostack.hardware.fake.joints import SPEC
from robostack.link.client import Client
from robostack.link.errors import RefusedError
from robostack.messages import Ended, Welcome
from robostack.node.embedded import embedded
from robostack.node.recorder_process import RecorderProcess
from robostack.runtime.author import Planner, pace
from robostack.runtime.loop import Job, attempt, run_episode
from robostack.runtime.operator import Operated, Shared
from robostack.runtime.permute import greet
from robostack.runtime.policy import planner
from robostack.runtime.session import Session
from robostack.runtime.solver import Inline, Worker
from robostack.spec import float32

pytestmark = pytest.mark.alone

WAIT_S = 30.0


class Steps:
    """A policy by hand: row i of each chunk is the reading's position plus i * d."""

    remembers = False

    def __init__(self, length=1, d=0.0) -> None:
        self.inferences = 0
        self.gate = threading.Event()
        self.gate.set()
        self._length, self._d = length, d

    def reset(self):
        pass

    def observe(self, arrays):
        pass

    def infer(self, arrays):
        self.inferences += 1
        assert self.gate.wait(WAIT_S)
        rows = self._d * np.arange(1, self._length + 1)[:, None]
        return float32(arrays["joint_position"] + rows)


@pytest.fixture
def lockstep():
    with (
        embedded(LockstepFake(), lockstep=True) as node,
        Client(node.endpoint) as client,
    ):
        yield client


@pytest.fixture
def real_time():
    with embedded(FakeRobot()) as node, Client(node.endpoint) as client:
        yield node, client


class Kept:
    """Keeps the readings that an author was asked about."""

    def __init__(self, author) -> None:
        self._author = author
        self.readings = []

    def __getattr__(self, name):
        return getattr(self._author, name)

    def answer(self, reading):
        self.readings.append((reading.arrays, reading.applied))
        return self._author.answer(reading)


def test_in_lockstep_a_planner_moves_a_robot_bit_for_bit_as_plain_calls(
    lockstep, tmp_path
):
    policy = linear_bundle(SPEC, tmp_path / "p.onnx")
    session = Session(policy, "cpu")
    welcome, _ = greet(lockstep, policy)
    plain, job = [], Job(50, seed=1)
    session.reset()

    def act(arrays):
        plain.append({k: a.copy() for k, a in arrays.items()})
        return session.act(arrays)

    run_episode(lockstep, welcome, act, job)
    with planner(session, welcome) as author:
        kept = Kept(author)
        run_episode(lockstep, welcome, kept, job)
    assert len(kept.readings) == len(plain) == 50
    for (tensors, _), arrays in zip(kept.readings, plain, strict=True):
        assert all((tensors[k].unpack() == a).all() for k, a in arrays.items())


def test_in_lockstep_each_chunk_is_used_up_before_the_next(lockstep):
    brain, welcome = Steps(8, 0.001), lockstep.hello()
    how = pace(8, 0.02, lockstep=True, execute=5)
    outcome = run_episode(lockstep, welcome, Planner(Inline(brain), how), Job(23))
    assert brain.inferences == 5
    assert outcome.counts.starved == 0
    assert outcome.ended.steps == 23


def test_a_policy_that_is_too_late_lets_the_node_hold_and_the_next_episode_runs(
    real_time,
):
    _, client = real_time
    brain, welcome = Steps(), client.hello()
    brain.gate.clear()
    with Worker(brain) as worker:
        author = Planner(worker, pace(1, 0.02, lockstep=False, deadline_s=0.001))
        outcome = attempt(client, welcome, author, Job(500))
        assert "no fresh command" in outcome.held
        assert outcome.counts.starved >= 1
        assert outcome.steps < 500
        brain.gate.set()
        author = Planner(worker, pace(1, 0.02, lockstep=False, deadline_s=0.05))
        again = attempt(client, welcome, author, Job(5))
        assert again.ended.steps >= 1


def test_a_chunk_bridges_an_inference_that_takes_several_periods(real_time):
    _, client = real_time
    welcome = client.hello()

    class Slow(Steps):
        def infer(self, arrays):
            time.sleep(0.05)
            return super().infer(arrays)

    brain = Slow(20, 0.001)
    with Worker(brain) as worker:
        author = Planner(worker, pace(20, 0.02, lockstep=False))
        outcome = attempt(client, welcome, author, Job(50))
    assert brain.inferences >= 2
    assert outcome.counts.waited >= 1  # held at home until the first chunk
    assert outcome.held or outcome.counts.starved == 0


def test_ctrl_c_ends_the_episode_at_the_node_and_leaves_the_lease_usable(real_time):
    node, client = real_time
    welcome = client.hello()

    def interrupted(arrays):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_episode(client, welcome, interrupted, Job(10))
    assert node.node.supervisor.machine.state == "hold"
    assert node.node.supervisor.machine.cause == "stopped by the operator"
    client.begin()


def test_an_intervention_reaches_the_dataset_flag_by_flag(tmp_path):
    recordings, goal = tmp_path / "recordings", float32([0.3, -0.2])
    recordings.mkdir()
    with (
        embedded(LockstepFake(), lockstep=True) as node,
        Client(node.endpoint) as client,
        RecorderProcess(node.endpoint, recordings) as recorder,
    ):
        recorder.wait_ready(WAIT_S)
        welcome = client.hello()
        policy = Planner(Inline(Steps()), pace(1, 0.02, lockstep=True))
        person = Scripted(lambda i: goal, range(10, 40))
        shared = Shared(policy, person, welcome.robot)
        outcome = run_episode(client, welcome, shared, Job(60, seed=0))
        assert outcome.interventions == 30
    dataset = ingest(Source(recordings), tmp_path / "d").dataset
    (episode,) = open_dataset(dataset.path)
    assert episode.conduct.intervention.tolist() == [10 <= i < 40 for i in range(60)]
    assert not episode.conduct.clamped.any()
    assert np.isfinite(episode.conduct.age_s).all()
    steps = np.abs(np.diff(episode.action[8:40], axis=0)).max()
    assert 0 < steps <= 0.3 / 15 + 1e-6


def test_a_clamp_reaches_the_dataset_by_joint(tmp_path):
    recordings = tmp_path / "recordings"
    recordings.mkdir()
    with (
        embedded(LockstepFake(), lockstep=True) as node,
        Client(node.endpoint) as client,
        RecorderProcess(node.endpoint, recordings) as recorder,
    ):
        recorder.wait_ready(WAIT_S)
        run_episode(client, client.hello(), lambda a: float32([0, 0.5]), Job(5))
    (file,) = recordings.glob("*.mcap")
    conduct = recording.load(file).episode.conduct
    assert conduct.clamped[:, 1].all()
    assert not conduct.clamped[:, 0].any()
    assert not conduct.intervention.any()


def test_an_operator_alone_moves_a_robot_in_real_time(real_time):
    _, client = real_time
    welcome = client.hello()
    author = Operated(Scripted(lambda i: [0.2, 0.0]), welcome.robot)
    outcome = attempt(client, welcome, author, Job(20))
    assert outcome.interventions >= 1


def test_the_handshake_of_a_policy_is_recorded(tmp_path):
    recordings = tmp_path / "recordings"
    recordings.mkdir()
    with (
        embedded(LockstepFake(), lockstep=True) as node,
        Client(node.endpoint) as client,
        RecorderProcess(node.endpoint, recordings) as recorder,
    ):
        recorder.wait_ready(WAIT_S)
        welcome = client.hello(SPEC, "abc", chunk=8, history=2)
        run_episode(client, welcome, lambda a: float32([0, 0]), Job(2))
    (file,) = recordings.glob("*.mcap")
    labels = recording.load(file).episode.labels
    assert (labels["chunk"], labels["history"]) == ("8", "2")


def record_at_a_terminal(folder):
    """Move joint 2 by four keys, then press Ctrl-C; return exit code and output."""
    person, terminal = os.openpty()
    command = [sys.executable, "-m", "robostack.cli", "record", "hardware:fake"]
    command += ["--with", "keyboard", "--record", str(folder)]
    with subprocess.Popen(
        command,
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline and not list(folder.glob("*.partial")):
            time.sleep(0.05)
        os.write(person, b"2++++")
        time.sleep(1.5)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
        output = process.communicate(timeout=WAIT_S)[0].decode()
    os.close(person)
    os.close(terminal)
    return process.returncode, output


def test_record_at_a_terminal_and_ctrl_c_leave_a_whole_recording(tmp_path):
    for i in range(3):  # on a busy computer the node may hold before we are done
        folder = tmp_path / str(i)
        folder.mkdir()
        code, output = record_at_a_terminal(folder)
        if code != 1:
            break
    assert code == 130, output
    (file,) = folder.glob("*.mcap")
    episode = recording.load(file).episode
    assert "incomplete" not in episode.labels
    assert episode.labels["reason"] == "stopped by the operator"
    assert episode.conduct.intervention.mean() > 0.5
    assert episode.action[-1, 1] == pytest.approx(0.2)
    assert episode.action[-1, 0] == 0


def test_a_second_hello_with_a_renamed_joint_is_refused_with_both_names(
    lockstep, robot, tmp_path
):
    with pytest.raises(RefusedError, match="hip"):
        greet(lockstep, linear_bundle(robot, tmp_path / "p.onnx"))


def test_readings_that_a_client_skips_are_kept_for_policies_that_remember(lockstep):
    lockstep.hello()
    first = lockstep.begin(seed=0)
    for seq in range(3):  # answered in advance: three readings come at once
        answered = msgspec.structs.replace(first, seq=seq)
        lockstep.send(lockstep.command(float32([0, 0]), reading=answered))
    time.sleep(0.2)
    found = []
    while not found or found[-1] < 3:
        newest = lockstep.receive(WAIT_S)
        found += [*(r.seq for r in lockstep.passed), newest.seq]
    assert found == [1, 2, 3]


class Skipping:
    """A client that always gets two readings at once, and returns the newer."""

    generation = 1

    def __init__(self) -> None:
        self.passed = []
        self.seq = 0

    def begin(self, seed, labels):
        return reading(0)

    def command(self, action, **fields):
        pass

    def send(self, command):
        pass

    def receive(self, timeout_s):
        self.seq += 2
        self.passed = [reading(self.seq - 1)]
        return reading(self.seq)

    def end(self, **fields):
        return Ended(2, 0, 0, 0, {})


def test_an_author_sees_the_readings_that_were_skipped_in_their_order():
    welcome = Welcome("s", SPEC, "d", True, "test:x", "hold")
    solver = SlowSolver()
    author = Planner(solver, pace(1, 0.02, lockstep=True))
    outcome = run_episode(Skipping(), welcome, author, Job(3))
    assert solver.shown == [0, 1, 2, 3, 4, 5]
    assert solver.wanted == [0, 2, 4]
    assert outcome.counts.starved == 3
