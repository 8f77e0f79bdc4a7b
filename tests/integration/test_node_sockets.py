"""What reaches a node's sockets: good clients, strangers, and garbage."""

from __future__ import annotations

import contextlib
import os
import pickle
import random
import socket
import time
from pathlib import Path

import numpy as np
import pytest
import zmq
from robot_examples import LockstepFake

from robostack.hardware.fake.driver import FakeRobot
from robostack.link import keys
from robostack.link.client import Client
from robostack.link.errors import LinkError
from robostack.link.keys import ClientKeys, KeyPair, NodeKeys
from robostack.link.stop import request_stop
from robostack.messages import MAX_BYTES, Notice, Stop, Stopped, decode_stop, encode
from robostack.node.device import ServeError
from robostack.node.embedded import embedded
from robostack.node.serve import Options, serve_address

pytestmark = pytest.mark.alone


def new_pair():
    return KeyPair(*zmq.curve_keypair())


def free_port():
    """Return a port that is free, like the two after it."""
    while True:
        port = random.randint(20000, 60000)
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for i in range(3):
                probe = stack.enter_context(socket.socket())
                probe.bind(("127.0.0.1", port + i))
            return port


@pytest.fixture
def node():
    with embedded(LockstepFake(), lockstep=True) as node:
        yield node


@pytest.fixture
def stranger():
    """Return how somebody without our code makes a socket."""
    context, made = zmq.Context(), []

    def make(kind, endpoint):
        made.append(context.socket(kind))
        made[-1].setsockopt(zmq.RCVTIMEO, 2000)
        made[-1].connect(endpoint)
        return made[-1]

    yield make
    context.destroy(linger=0)


def works(endpoint, **more):
    with Client(endpoint, timeout_s=3.0, **more) as client:
        client.hello()
        client.begin()
        reading = client.step(np.float32([0.01, 0.0]))
        client.end()
        return reading.seq == 1


class Canary:
    """Writes a file if anybody unpickles it."""

    def __init__(self, path):
        self._path = path

    def __reduce__(self):
        return (open, (str(self._path), "w"))


def garbage(path):
    rng = np.random.default_rng(0)
    return [
        b"",
        b"\x00",
        b"\xff" * 300,
        pickle.dumps(Canary(path)),
        b"\x81" * 50000,
        b"\xdf\xff\xff\xff\xff" + b"\x00" * 10,  # a map that claims 4 billion pairs
        b"\xc6\xff\xff\xff\xff",  # 4 GiB of bytes, none of them there
        encode(Notice(1, "estop", "not for a node")),
        *(rng.bytes(int(n)) for n in rng.integers(1, 2000, 50)),
    ]


@pytest.mark.parametrize("part", ["", ".watch", ".stop"])
def test_garbage_on_any_socket_is_ignored(node, tmp_path, part, stranger):
    canary = tmp_path / "canary"
    for kind in (zmq.DEALER, zmq.REQ, zmq.SUB):
        intruder = stranger(kind, f"{node.endpoint}{part}")
        for frame in garbage(canary):
            with contextlib.suppress(zmq.ZMQError):  # a SUB may not send, a REQ waits
                intruder.send(frame, zmq.DONTWAIT)
            with contextlib.suppress(zmq.ZMQError):
                intruder.send_multipart([frame, frame, b""], zmq.DONTWAIT)
            if kind == zmq.REQ and intruder.poll(5):
                intruder.recv()
    assert works(node.endpoint)
    assert not canary.exists()
    assert node.node.supervisor.machine.state == "hold"
    if part == "":
        assert node.node.journal.total["malformed"] > 50


def test_raw_bytes_are_ignored(node):
    for part in ("", ".watch", ".stop"):
        path = f"{node.endpoint}{part}".removeprefix("ipc://")
        for frame in (b"GET / HTTP/1.0\r\n\r\n", b"\xff\x00" * 5000):
            with socket.socket(socket.AF_UNIX) as stranger:
                stranger.connect(path)
                with contextlib.suppress(OSError):
                    stranger.sendall(frame)
    assert works(node.endpoint)


def test_a_message_that_is_too_large_is_not_taken(node, stranger):
    intruder = stranger(zmq.DEALER, node.endpoint)
    events = intruder.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    intruder.send(bytes(MAX_BYTES + 1))
    assert events.poll(5000)  # the node hung up
    intruder.disable_monitor()
    events.close()
    assert works(node.endpoint)
    assert "malformed" not in node.node.journal.total


def test_garbage_on_the_stop_socket_does_not_stop_and_does_not_block(node, stranger):
    passer_by = stranger(zmq.REQ, f"{node.endpoint}.stop")
    passer_by.send(b"stop, please")
    assert passer_by.recv() == b""
    passer_by.send(encode(Stop("me")))
    assert decode_stop(passer_by.recv()) == Stopped("estop")
    assert node.node.journal.total == {"malformed": 1}


@pytest.mark.parametrize("parts", [[b"x"], [b"x", b""], [b"", b"x"], [b"", b"x", b"y"]])
def test_whoever_is_no_req_does_not_block_the_stop_path(node, stranger, parts):
    intruder = stranger(zmq.DEALER, f"{node.endpoint}.stop")
    for _ in range(20):
        intruder.send_multipart(parts)
        time.sleep(0.002)
    assert request_stop(node.endpoint, who="me").state == "estop"


