"""A node at work for an hour: steady periods, flat memory, readable recordings.

    python tests/faults/soak.py --minutes 60 --json soak.json

A node serves the fake robot from a process of its own; a client answers every reading,
in episodes of a minute; a recorder process writes them, and a watcher counts what it
hears. Once a second the resident memory and the open files of node and recorder are
noted. It passes if memory and files of both are flat from the first quarter to the
last, every episode can be read and is as long as the client's, and the 99th percentile
of the period is within a quarter of the control period.
"""

from __future__ import annotations

import argparse
import array
import contextlib
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import zmq

from robostack.data import recording
from robostack.link import endpoints
from robostack.link.client import Client
from robostack.link.errors import LeftError
from robostack.messages import Step, decode_watch
from robostack.node.embedded import subprocess_node
from robostack.node.recorder_process import RecorderProcess
from robostack.spec import Array, RobotSpec, float32

EPISODE_S = 60.0
_GROWTH = 0.05  # of memory, from the first quarter to the last, and
_GROWTH_MB = 2.0  # what an allocator may keep
_PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 1e6
_PARTS = (0, 0.5, 0.75, 0.9, 0.95, 0.98, 1.02, 1.05, 1.1, 1.25, 1.5, 2, 5, 1e6)


class Vitals(msgspec.Struct):
    """What a process holds, once a second."""

    pid: int
    memory_mb: list[float] = []
    files: list[int] = []

    def note(self) -> None:
        statm = Path(f"/proc/{self.pid}/statm").read_text().split()
        self.memory_mb.append(round(int(statm[1]) * _PAGE_MB, 3))
        self.files.append(len(os.listdir(f"/proc/{self.pid}/fd")))

    def growth(self) -> str:
        """Return what grew between the quarter after the start and the last one."""
        quarter = max(1, len(self.files) // 4)
        early, late = slice(quarter, 2 * quarter), slice(-quarter, None)
        before, after = (float(np.median(self.memory_mb[s])) for s in (early, late))
        if after > before * (1 + _GROWTH) + _GROWTH_MB:
            return f"memory grew from {before:.1f} to {after:.1f} MB"
        open_before, open_after = (max(self.files[s]) for s in (early, late))
        if open_after > open_before:
            return f"open files grew from {open_before} to {open_after}"
        return ""


class Report(msgspec.Struct):
    """What a soak found."""

    seconds: float
    period_s: float
    load: float
    periods_ms: dict[str, float]  # p1, p50, p99, p999, max
    edges_ms: list[float]
    histogram: list[int]
    steps: int  # that the client answered
    heard: int  # by the watcher
    skipped: int  # readings that the client was too late for
    left: list[str]  # why the node ended episodes by itself
    recordings: int
    vitals: dict[str, Vitals]
    wrong: list[str]


class Watcher:
    """Counts the steps on a watch socket, from a thread."""

    def __init__(self, endpoint: str) -> None:
        self.heard = 0
        self._where = endpoints.parse(endpoint).watch
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen)

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _listen(self) -> None:
        with zmq.Context() as context, context.socket(zmq.SUB) as socket:
            socket.subscribe(b"")
            socket.connect(self._where)
            while not self._over.is_set():
                if socket.poll(50):
                    self.heard += isinstance(decode_watch(socket.recv()), Step)


class Driver:
    """Answers every reading, and notes when they were taken."""

    def __init__(self, client: Client, robot: RobotSpec) -> None:
        self.client = client
        self.robot = robot
        self.periods_s = array.array("d")
        self.lengths: list[int] = []  # of the episodes that it ended
        self.left: list[str] = []
        self.steps = self.skipped = 0

    def episode(self, seconds: float, every_second: Callable[[], None]) -> None:
        """Drive one episode."""
        try:
            self._drive(seconds, every_second)
            self.lengths.append(self.client.end().steps)
        except LeftError as error:
            self.left.append(str(error))

    def _wave(self, seconds: float) -> Array:
        """Return an action (A,) that swings about home."""
        spec = self.robot.action
        swing = 0.1 * (float32(spec.high) - float32(spec.low)) * np.sin(0.5 * seconds)
        return spec.clip(float32(float32(self.robot.home) + swing))

    def _drive(self, seconds: float, every_second: Callable[[], None]) -> None:
        reading = self.client.begin()
        start = noted = time.monotonic()
        while (now := time.monotonic()) - start < seconds:
            after = self.client.step(self._wave(now - start))
            self.steps += 1
            if after.seq == reading.seq + 1:
                self.periods_s.append(after.stamp_s - reading.stamp_s)
            else:
                self.skipped += after.seq - reading.seq - 1
            reading = after
            if now - noted >= 1:
                noted = now
                every_second()


