"""How steady a node's loop is at 500 Hz, alone and with everybody watching.

    python benchmarks/loop_500hz.py [--pairs 20] [--seconds 2] [--json result.json]

A node in a process of its own drives a robot with a period of 2 ms, and a client in
this one answers every reading. The robot is where it was told to be, so that nobody's
physics is timed. It notes when its sensors are read: what lies between two of those is
a period. A pair is an episode with nobody else there, and one with a recorder that
writes MCAP, a watcher that reads and one that is stuck (SIGSTOP), in turn the first and
the second of the two; between them watchers come and go.

Before each pair an empty loop is timed, in a process of its own, with the same
priority and the same way to wait (sleep, then spin), while the node is idle. What it
cannot keep, no node can keep on this machine: it is the floor.

The result is the 99th percentile of |period - 2 ms| over all episodes that were
watched, and the median over pairs of the ratio of their median periods.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.queues import Queue
from pathlib import Path

import msgspec
import numpy as np

from robostack.clock import MonotonicClock, Ticker
from robostack.hardware.fake.driver import FakeRobot
from robostack.link import endpoints
from robostack.link.client import Client
from robostack.node.realtime import realtime
from robostack.node.recorder_process import RecorderProcess
from robostack.node.serve import serve
from robostack.spec import Array, Image, float32

PERIOD_S = 0.002
SPEC = msgspec.structs.replace(
    FakeRobot.spec,
    control_period_s=PERIOD_S,
    command_timeout_s=1.0,  # the loop is measured here, not the client
    max_action_step=(0.02, 0.02),
)
EDGES_MS = (0, 1, 1.5, 1.8, 1.9, 1.95, 1.98, 2.02, 2.05, 2.1, 2.2, 2.5, 3, 5, 10, 1e3)
SETTLE_S = 0.3
SPIN_S = 0.0002  # before a tick, as in the node's loop
KINDS = ("floor", "bare", "watched")
WATCHER = """
import sys, zmq
socket = zmq.Context().socket(zmq.SUB)
socket.subscribe(b"")
socket.connect(sys.argv[1])
socket.recv()
print("watching", flush=True)
while True:
    socket.recv()
"""


class Mirror:
    """Is where it was told to be; reports when it was read, episode by episode."""

    spec = SPEC

    def __init__(self, stamps: Queue) -> None:
        self._stamps = stamps
        self._read_s: list[float] = []
        self._position = self._velocity = float32(SPEC.home)

    def connect(self) -> None:
        """Do nothing."""

    def reset(self) -> None:
        """Be at home."""
        self._position, self._velocity = float32(SPEC.home), float32([0.0, 0.0])
        self._read_s = []

    def read(self) -> dict[str, Array]:
        """Return where it was told to be."""
        self._read_s.append(time.monotonic())
        return {
            "joint_position": self._position.copy(),
            "joint_velocity": self._velocity.copy(),
        }

    def frames(self) -> dict[str, Image]:
        """Return nothing: it has no cameras."""
        return {}

    def apply(self, action: Array) -> Array:
        """Be there."""
        self._velocity = (action - self._position) / np.float32(PERIOD_S)
        self._position = action.copy()
        return action.copy()

    def stop(self) -> None:
        """Stand still, and report an episode that is over."""
        self._velocity = float32([0.0, 0.0])
        read_s, self._read_s = self._read_s, []
        if len(read_s) > 100:
            self._stamps.put(read_s)

    def close(self) -> None:
        """Do nothing."""


class Result(msgspec.Struct, frozen=True):
    """What a run of this benchmark found."""

    pairs: int
    seconds: float
    load_before: float  # average number of processes that wanted a core, last minute
    load_after: float
    floor_ms: dict[str, float]  # periods: p1, p50, p99, max; "off": p99 of |period - 2|
    bare_ms: dict[str, float]
    watched_ms: dict[str, float]
    ratio: float  # of median periods, watched over bare: median over pairs
    overruns: dict[str, int]
    recorded: int  # episodes
    edges_ms: tuple[float, ...]
    floor: list[int]  # periods between two edges
    bare: list[int]
    watched: list[int]


def serve_timed(endpoint: str, stamps: Queue) -> None:
    serve(Mirror(stamps), "benchmark:mirror", endpoint)  # limits follow from SPEC


def empty_loop(seconds: float, stamps: Queue) -> None:
    """Report the ticks of a loop that does nothing but wait for them."""
    clock, ticks = MonotonicClock(), []
    with realtime(PERIOD_S):
        ticker = Ticker(clock, PERIOD_S)
        for _ in range(round(seconds / PERIOD_S)):
            ticker.advance()
            while (left_s := ticker.deadline - clock.now()) > 0:
                if left_s > SPIN_S:
                    select.select([], [], [], left_s - SPIN_S)
            ticks.append(clock.now())
    stamps.put(ticks)


def drive(client: Client, seconds: float) -> None:
    """Answer every reading of one episode."""
    count = round(seconds / PERIOD_S)
    client.begin()
    wave = 0.1 * np.sin(np.arange(count) * 2 * np.pi * 0.5 * PERIOD_S)
    actions = np.stack([wave, -wave], 1).astype(np.float32)
    for action in actions:
        client.step(action)
    client.end()


@contextlib.contextmanager
def everybody(endpoint: str, folder: Path) -> Iterator[RecorderProcess]:
    """Watch: one records, one reads, and one is stuck."""
    with contextlib.ExitStack() as stack:
        recorder = stack.enter_context(RecorderProcess(endpoint, folder))
        where = endpoints.parse(endpoint).watch
        command = [sys.executable, "-c", WATCHER, where]
        both = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
        for watcher in both:
            stack.callback(end, watcher)
        recorder.wait_ready(20.0)
        for watcher in both:
            assert watcher.stdout is not None
            watcher.stdout.readline()
        both[0].send_signal(signal.SIGSTOP)
        time.sleep(SETTLE_S)
        yield recorder


def end(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def periods(stamps: Queue) -> Array:
    """Return the periods [s] of the episode that is over; the first is a reset's."""
    return np.diff(stamps.get(timeout=20.0))[1:]


