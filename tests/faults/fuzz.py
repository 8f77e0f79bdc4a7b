"""Throw bytes at a node while a good client drives it, and watch what the node takes.

python tests/faults/fuzz.py --minutes 10                    # each socket, no keys
python tests/faults/fuzz.py --minutes 10 --curve            # each socket, with keys
python tests/faults/fuzz.py --minutes 1 --socket stop

On each socket: frames that are random, mutated, cut short, explosive or pickles, in one
part or many; TCP that is no ZMTP; handshakes that never end, or end in a frame that
claims to be huge; bytes that come one by one. With keys, by strangers without any, with
wrong ones, and by a client that the node lets in. Exit code 0 if the node lived, ran
nothing, and kept its memory, descriptors and threads within the bounds below.
"""

from __future__ import annotations

import argparse
import contextlib
import socket as tcp
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import zmq
from hostile_bytes import RAW, frames, greeting, huge_frame, ready
from vitals import Served, Vitals, befriended, look, serving

from robostack.link import keys, sockets
from robostack.link.keys import ClientKeys, KeyPair

SOCKETS = ("control", "watch", "stop")
_KINDS = {"control": zmq.DEALER, "watch": zmq.XSUB, "stop": zmq.DEALER}
_READY = {"control": b"DEALER", "watch": b"SUB", "stop": b"REQ"}
MOST_RSS_MB = 100.0  # more than before the attack
MOST_DESCRIPTORS = 400  # of the node: what it has, and what we keep open
MOST_CPU = 1.5  # of the node, in cores
_HELD = 100  # connections of each sort that we keep open
_BURST = 20  # frames, and then a rest
_REST_S = 0.01


class Target(NamedTuple):
    """One socket of a node."""

    name: str
    port: int
    keys: ClientKeys | None  # of a client that the node lets in


class Report(NamedTuple):
    """What an attack on one socket did."""

    target: str
    sent: int
    connections: int
    before: Vitals
    most: Vitals
    after: Vitals
    cpu: float  # [cores]
    good: dict[str, float]

    def complaints(self) -> list[str]:
        """Return what is out of bounds."""
        found = []
        if self.most.rss_mb - self.before.rss_mb > MOST_RSS_MB:
            found.append(f"memory grew to {self.most.rss_mb:.0f} MB")
        if self.most.descriptors > MOST_DESCRIPTORS:
            found.append(f"{self.most.descriptors} descriptors")
        if self.most.threads > self.before.threads:
            found.append(f"{self.most.threads} threads, not {self.before.threads}")
        if self.cpu > MOST_CPU:
            found.append(f"{self.cpu:.2f} cores")
        if not self.good["steps"]:
            found.append("the good client did not get through")
        return found