def test_a_message_of_many_parts_is_thrown_away_while_others_are_served(node, stranger):
    intruder = stranger(zmq.DEALER, node.endpoint)
    intruder.send_multipart([b"x"] * 5000)
    assert works(node.endpoint)
    assert node.node.journal.total == {"malformed": 1}


def test_a_watcher_of_many_topics_is_no_burden(node, stranger):
    watcher = stranger(zmq.SUB, f"{node.endpoint}.watch")
    for i in range(5000):
        watcher.subscribe(b"%d" % i)
    assert works(node.endpoint)
    watcher.subscribe(b"")
    assert works(node.endpoint)


def test_only_a_local_clear_ends_an_estop(node):
    request_stop(node.endpoint, who="me")
    with pytest.raises(LinkError, match="estop"):
        works(node.endpoint)
    assert node.node.supervisor.clear("looked")
    assert works(node.endpoint)


def test_an_error_at_start_reaches_who_started_it(node):
    with (
        pytest.raises(LinkError, match="somebody else listens"),
        embedded(LockstepFake(), bind=node.endpoint, lockstep=True),
    ):
        pass
    assert works(node.endpoint)


def test_hardware_does_not_run_in_lockstep(tmp_path):
    with pytest.raises(ServeError, match="hardware runs in real time"):
        serve_address("hardware:fake", f"ipc://{tmp_path}/x", Options(lockstep=True))
    with (
        pytest.raises(ServeError, match="hardware runs in real time"),
        embedded(FakeRobot(), lockstep=True),
    ):
        pass


def test_a_robot_is_stopped_and_released_at_the_end():
    calls = []

    class Released(LockstepFake):
        def stop(self):
            calls.append("stop")
            super().stop()

        def close(self):
            calls.append("close")

    with embedded(Released(), lockstep=True) as node, Client(node.endpoint) as client:
        client.hello()
        client.begin()
        calls.clear()
    assert calls[0] == "stop"
    assert calls[-1] == "close"


@pytest.fixture(scope="module")
def guarded():
    """Return a node with keys that listens on all addresses, and a client's keys."""
    pair, mine = new_pair(), new_pair()
    port = free_port()
    options = Options(lockstep=True, keys=NodeKeys(pair, frozenset({mine.public})))
    bind = f"tcp://0.0.0.0:{port}"
    with embedded(LockstepFake(), bind=bind, options=options):
        yield f"tcp://127.0.0.1:{port}", ClientKeys(mine, pair.public)


def test_with_the_right_keys_everything_works(guarded):
    endpoint, mine = guarded
    assert works(endpoint, keys=mine)


@pytest.mark.parametrize("which", ["none", "unlisted", "wrong node"])
def test_without_the_right_keys_nothing_works(guarded, which):
    endpoint, mine = guarded
    wrong = {
        "none": None,
        "unlisted": ClientKeys(new_pair(), mine.node),
        "wrong node": ClientKeys(mine.pair, new_pair().public),
    }[which]
    with (
        Client(endpoint, timeout_s=0.5, keys=wrong) as client,
        pytest.raises(LinkError, match="keys"),
    ):
        client.hello()
    with pytest.raises(LinkError, match="NOT STOPPED"):
        request_stop(endpoint, who="stranger", timeout_s=0.3, keys=wrong)
    assert works(endpoint, keys=mine)


def test_without_keys_nothing_can_be_watched(guarded, stranger):
    endpoint, mine = guarded
    host, port = endpoint.rsplit(":", 1)
    watcher = stranger(zmq.SUB, f"{host}:{int(port) + 1}")
    watcher.subscribe(b"")
    assert works(endpoint, keys=mine)
    assert not watcher.poll(300)


def test_keys_from_files_work(tmp_path):
    keys.make(tmp_path / "node")
    keys.make(tmp_path / "client")
    (tmp_path / "node/clients").mkdir()
    (tmp_path / "client/self.public").rename(tmp_path / "node/clients/me.public")
    (tmp_path / "node/self.public").rename(tmp_path / "client/node.public")
    bind = f"tcp://127.0.0.1:{free_port()}"
    options = Options(lockstep=True, keys=keys.load_node(tmp_path / "node"))
    with embedded(LockstepFake(), bind=bind, options=options):
        assert works(bind, keys=keys.load_client(tmp_path / "client"))


def test_a_node_without_keys_listens_on_this_computer_only():
    port = free_port()
    with embedded(LockstepFake(), bind=f"tcp://127.0.0.1:{port}", lockstep=True):
        addresses = _listening(range(port, port + 3))
    assert addresses == {"0100007F"}  # 127.0.0.1, as the kernel writes it


def _listening(ports):
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    rows = [line.split() for line in lines]
    local = [row[1].split(":") for row in rows if row[3] == "0A"]
    return {address for address, port in local if int(port, 16) in ports}


def test_many_reconnects_leave_nothing_behind(node):
    def descriptors():
        return len(os.listdir("/proc/self/fd"))

    for i in range(60):
        if i == 10:
            before = descriptors()
        with Client(node.endpoint) as client:
            client.hello()
    deadline = time.monotonic() + 5
    while descriptors() > before + 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert descriptors() <= before + 2
