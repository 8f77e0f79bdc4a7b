"""Endpoints, keys, and what a client is told when something is not there."""

import gc
import os
import stat
import subprocess
import sys
import time

import numpy as np
import pytest
import zmq

from robostack.link import endpoints, keys
from robostack.link.client import Client, arrays
from robostack.link.endpoints import Endpoints, is_local
from robostack.link.errors import LinkError
from robostack.link.keys import NodeKeys
from robostack.link.node_end import open_node_end
from robostack.link.stop import request_stop
from robostack.messages import Event, Tensor, decode_watch


@pytest.fixture
def endpoint(tmp_path):
    return f"ipc://{tmp_path}/node"


def test_three_endpoints_follow_from_one():
    assert endpoints.parse("tcp://127.0.0.1:5555") == Endpoints(
        "tcp://127.0.0.1:5555", "tcp://127.0.0.1:5556", "tcp://127.0.0.1:5557"
    )
    assert endpoints.parse("ipc:///a/b") == Endpoints(
        "ipc:///a/b", "ipc:///a/b.watch", "ipc:///a/b.stop"
    )
    assert endpoints.parse("tcp://[::1]:7").watch == "tcp://[::1]:8"


@pytest.mark.parametrize(
    "endpoint",
    [
        *("", "5555", "tcp://5555", "tcp://host", "tcp://host:0", "tcp://host:65534"),
        *("tcp://host:x", "tcp://:5", "udp://host:5", "ipc://", "ipc://" + "x" * 101),
        *("tcp://host:5²", "inproc://x"),
    ],
)
def test_other_endpoints_are_refused(endpoint):
    with pytest.raises(LinkError, match="expected tcp://HOST:PORT"):
        endpoints.parse(endpoint)


@pytest.mark.parametrize(
    ("endpoint", "local"),
    [
        ("ipc:///tmp/x", True),
        ("tcp://127.0.0.1:5", True),
        ("tcp://127.8.8.8:5", True),
        ("tcp://localhost:5", True),
        ("tcp://[::1]:5", True),
        ("tcp://0.0.0.0:5", False),
        ("tcp://*:5", False),
        ("tcp://[::]:5", False),
        ("tcp://192.168.0.7:5", False),
        ("tcp://localhost.example.org:5", False),
        ("tcp://eth0:5", False),
    ],
)
def test_what_other_computers_can_reach_is_not_local(endpoint, local):
    assert is_local(endpoint) is local


@pytest.mark.parametrize("host", ["0.0.0.0", "*", "[::]", "192.0.2.7", "eth0"])
def test_a_node_does_not_listen_beyond_this_computer_without_keys(host):
    with (
        pytest.raises(LinkError, match=r"expected keys.*which other computers"),
        open_node_end(f"tcp://{host}:45555", lockstep=False, keys=None),
    ):
        pass


def test_a_second_node_at_the_same_path_is_refused(endpoint):
    with (
        open_node_end(endpoint, lockstep=False, keys=None),
        pytest.raises(LinkError, match="somebody else listens there"),
        open_node_end(endpoint, lockstep=False, keys=None),
    ):
        pass


def test_a_path_that_a_dead_node_left_behind_is_no_obstacle(endpoint, tmp_path):
    code = (
        f"import zmq, os; zmq.Context().socket(zmq.REP).bind({endpoint!r}); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    assert (tmp_path / "node").exists()
    with open_node_end(endpoint, lockstep=False, keys=None):
        pass


def test_keys_are_made_and_loaded(tmp_path):
    mine, yours = keys.make(tmp_path / "node"), keys.make(tmp_path / "client")
    (tmp_path / "node" / "clients").mkdir()
    public = (tmp_path / "client" / "self.public").read_text()
    (tmp_path / "node" / "clients" / "you.public").write_text(public)
    assert yours.secret.decode() not in public
    (tmp_path / "client" / "node.public").write_text(
        (tmp_path / "node" / "self.public").read_text()
    )
    node = keys.load_node(tmp_path / "node")
    assert node == NodeKeys(mine, frozenset({yours.public}), tmp_path / "node")
    assert keys.load_client(tmp_path / "client") == (yours, mine.public)


def test_the_secret_is_its_owners_alone(tmp_path):
    before = os.umask(0)
    try:
        keys.make(tmp_path)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "self.secret").stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_secret_that_others_can_read_is_refused(tmp_path, mode):
    keys.make(tmp_path)
    (tmp_path / "self.secret").chmod(mode)
    with pytest.raises(LinkError, match=f"found mode {mode:o}"):
        keys.load_node(tmp_path)


def test_keys_are_never_overwritten(tmp_path):
    pair = keys.make(tmp_path)
    with pytest.raises(LinkError, match="expected no key"):
        keys.make(tmp_path)
    assert keys.load_node(tmp_path).pair == pair