class Attacker:
    """Somebody with a bad conscience and a fixed seed."""

    def __init__(self, target: Target, seed: int, canary: Path) -> None:
        self.sent = self.connections = 0
        self._target = target
        self._rng = np.random.default_rng(seed)
        self._frames = frames(self._rng, canary)
        self._context: sockets.Context = zmq.Context()
        self._peers: list[sockets.Socket] = []
        self._held: list[tcp.socket] = []

    def burst(self) -> None:
        """Do one of everything."""
        self._frame_burst()
        for attack in (self._garbage, self._half_open, self._huge, self._slow):
            with contextlib.suppress(OSError):  # the node hung up, as it should
                attack()
        while len(self._held) > _HELD:
            self._held.pop(0).close()

    def close(self) -> None:
        """Leave."""
        for connection in self._held:
            connection.close()
        self._context.destroy(linger=0)

    def _frame_burst(self) -> None:
        if not self._peers or self._rng.random() < 0.02:
            self._renew()
        for _ in range(_BURST):
            peer = self._peers[self._rng.integers(len(self._peers))]
            parts = [next(self._frames) for _ in range(self._rng.choice([1, 1, 1, 3]))]
            envelope = [b""] if self._target.name == "stop" else []
            with contextlib.suppress(zmq.Again):  # the node takes no more
                peer.send_multipart(envelope + parts, zmq.DONTWAIT)
                self.sent += 1

    def _renew(self) -> None:
        for peer in self._peers:
            peer.close(0)
        wrong = None
        if self._target.keys is not None:
            wrong = ClientKeys(KeyPair(*zmq.curve_keypair()), self._target.keys.node)
        self._peers = [self._peer(k) for k in {self._target.keys, wrong, None}]

    def _peer(self, mine: ClientKeys | None) -> sockets.Socket:
        peer = sockets.make(self._context, _KINDS[self._target.name])
        peer.setsockopt(zmq.SNDHWM, 100)
        sockets.connect(peer, f"tcp://127.0.0.1:{self._target.port}", mine)
        self.connections += 1
        return peer

    def _open(self) -> tcp.socket:
        where = ("127.0.0.1", self._target.port)
        connection = tcp.create_connection(where, timeout=0.5)
        connection.settimeout(0.2)
        self.connections += 1
        self._held.append(connection)
        return connection

    def _garbage(self) -> None:
        raw = RAW[self._rng.integers(len(RAW))]
        self._open().sendall(raw + self._rng.bytes(int(self._rng.integers(3000))))

    def _half_open(self) -> None:
        whole = greeting() + ready(_READY[self._target.name])
        self._open().sendall(whole[: self._rng.integers(len(whole))])

    def _huge(self) -> None:
        size = int(2 ** self._rng.integers(10, 63))
        last = ready(_READY[self._target.name]) + huge_frame(size)
        self._open().sendall(greeting() + last)

    def _slow(self) -> None:
        whole = greeting() + ready(_READY[self._target.name]) + huge_frame(1000)
        for connection in self._held[:10]:
            at = self._rng.integers(len(whole))
            connection.sendall(whole[at : at + 1])


def attack(
    node: Served, name: str, seconds: float, *, seed: int, canary: Path
) -> Report:
    """Attack one socket for `seconds` while a good client drives."""
    mine = keys.load_client(node.friend) if node.friend else None
    port = int(node.endpoint.rpartition(":")[2]) + SOCKETS.index(name)
    with befriended(node) as good:
        attacker = Attacker(Target(name, port, mine), seed, canary)
        before, most = look(node.pid), look(node.pid)
        start = time.monotonic()
        with contextlib.closing(attacker):
            for _ in _until(start + seconds, lambda: time.sleep(_REST_S)):
                attacker.burst()
                now = look(node.pid)
                most = Vitals(*map(max, most, now))
        cpu = (most.cpu_s - before.cpu_s) / (time.monotonic() - start)
        time.sleep(1.0)
        after = look(node.pid)
    counts = attacker.sent, attacker.connections
    return Report(name, *counts, before, most, after, cpu, good)


def _until(deadline: float, rest: Callable[[], None]) -> Iterator[None]:
    while time.monotonic() < deadline:
        yield
        rest()


def _print(report: Report) -> None:
    print(
        f"{report.target:<8}{report.sent} frames, {report.connections} connections; "
        f"memory {report.before.rss_mb:.1f} -> most {report.most.rss_mb:.1f} -> "
        f"{report.after.rss_mb:.1f} MB, descriptors {report.before.descriptors} -> "
        f"most {report.most.descriptors} -> {report.after.descriptors}, threads "
        f"{report.before.threads} -> {report.after.threads}, {report.cpu:.2f} cores; "
        f"good client: {report.good}",
        flush=True,
    )


def main() -> int:
    """Attack; return 0 if nothing is out of bounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="for each socket")
    parser.add_argument("--socket", choices=SOCKETS, action="append", default=[])
    parser.add_argument("--curve", action="store_true", help="a node with keys")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    bad = 0
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        node = stack.enter_context(serving(folder, curve=given.curve))
        for target in given.socket or SOCKETS:
            report = attack(
                node,
                target,
                60 * given.minutes,
                seed=given.seed,
                canary=folder / "canary",
            )
            _print(report)
            complaints = report.complaints()
            if (folder / "canary").exists():
                complaints.append("a pickle was run")
            for complaint in complaints:
                print(f"  OUT OF BOUNDS: {complaint}", flush=True)
            bad += len(complaints)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