def soak(seconds: float, address: str = "hardware:fake") -> Report:
    """Run everything for `seconds`; return what was found."""
    episode_s = min(EPISODE_S, seconds / 4)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        node = stack.enter_context(subprocess_node(address))
        recorder = stack.enter_context(RecorderProcess(node.endpoint, folder))
        recorder.wait_ready(20.0)
        watcher = stack.enter_context(Watcher(node.endpoint))
        client = stack.enter_context(Client(node.endpoint, timeout_s=10.0))
        robot = client.hello().robot
        vitals = {"node": Vitals(node.process.pid), "recorder": Vitals(recorder.pid)}

        def note() -> None:
            for one in vitals.values():
                one.note()

        driver, start = Driver(client, robot), time.monotonic()
        while (left_s := seconds - (time.monotonic() - start)) > 0:
            driver.episode(min(episode_s, left_s), note)
        client.close()
        recorder.stop()
        wrong = [f"{k}: {v.growth()}" for k, v in vitals.items() if v.growth()]
        wrong += unreadable(recorder.saved, driver)
    return report(driver, watcher, vitals, wrong, len(recorder.saved))


def unreadable(saved: list[Path], driver: Driver) -> list[str]:
    """Return what is wrong with the recordings."""
    wrong, lengths = [], []
    for path in saved:
        try:
            lengths.append(recording.load(path).episode.length)
        except (ValueError, OSError) as error:
            wrong.append(f"{path.name}: {error}")
    if len(saved) != len(driver.lengths) + len(driver.left):
        wrong.append(f"{len(saved)} recordings of {len(driver.lengths)} episodes")
    missing = [n for n in driver.lengths if n not in lengths]
    if missing:
        wrong.append(f"recorded are {lengths} steps, driven were {driver.lengths}")
    return wrong


def report(
    driver: Driver,
    watcher: Watcher,
    vitals: dict[str, Vitals],
    wrong: list[str],
    recordings: int,
) -> Report:
    """Return all of it in numbers."""
    period_s = driver.robot.control_period_s
    periods_ms = 1e3 * np.asarray(driver.periods_s)
    names = ("p1", "p50", "p99", "p999", "max")
    values = np.percentile(periods_ms, (1, 50, 99, 99.9, 100)).tolist()
    told = {name: round(x, 4) for name, x in zip(names, values, strict=True)}
    if not 0.75e3 * period_s <= told["p1"] <= told["p99"] <= 1.25e3 * period_s:
        wrong.append(f"periods from {told['p1']} to {told['p99']} ms in 98 of 100")
    edges = [1e3 * period_s * part for part in _PARTS]
    return Report(
        seconds=float(np.sum(driver.periods_s)),
        period_s=period_s,
        load=os.getloadavg()[0],
        periods_ms=told,
        edges_ms=edges,
        histogram=np.histogram(periods_ms, edges)[0].tolist(),
        steps=driver.steps,
        heard=watcher.heard,
        skipped=driver.skipped,
        left=driver.left,
        recordings=recordings,
        vitals=vitals,
        wrong=wrong,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--robot", default="hardware:fake")
    parser.add_argument("--json", type=Path, default=Path("soak.json"))
    flags = parser.parse_args()
    found = soak(60 * flags.minutes, flags.robot)
    flags.json.write_bytes(msgspec.json.format(msgspec.json.encode(found)))
    words = [f"{name} {value:.3f}" for name, value in found.periods_ms.items()]
    lines = [
        f"{found.seconds:.0f} s, {found.steps} steps, {found.heard} heard, "
        f"{found.recordings} recordings, load average {found.load:.1f}",
        f"period {', '.join(words)} ms; {found.skipped} readings skipped, "
        f"{len(found.left)} episodes left by the node",
        *(
            f"{name}: {one.memory_mb[len(one.files) // 4]:.1f} to "
            f"{one.memory_mb[-1]:.1f} MB, {one.files[0]} to {one.files[-1]} files"
            for name, one in found.vitals.items()
        ),
        *(f"WRONG: {words}" for words in found.wrong),
        "passed" if not found.wrong else "failed",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
