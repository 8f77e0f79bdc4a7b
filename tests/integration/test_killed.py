"""SIGKILL the client, the runtime or the recorder: the node holds, and nothing is lost.

The processes are the real ones, started by the command line. Node and test read the
same monotonic clock of one computer, so the node's stamps tell when it held.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import zmq
from conftest import linear_graph, linear_manifest

from robostack import bundle, plugins
from robostack.data import formats
from robostack.data.repair import repair
from robostack.link import endpoints
from robostack.messages import Closed, Event, Opened, Step, decode_watch

pytestmark = pytest.mark.alone

SPEC = plugins.load("hardware", "fake").spec("")
SLACK_S = 0.15  # of a busy computer, beyond the node's own promise
CLI = [sys.executable, "-m", "robostack.cli"]
TELEOPERATOR = """
import sys
from robostack.link.client import Client
with Client(sys.argv[1]) as client:
    client.hello()
    reading = client.begin()
    while True:
        reading = client.step(reading.applied.unpack())
"""


class Watcher:
    """Hears all that the node tells."""

    def __init__(self, endpoint):
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.SUBSCRIBE, b"")
        self._socket.connect(endpoints.parse(endpoint).watch)

    def wait_for(self, kind, timeout_s=20.0):
        """Return all messages up to the first of `kind`."""
        heard, deadline = [], time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self._socket.poll(100):
                heard.append(decode_watch(self._socket.recv()))
                if isinstance(heard[-1], kind):
                    return heard
        names = {type(message).__name__ for message in heard}
        raise AssertionError(f"heard no {kind.__name__} in {timeout_s} s, only {names}")

    def close(self):
        self._context.destroy(linger=0)


@pytest.fixture
def policy_path(tmp_path):
    path = tmp_path / "policy.onnx"
    bundle.write(path, linear_graph(SPEC), linear_manifest(SPEC))
    return path


@contextlib.contextmanager
def running(*words):
    process = subprocess.Popen(
        [*words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def endpoint(tmp_path):
    """Serve the fake robot in real time from a process of its own."""
    where = f"ipc://{tmp_path}/node"
    with running(*CLI, "serve", "hardware:fake", "--bind", where) as node:
        yield where
        assert node.poll() is None, "the node died"


@pytest.fixture
def watcher(endpoint):
    watcher = Watcher(endpoint)
    watcher.wait_for(Event)  # an idle node says now and then that it is there
    yield watcher
    watcher.close()


def children(process):
    folder = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(pid) for pid in folder.read_text().split()]


def seconds_to_hold(watcher, killed_s):
    """Return when the node closed the episode, after the kill and the last command."""
    heard = watcher.wait_for(Closed)
    commanded = [m.stamp_s for m in heard if isinstance(m, Step) and m.requested]
    closed = heard[-1]
    assert not closed.terminated
    return closed.stamp_s - max([killed_s, *commanded])


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))]
)
def test_a_killed_client_is_held_within_the_watchdogs_time(endpoint, watcher, seed):
    with running(sys.executable, "-c", TELEOPERATOR, endpoint) as client:
        watcher.wait_for(Opened)
        watcher.wait_for(Step)
        time.sleep(random.Random(seed).uniform(0.0, 0.3))
        client.send_signal(signal.SIGKILL)
        held_s = seconds_to_hold(watcher, time.monotonic())
    assert held_s <= SPEC.command_timeout_s + SPEC.control_period_s + SLACK_S


@pytest.mark.parametrize("victim", ["runtime", "recorder"])
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_killed_run_is_held_and_keeps_every_finished_episode(
    endpoint, watcher, policy_path, tmp_path, victim, seed
):
    recordings = tmp_path / "recordings"
    words = ["run", str(policy_path), "--robot", endpoint, "--wait", "20"]
    words += ["--record", str(recordings), "--episodes", "1000", "--steps", "10"]
    with running(*CLI, *words) as run:
        for _ in range(2):
            watcher.wait_for(Closed)
        watcher.wait_for(Opened)
        time.sleep(random.Random(seed).uniform(0.0, 0.2))
        finished = list(recordings.glob("*.mcap"))
        target = run.pid if victim == "runtime" else children(run)[0]
        os.kill(target, signal.SIGKILL)
        killed_s = time.monotonic()
        held_s = seconds_to_hold(watcher, killed_s)
        assert held_s <= SPEC.command_timeout_s + SPEC.control_period_s + SLACK_S
        if victim == "recorder":  # nothing moves while nothing is recorded
            output, _ = run.communicate(timeout=10)
            assert run.returncode == 1
            assert "the recorder died" in " ".join(output.split())
    time.sleep(0.5)  # a recorder whose parent died closes its file
    repair(recordings)
    episodes = list(formats.read("recording", recordings, SPEC, {}))
    whole = [e for e in episodes if "incomplete" not in e.labels]
    assert len(finished) >= 1
    assert len(whole) >= len(finished)