def test_a_missing_or_broken_key_is_named(tmp_path):
    with pytest.raises(LinkError, match=r"expected a CURVE key in .*self.secret"):
        keys.load_node(tmp_path)
    (tmp_path / "self.secret").write_text("garbage")
    with pytest.raises(LinkError, match=r"expected a CURVE key in .*self.secret"):
        keys.load_node(tmp_path)


def test_nobody_listening_is_said_by_the_deadline(endpoint):
    start = time.monotonic()
    with (
        Client(endpoint, timeout_s=0.2) as client,
        pytest.raises(LinkError, match="nobody listens at ipc"),
    ):
        client.hello()
    assert 0.2 <= time.monotonic() - start < 5


def test_a_node_that_does_not_answer_is_said_by_the_deadline(endpoint):
    with (
        open_node_end(endpoint, lockstep=False, keys=None),
        Client(endpoint, timeout_s=0.2) as client,
        pytest.raises(LinkError, match="connected and did not answer"),
    ):
        client.hello()


def test_after_a_failure_only_hello_helps(endpoint):
    with Client(endpoint, timeout_s=0.05) as client:
        with pytest.raises(LinkError, match="nobody"):
            client.hello()
        with pytest.raises(LinkError, match="expected a new hello"):
            client.begin()


def test_a_closed_client_says_so(endpoint):
    client = Client(endpoint)
    client.close()
    client.close()
    with pytest.raises(LinkError, match="it was closed"):
        client.hello()


def test_an_action_needs_an_open_episode(endpoint):
    with Client(endpoint) as client, pytest.raises(LinkError, match="begin first"):
        client.step(np.zeros(2, np.float32))


@pytest.mark.parametrize("timeout_s", [0.0, -1.0, float("nan"), float("inf"), 1e6])
def test_time_outs_are_checked(endpoint, timeout_s):
    with pytest.raises(LinkError, match="within an hour"):
        Client(endpoint, timeout_s=timeout_s)


def test_a_forgotten_client_does_not_hang(endpoint):
    for _ in range(20):
        Client(endpoint)
    gc.collect()


def test_no_descriptors_are_lost_over_many_clients(endpoint):
    def count():
        return len(os.listdir("/proc/self/fd"))

    with open_node_end(endpoint, lockstep=False, keys=None):
        for i in range(60):
            if i == 10:
                before = count()
            with (
                Client(endpoint, timeout_s=0.005) as client,
                pytest.raises(LinkError),
            ):
                client.hello()
        assert count() <= before + 3


def test_stop_without_a_node_says_that_it_did_not_stop(endpoint):
    with pytest.raises(LinkError, match="NOT STOPPED"):
        request_stop(endpoint, who="me", timeout_s=0.1)


def test_arrays_other_than_float32_are_refused():
    with pytest.raises(LinkError, match="got <f8"):
        arrays({"a": Tensor.pack(np.zeros(2))})


@pytest.fixture
def slow_watcher(endpoint):
    context = zmq.Context()
    socket = context.socket(zmq.SUB)
    socket.setsockopt(zmq.RCVHWM, 1)
    socket.subscribe(b"")
    socket.connect(f"{endpoint}.watch")
    yield socket
    context.destroy(linger=0)


def test_a_watcher_that_reads_nothing_does_not_hold_up_real_time(
    endpoint, slow_watcher
):
    with open_node_end(endpoint, lockstep=False, keys=None) as end:
        _await_watcher(end)
        start = time.monotonic()
        for i in range(5000):
            end.watch.send(Event(0, float(i), "test", "x" * 2000))
        assert time.monotonic() - start < 2
    seen = _drain(slow_watcher)
    assert 0 < len(seen) < 5000  # it lost some, and what it has is whole


def test_in_lockstep_a_slow_watcher_gets_everything(endpoint, slow_watcher):
    with open_node_end(endpoint, lockstep=True, keys=None) as end:
        _await_watcher(end)
        seen = []
        for i in range(5000):
            end.watch.send(Event(0, float(i), "test", "x" * 2000))
            if i % 100 == 99:
                seen += _drain(slow_watcher)
        end.watch.send(Event(0, 5000.0, "test", "last"))
        while not seen or seen[-1] != 5000.0:
            seen += _drain(slow_watcher, 100)
    assert seen == [float(i) for i in range(5001)]


def _await_watcher(end):
    deadline = time.monotonic() + 5
    while not end.watch.watched():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def _drain(socket, timeout_ms=10):
    stamps = []
    while socket.poll(timeout_ms):
        stamps.append(decode_watch(socket.recv()).stamp_s)
    return stamps
