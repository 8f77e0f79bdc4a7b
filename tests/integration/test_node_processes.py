"""Nodes and clients as processes: killed, interrupted, restarted, stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import zmq

from robostack.link.client import Client
from robostack.link.errors import LeftError, LinkError, RefusedError
from robostack.link.stop import request_stop
from robostack.messages import Closed, Event, Opened, Step, decode_watch
from robostack.node.embedded import subprocess_node

pytestmark = pytest.mark.alone

SLACK_S = 0.05  # what a busy machine may add
CLIENT = """
import sys, numpy as np
from robostack.link.client import Client
client = Client(sys.argv[1], name="doomed")
client.hello()
client.begin()
print("moving", flush=True)
while True:
    client.step(np.float32([0.02, 0.0]))
"""


class Watcher:
    """Reads the watch channel."""

    def __init__(self, endpoint):
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.subscribe(b"")
        self._socket.connect(f"{endpoint}.watch")
        self.messages = []

    def until(self, kind, seconds=10.0):
        """Return the next message of `kind`, keeping all that come before it."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self._socket.poll(50):
                message = decode_watch(self._socket.recv())
                self.messages.append(message)
                if isinstance(message, kind):
                    return message
        raise AssertionError(f"no {kind.__name__} within {seconds} s")

    def close(self):
        self._context.destroy(linger=0)


@pytest.fixture
def endpoint(tmp_path):
    return f"ipc://{tmp_path}/node"


@pytest.fixture
def watcher(endpoint):
    watcher = Watcher(endpoint)
    yield watcher
    watcher.close()


@pytest.fixture
def node(endpoint, watcher):
    with subprocess_node("hardware:fake", bind=endpoint) as node:
        watcher.until(Event)  # it sees us
        yield node


@pytest.fixture
def doomed(node):
    command = [sys.executable, "-c", CLIENT, node.endpoint]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"moving\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def last_command_s(watcher):
    """Return when, by the node's clock, it last applied a command."""
    steps = [m for m in watcher.messages if isinstance(m, Step) and m.requested]
    return steps[-1].stamp_s + steps[-1].age_s


def hold_for_ever(client):
    while True:
        client.step(np.zeros(2, np.float32))


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGSTOP])
def test_the_node_holds_within_the_time_out_of_a_client_that_died(
    node, watcher, doomed, kill
):
    watcher.until(Opened)
    for _ in range(10):
        watcher.until(Step)
    doomed.send_signal(kill)
    closed = watcher.until(Closed)
    held_after_s = closed.stamp_s - last_command_s(watcher)
    assert 0.1 <= held_after_s <= 0.1 + 0.02 + SLACK_S
    assert not closed.terminated
    assert closed.reason == "no fresh command for 0.1 s"


def test_the_next_client_gets_the_lease_of_one_that_was_killed(node, watcher, doomed):
    with Client(node.endpoint, timeout_s=2.0) as client:
        with pytest.raises(RefusedError, match="'doomed' holds the lease"):
            client.hello()
        doomed.kill()
        doomed.wait()
        watcher.until(Closed)
        client.hello()
        client.begin()
        assert client.step(np.zeros(2, np.float32)).seq >= 1


def test_stop_gets_through_while_a_client_commands(node, watcher, doomed):
    watcher.until(Opened)
    for _ in range(5):
        watcher.until(Step)
    stopped = request_stop(node.endpoint, who="passer-by")
    assert stopped.state == "estop"
    closed = watcher.until(Closed)
    assert closed.reason == "stopped by 'passer-by'"
    assert doomed.wait(10) == 1  # it was told
    with Client(node.endpoint) as client:
        assert client.hello().state == "estop"
        with pytest.raises(RefusedError, match="estop: stopped by 'passer-by'"):
            client.begin()


def test_stop_gets_through_a_flood_of_commands(node, watcher):
    with Client(node.endpoint) as client:
        client.hello()
        client.begin()
        command = client.command(np.float32([0.01, 0.0]))
        start = time.monotonic()
        while time.monotonic() - start < 0.5:
            with contextlib.suppress(LinkError):  # it takes them more slowly
                client.send(command)
        assert request_stop(node.endpoint, who="me").state == "estop"
        assert watcher.until(Closed).refused["replayed"] > 10


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_node_that_is_told_to_end_closes_the_episode_and_says_so(node, watcher, how):
    with Client(node.endpoint, timeout_s=2.0) as client:
        client.hello()
        client.begin()
        node.process.send_signal(how)
        with pytest.raises(LeftError, match="disabled: the node was shut down"):
            hold_for_ever(client)
    closed = watcher.until(Closed)
    assert closed.reason == "the node was shut down"
    assert node.process.wait(10) == 0


def test_a_node_that_was_killed_is_missed_by_the_deadline(node):
    with Client(node.endpoint, timeout_s=0.3) as client:
        client.hello()
        client.begin()
        node.process.kill()
        start = time.monotonic()
        with pytest.raises(LinkError, match=r"went away|nobody listens"):
            hold_for_ever(client)
        assert time.monotonic() - start < 5


def test_a_restarted_node_is_noticed(endpoint):
    with Client(endpoint, timeout_s=5.0) as client:
        with subprocess_node("hardware:fake", bind=endpoint):
            client.hello()
            client.begin()
            stale = client.command(np.zeros(2, np.float32))
        with pytest.raises(LeftError, match="was shut down"):
            client.receive()
        with subprocess_node("hardware:fake", bind=endpoint):
            client.send(stale)
            with pytest.raises(RefusedError, match="say hello again"):
                client.receive()
            client.hello()
            client.begin()


def test_a_node_of_an_unknown_robot_ends_with_a_sentence(tmp_path):
    code = "import sys; from robostack.node.serve import serve_address as serve; "
    code += f"serve('hardware:fkae', 'ipc://{tmp_path}/x')"
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode != 0
    assert "did you mean 'fake'" in run.stderr


def test_a_world_in_lockstep_closes_the_episode_of_a_killed_client(endpoint, watcher):
    pytest.importorskip("mujoco")
    code = CLIENT.replace("[0.02, 0.0]", "[0.02]")
    with subprocess_node("sim:pendulum", bind=endpoint, lockstep=True) as node:
        watcher.until(Event)
        command = [sys.executable, "-c", code, node.endpoint]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            watcher.until(Opened)
            watcher.until(Step)
            os.kill(process.pid, signal.SIGKILL)
            closed = watcher.until(Closed)
    assert "'doomed' went away" in closed.reason
    steps = [m.seq for m in watcher.messages if isinstance(m, Step)]
    assert steps == list(range(closed.steps + 1))  # and not one is missing
