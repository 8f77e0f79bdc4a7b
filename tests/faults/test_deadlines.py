"""Whoever does not answer, every call returns by its deadline and says why.

Servers that are not there, that never accept, that accept and are silent, that speak
something else, and nodes that are suspended in the middle of an episode.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from kills import Ear
from vitals import GOOD_CLIENT, free_port, make_keys, serving

from robostack.link import keys
from robostack.link.client import Client
from robostack.link.errors import LinkError
from robostack.link.stop import request_stop
from robostack.messages import Event, Opened, Step
from robostack.node.recorder_process import RecorderDiedError, RecorderProcess

pytestmark = pytest.mark.alone

DEADLINE_S = 0.4
SLACK_S = 1.0  # of a busy computer
STARVED_S = 0.15  # what a busy computer may add to the time of a node


@contextlib.contextmanager
def dead(port, how):
    """Stand in for a node on its three ports."""
    with contextlib.ExitStack() as stack:
        for part in range(3) if how != "nobody" else ():
            backlog = 0 if how == "never accepts" else 16
            server = stack.enter_context(
                socket.create_server(("127.0.0.1", port + part), backlog=backlog)
            )
            if how == "never accepts":  # fill the queue: the rest is lost on the way
                for _ in range(3):
                    filler = stack.enter_context(socket.socket())
                    filler.setblocking(False)
                    filler.connect_ex(("127.0.0.1", port + part))
            elif how != "nobody":
                said = {"is silent": b"", "speaks HTTP": b"HTTP/1.1 400 Bad\r\n\r\n"}
                _answer(stack, server, said[how])
        yield f"tcp://127.0.0.1:{port}"


def _answer(stack, server, said):
    server.settimeout(0.05)
    over = threading.Event()

    def run():
        with contextlib.ExitStack() as held:
            while not over.is_set():
                with contextlib.suppress(OSError):
                    connection = held.enter_context(server.accept()[0])
                    connection.sendall(said)

    thread = threading.Thread(target=run)
    thread.start()
    stack.callback(thread.join)
    stack.callback(over.set)


DEAD = ["nobody", "never accepts", "is silent", "speaks HTTP"]


@contextlib.contextmanager
def by(deadline_s=DEADLINE_S):
    """Hold a call to its deadline, and its error to one sentence."""
    start = time.monotonic()
    with pytest.raises((LinkError, RecorderDiedError)) as caught:
        yield
    assert time.monotonic() - start <= deadline_s + SLACK_S
    assert "\n" not in str(caught.value).strip()
    assert len(str(caught.value)) > 20


@pytest.mark.parametrize("curve", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("how", DEAD)
def test_a_dead_server_is_told_by_the_deadline(tmp_path, how, curve):
    mine = keys.load_client(make_keys(tmp_path)[1]) if curve else None
    with dead(free_port(), how) as endpoint:
        with by(), Client(endpoint, timeout_s=DEADLINE_S, keys=mine) as client:
            client.hello()
        with by() as _:
            request_stop(endpoint, who="me", timeout_s=DEADLINE_S, keys=mine)


@pytest.mark.parametrize("how", ["nobody", "is silent"])
def test_a_recorder_that_hears_nothing_says_so_by_the_deadline(tmp_path, how):
    with (
        dead(free_port(), how) as endpoint,
        RecorderProcess(endpoint, tmp_path) as recorder,
        by(),
    ):
        recorder.wait_ready(DEADLINE_S)


@pytest.mark.slow
def test_an_environment_without_a_node_says_so_by_the_deadline():
    gym = pytest.importorskip("robostack.gym")
    with dead(free_port(), "is silent") as endpoint, by(5.0):
        gym.RobotEnv(endpoint, "any")


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("node")) as node:
        yield node


@contextlib.contextmanager
def suspended(pid):
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("call", ["hello", "begin", "step", "receive", "end"])
def test_a_suspended_node_holds_up_no_call_of_a_client(node, call):
    action = np.zeros(2, np.float32)
    with Client(node.endpoint, timeout_s=DEADLINE_S) as client:
        client.hello()
        if call != "begin":
            client.begin()
        calls = {
            "hello": client.hello,
            "begin": lambda: client.begin(timeout_s=DEADLINE_S),
            "step": lambda: [client.step(action) for _ in range(5)],
            "receive": lambda: [client.receive() for _ in range(20)],
            "end": client.end,
        }
        with suspended(node.pid), by():
            calls[call]()
    start = time.monotonic()
    client.close()
    assert time.monotonic() - start < SLACK_S


def test_a_suspended_node_does_not_confirm_a_stop(node):
    with suspended(node.pid), by():
        request_stop(node.endpoint, who="me", timeout_s=DEADLINE_S)


@pytest.fixture
def watched(tmp_path):
    """Return a node that a good client drives, the client, and an ear to the node."""
    with serving(tmp_path) as node:
        ear = Ear(node.endpoint)
        with contextlib.closing(ear):
            ear.until(Event)
            command = [sys.executable, str(GOOD_CLIENT), node.endpoint]
            with subprocess.Popen(command, stdout=subprocess.PIPE) as client:
                ear.until(Opened)
                ear.until(Step)
                try:
                    yield client, ear
                finally:
                    client.kill()


def silence(client, ear, seconds):
    """Suspend the client for a while; return what the node did about it, and when.

    When is seconds after the last command that it applied, by its own clock.
    """
    before = [message for _ in range(10) for message in ear.until(Step)]
    client.send_signal(signal.SIGSTOP)
    start = time.monotonic()
    time.sleep(seconds)
    client.send_signal(signal.SIGCONT)
    commanded_s, done = 0.0, {}
    for message in [*before, *ear.until_stamp(start + seconds + 0.1)]:
        silent = isinstance(message, Event) and "no fresh command" in message.text
        if silent:
            state = message.text.partition(":")[0]
            done.setdefault(state, message.stamp_s - commanded_s)
        elif isinstance(message, Step) and message.requested and not done:
            commanded_s = message.stamp_s + message.age_s
    return done


@pytest.mark.parametrize(
    ("seconds", "due"),
    [(0.05, {}), (0.15, {"hold": 0.1}), (0.6, {"hold": 0.1, "safe": 0.5})],
)
def test_a_suspended_client_is_held_and_then_made_safe(watched, seconds, due):
    done = silence(*watched, seconds)
    assert done.keys() == due.keys()
    for state, after_s in due.items():
        assert after_s <= done[state] <= after_s + 0.02 + STARVED_S
