"""A node under attack: started by its command, and what it takes of the computer."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from robostack.link import keys
from robostack.link.client import Client
from robostack.link.errors import LinkError

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_START_S = 30.0
GOOD_CLIENT = Path(__file__).with_name("good_client.py")


class Vitals(NamedTuple):
    """What a process uses."""

    rss_mb: float
    descriptors: int
    threads: int
    cpu_s: float


class Served(NamedTuple):
    """A node in a process of its own, and how its friends connect."""

    pid: int
    endpoint: str
    friend: Path | None  # folder of a client's keys that it lets in


def look(pid: int) -> Vitals:
    """Return what the process uses now; raises FileNotFoundError if it is gone."""
    folder = Path(f"/proc/{pid}")
    fields = (folder / "stat").read_text().rpartition(") ")[2].split()
    if fields[0] == "Z":
        raise FileNotFoundError(f"process {pid} died")
    pages = int((folder / "statm").read_text().split()[1])
    return Vitals(
        pages * _PAGE / 1e6,
        len(list((folder / "fd").iterdir())),
        int(fields[17]),
        (int(fields[11]) + int(fields[12])) * _TICK_S,
    )


def free_port() -> int:
    """Return a port that is free, like the two after it."""
    while True:
        port = random.randint(20000, 30000)  # below those that the kernel gives out
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for i in range(3):
                probe = stack.enter_context(socket.socket())
                probe.bind(("127.0.0.1", port + i))
            return port


def make_keys(folder: Path) -> tuple[Path, Path]:
    """Make the keys of a node, and of a client that it lets in."""
    node, friend = folder / "node", folder / "friend"
    own = keys.make_node(node).public
    keys.allow(node, "friend", keys.make_client(friend, own).public)
    return node, friend


@contextlib.contextmanager
def serving(folder: Path, *, curve: bool = False) -> Iterator[Served]:
    """Serve the fake robot in real time on three TCP ports of this computer."""
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "robostack.cli", "serve", "hardware:fake"]
    command += ["--bind", endpoint]
    friend = None
    if curve:
        node, friend = make_keys(folder)
        command += ["--keys", str(node)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        _await(endpoint, friend)
        yield Served(process.pid, endpoint, friend)
        if process.poll() is not None:
            raise AssertionError(f"the node died with exit code {process.returncode}")
    finally:
        process.terminate()
        process.wait(10)


@contextlib.contextmanager
def befriended(node: Served) -> Iterator[dict[str, float]]:
    """Let a good client drive all the while; gives its counts, filled in at the end."""
    command = [sys.executable, str(GOOD_CLIENT), node.endpoint]
    command += [str(node.friend)] if node.friend else []
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    counts: dict[str, float] = {}
    try:
        assert process.stdout.readline() == "driving\n"
        yield counts
        process.send_signal(signal.SIGINT)
        counts.update(json.loads(process.communicate(timeout=20)[0]))
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _await(endpoint: str, friend: Path | None) -> None:
    mine = keys.load_client(friend) if friend else None
    deadline = time.monotonic() + _START_S
    while True:
        with Client(endpoint, timeout_s=0.5, keys=mine) as client:
            try:
                client.hello()
            except LinkError:
                if time.monotonic() > deadline:
                    raise
                continue
            return
