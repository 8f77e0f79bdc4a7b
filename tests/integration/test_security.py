"""Who can reach a node's sockets, as the operating system sees it."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import zmq
from robot_examples import LockstepFake

from robostack.link import keys
from robostack.link.client import Client
from robostack.link.node_end import CONTROL_BYTES, STOP_BYTES, WATCH_BYTES
from robostack.node.embedded import embedded
from robostack.node.serve import Options

pytestmark = pytest.mark.alone

PARTS = ("", ".watch", ".stop")


def free_port():
    """Return a port that is free, like the two after it."""
    for port in range(23000, 30000, 3):
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for i in range(3):
                probe = stack.enter_context(socket.socket())
                probe.bind(("127.0.0.1", port + i))
            return port
    raise AssertionError("no port is free")


def listening(ports):
    """Return port -> addresses that something listens at, as the kernel says."""
    found = {port: set() for port in ports}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            address, _, port = local.partition(":")
            if state == "0A" and int(port, 16) in found:
                found[int(port, 16)].add(address)
    return found


def works(endpoint, mine=None):
    with Client(endpoint, timeout_s=3.0, keys=mine) as client:
        client.hello()
        client.begin()
        return True


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_without_keys_each_socket_listens_on_loopback_only(host):
    port = free_port()
    with embedded(LockstepFake(), bind=f"tcp://{host}:{port}", lockstep=True):
        found = listening(range(port, port + 3))
    loopback = {"0100007F", "00000000000000000000000001000000"}
    assert all(addresses and addresses <= loopback for addresses in found.values())


def test_with_keys_each_socket_listens_where_it_is_told(tmp_path):
    keys.make_node(tmp_path / "node")
    port = free_port()
    options = Options(lockstep=True, keys=keys.load_node(tmp_path / "node"))
    with embedded(LockstepFake(), bind=f"tcp://0.0.0.0:{port}", options=options):
        found = listening(range(port, port + 3))
    assert found == {port + i: {"00000000"} for i in range(3)}


@pytest.fixture
def open_folder():
    """Return a folder that every account of this computer may enter."""
    folder = Path(tempfile.mkdtemp(prefix="robostack-test-"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_unix_sockets_are_their_owners_alone_whatever_the_umask(open_folder, umask):
    before = os.umask(umask)
    try:
        with embedded(
            LockstepFake(), bind=f"ipc://{open_folder}/node", lockstep=True
        ) as node:
            paths = [open_folder / f"node{part}" for part in PARTS]
            modes = {stat.S_IMODE(path.stat().st_mode) for path in paths}
            assert works(node.endpoint)
        assert os.umask(umask) == umask  # and it is as it was
    finally:
        os.umask(before)
    assert modes == {0o600}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
@pytest.mark.parametrize("part", PARTS)
def test_another_account_cannot_open_a_unix_socket(open_folder, part):
    code = (
        "import os, socket, sys; os.setuid(65534)\n"
        "socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    )
    with embedded(LockstepFake(), bind=f"ipc://{open_folder}/node", lockstep=True):
        command = [sys.executable, "-I", "-c", code, f"{open_folder}/node{part}"]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "PermissionError" in run.stderr


@pytest.mark.parametrize(
    ("part", "kind", "most"),
    [
        ("", zmq.DEALER, CONTROL_BYTES),
        (".watch", zmq.XSUB, WATCH_BYTES),
        (".stop", zmq.DEALER, STOP_BYTES),
    ],
)
def test_a_frame_longer_than_its_socket_takes_is_hung_up_on(part, kind, most):
    with embedded(LockstepFake(), lockstep=True) as node, zmq.Context() as context:
        for size, hung_up in ((most - 100, False), (most + 100, True)):
            intruder = context.socket(kind)
            events = intruder.get_monitor_socket(zmq.EVENT_DISCONNECTED)
            intruder.connect(f"{node.endpoint}{part}")
            intruder.send(b"\x01" * size)  # ZMQ wraps a subscription
            found = bool(events.poll(5000 if hung_up else 200))
            intruder.disable_monitor()
            events.close(0)
            intruder.close(0)
            assert found is hung_up
        assert works(node.endpoint)


def test_text_that_is_no_utf8_does_not_end_a_node():
    context = zmq.Context()
    with embedded(LockstepFake(), lockstep=True) as node:
        intruder = context.socket(zmq.DEALER)
        intruder.connect(node.endpoint)
        intruder.send(b"\x82\xa4type\xa3Bye\xa7session\xa2\xff\xff")
        assert works(node.endpoint)
        assert node.node.journal.total == {"malformed": 1}
    context.destroy(linger=0)


@pytest.mark.parametrize("revision", [b"\x00", b"\x01"])
def test_old_dialects_of_zmq_are_hung_up_on(revision):
    old = b"\xff" + bytes(7) + b"\x01\x7f" + revision + b"\x05" + b"\x00\x00"
    for hello in (old, b"\x01\x00"):
        with embedded(LockstepFake(), lockstep=True) as node:
            path = node.endpoint.removeprefix("ipc://")
            with socket.socket(socket.AF_UNIX) as stranger:
                stranger.settimeout(2)
                stranger.connect(path)
                stranger.sendall(hello)
                with contextlib.suppress(ConnectionResetError):
                    while stranger.recv(100):
                        pass
            assert works(node.endpoint)


def test_a_connection_that_says_nothing_is_hung_up_on():
    with (
        embedded(LockstepFake(), lockstep=True) as node,
        socket.socket(socket.AF_UNIX) as stranger,
    ):
        stranger.settimeout(10)
        stranger.connect(node.endpoint.removeprefix("ipc://"))
        while stranger.recv(100):
            pass
        assert works(node.endpoint)