def floor(seconds: float, stamps: Queue) -> Array:
    """Return the periods of an empty loop in a process of its own."""
    spawn = multiprocessing.get_context("spawn")
    loop = spawn.Process(target=empty_loop, args=(seconds, stamps))
    loop.start()
    try:
        return periods(stamps)
    finally:
        loop.join()


def measure(pairs: int, seconds: float) -> tuple[dict[str, list[Array]], int]:
    """Return the periods of all episodes by kind, and how many were recorded."""
    spawn = multiprocessing.get_context("spawn")
    stamps, recorded = spawn.Queue(), 0
    found: dict[str, list[Array]] = {kind: [] for kind in KINDS}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        endpoint = f"ipc://{folder}/node"
        node = spawn.Process(target=serve_timed, args=(endpoint, stamps))
        node.start()
        stack.callback(node.join)
        stack.callback(node.terminate)
        client = stack.enter_context(Client(endpoint, timeout_s=30.0))
        client.hello()

        def alone() -> None:
            time.sleep(SETTLE_S)
            drive(client, seconds)
            found["bare"].append(periods(stamps))

        def in_company() -> None:
            nonlocal recorded
            with everybody(endpoint, folder) as recorder:
                drive(client, seconds)
                found["watched"].append(periods(stamps))
                recorder.wait_saved(20.0)
                recorded += 1

        for pair in range(pairs + 1):
            found["floor"].append(floor(seconds, stamps))
            for episode in (alone, in_company)[:: 1 if pair % 2 else -1]:
                episode()
    return {kind: each[1:] for kind, each in found.items()}, recorded - 1  # 1: warm-up


def summary(period_s: Array) -> dict[str, float]:
    p1, p50, p99, most = 1e3 * np.percentile(period_s, (1, 50, 99, 100))
    off = 1e3 * np.percentile(np.abs(period_s - PERIOD_S), 99)
    named = {"p1": p1, "p50": p50, "p99": p99, "max": most, "off": off}
    return {name: round(float(value), 4) for name, value in named.items()}


def histogram(period_s: Array) -> list[int]:
    return np.histogram(1e3 * period_s, EDGES_MS)[0].tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--json", type=Path)
    flags = parser.parse_args()
    before = os.getloadavg()[0]
    found, recorded = measure(flags.pairs, flags.seconds)
    both = zip(found["bare"], found["watched"], strict=True)
    ratios = [float(np.median(w) / np.median(b)) for b, w in both]
    kinds = {name: np.concatenate(each) for name, each in found.items()}
    result = Result(
        pairs=flags.pairs,
        seconds=flags.seconds,
        load_before=before,
        load_after=os.getloadavg()[0],
        **{f"{name}_ms": summary(p) for name, p in kinds.items()},
        ratio=float(np.median(ratios)),
        overruns={name: int((p > 1.5 * PERIOD_S).sum()) for name, p in kinds.items()},
        recorded=recorded,
        edges_ms=EDGES_MS,
        **{name: histogram(p) for name, p in kinds.items()},
    )
    if flags.json:
        flags.json.write_bytes(msgspec.json.format(msgspec.json.encode(result)))
    show(result)


def show(result: Result) -> None:
    print(f"load average {result.load_before:.2f} to {result.load_after:.2f}")
    for name in KINDS:
        told = getattr(result, f"{name}_ms")
        words = ", ".join(f"{key} {value:.3f}" for key, value in told.items())
        print(f"{name:>8}: {words} ms; {result.overruns[name]} periods missed")
    print(f"watched over bare, median period: {result.ratio:.5f}")
    print(f"{result.recorded} of {result.pairs} episodes recorded")
    print("  period [ms]     floor      bare   watched")
    columns = [getattr(result, name) for name in KINDS]
    rows = zip(result.edges_ms, result.edges_ms[1:], *columns)  # noqa: B905
    for low, high, *counts in rows:
        print(f"{low:5g} to {high:5g}" + "".join(f"{n:10d}" for n in counts))


if __name__ == "__main__":
    main()
