"""Learning from logs on disk, against the same logs in memory.

    python benchmarks/streaming.py [--data ../shared/data] [--folder FOLDER]

The logs are halfcheetah-medium-like of gym_rollouts, repeated.

speed    IQL, 256 a batch, one thread; rounds of updates in pairs, in memory and
         streamed in turn, the files in the page cache; the median of the ratios, by
         wall time and by processor time of all threads, which other work cannot change
cold     what reading a batch takes when no page of it is in memory: dropped before
         every eight batches (posix_fadvise), with and without the advice that reads
         are at random
memory   a training in a process of its own, whose private memory may grow by a quarter
         of what loading takes (RLIMIT_DATA); largest private and whole resident size

Mapped pages count as resident as long as nobody else needs the memory; the system
drops them without writing, so it is the private size that has to fit.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import json
import mmap
import resource
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from robostack.data import d4rl
from robostack.data.dataset import Dataset, create, open_dataset
from robostack.data.memory import STATUS, table
from robostack.data.replay import Replay
from robostack.training import offline, recipe
from robostack.training.prefetch import AHEAD, batches
from robostack.training.run import describe, make_learner

SOURCE = "gym_rollouts/halfcheetah-medium-like.hdf5"
COPIES, SEGMENTS = 100, 4
ROUNDS, UPDATES = 9, 100
COLD_ROUNDS = 5
CHILD_UPDATES = 100
PLAN = recipe.read("iql", "", [f"steps={CHILD_UPDATES}"])
KB = 1024


def make(data: Path, folder: Path) -> Dataset:
    """Return the repeated logs in `folder`, written there unless they are."""
    path = data / SOURCE
    spec = d4rl.guess(path)
    dataset = create(folder, spec)
    if not len(dataset):
        episodes = [e._replace(truth={}) for e in d4rl.read(path, spec)]
        for number in range(SEGMENTS):
            copies = COPIES // SEGMENTS
            every = (e for _ in range(copies) for e in episodes)
            dataset.append(every, {"source": path.name, "part": str(number)})
    return dataset


def speed(dataset: Dataset) -> None:
    """Print updates per second, one way and the other in turn."""
    ways = {s: Replay.from_dataset(dataset, stream=s) for s in (False, True)}
    learners = {
        s: make_learner(describe(PLAN, 0, dataset, replay))
        for s, replay in ways.items()
    }
    took: dict[bool, list[tuple[float, float]]] = {s: [] for s in ways}
    for number in range(ROUNDS):
        order = (False, True) if number % 2 else (True, False)
        for s in order:
            with batches(ways[s], np.random.default_rng(number), 256) as draw:
                start = time.perf_counter(), time.process_time()
                for _ in range(UPDATES):
                    learners[s].update(draw())
                end = time.perf_counter(), time.process_time()
            took[s].append((end[0] - start[0], end[1] - start[1]))
    assert learners[False].state() == learners[True].state()
    held, streamed = np.array(took[False]), np.array(took[True])
    for name, ratio in zip(("wall", "processor"), (held / streamed).T, strict=True):
        low, middle, high = np.quantile(ratio, (0.25, 0.5, 0.75))
        print(f"speed by {name} time, streamed: {middle:.3f} ({low:.3f} to {high:.3f})")
    rate = UPDATES / np.median(held, axis=0)
    print(f"in memory: {rate[0]:.0f} updates a second, {rate[1]:.0f} of the processor")


def cold(dataset: Dataset) -> None:
    """Print what a batch takes of which nothing is in memory."""
    for advised in (False, True):
        fresh = open_dataset(dataset.path)
        replay = Replay.from_dataset(fresh, stream=True)
        if advised:
            assert replay.statistics
        took, size, rng = 0.0, 0, np.random.default_rng(0)
        with ThreadPoolExecutor(AHEAD) as pool:
            for _ in range(COLD_ROUNDS):
                _drop(fresh, replay)
                before, start = _bytes_read(), time.perf_counter()
                drawn = [replay.draw(rng, 256) for _ in range(AHEAD)]
                list(pool.map(replay.gather, drawn))
                took += time.perf_counter() - start
                size += _bytes_read() - before
        count = COLD_ROUNDS * AHEAD
        words = "advised" if advised else "not advised"
        print(
            f"cold, {words}: {took / count * 1e3:.1f} ms and {size / count / 1e6:.1f} "
            f"MB read a batch"
        )


def _drop(dataset: Dataset, replay: Replay) -> None:
    """Have the system forget what it has read of the files."""
    store = replay._store
    for mapping in store.mappings():  # type: ignore[attr-defined]
        mapping.madvise(mmap.MADV_DONTNEED)  # the pages leave this process
    for path in dataset.path.rglob("*.npy"):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def _bytes_read() -> int:
    return table(Path("/proc/self/io"))["read_bytes"]


def memory(dataset: Dataset) -> None:
    """Print what trainings take, and which of them end, under a limit."""
    size = _loaded_size(dataset)
    for limit in (0, size // 4):
        for way in ("memory", "stream", "auto"):
            command = [sys.executable, __file__, "--folder", str(dataset.path)]
            command += ["--child", way, "--limit", str(limit)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            said = done.stdout.splitlines() or done.stderr.splitlines()
            words = f"{limit / 1e6:.0f} MB more" if limit else "no limit"
            print(f"memory, {size / 1e6:.0f} MB to load, {words}, {way}: {said[-1]}")


def _loaded_size(dataset: Dataset) -> int:
    rows = sum(item.length + 1 for item in dataset.episodes)
    spec = dataset.spec
    return 4 * rows * (spec.observation_size + spec.action.size + 1)


def child(dataset: Dataset, way: str, limit: int) -> None:
    """Train, and print the largest sizes since all modules are there."""
    with tempfile.TemporaryDirectory() as folder:
        small = create(Path(folder) / "small", dataset.spec)
        small.append([dataset.episode(0)], {})
        offline.train(small, Path(folder) / "warm", PLAN)
        base = _private()
        if limit:
            most = table(STATUS)["VmData"] * KB + limit
            resource.setrlimit(resource.RLIMIT_DATA, (most, most))
        peaks, done = [base], threading.Event()

        def watch() -> None:
            while not done.wait(0.02):
                peaks.append(_private())

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            stream = {"memory": False, "stream": True, "auto": None}[way]
            options = offline.Options(stream=stream)
            offline.train(dataset, Path(folder) / "run", PLAN, options)
            words = f"{CHILD_UPDATES} updates done"
        except MemoryError as error:
            words = f"failed: {error}"
        finally:
            done.set()
            watcher.join()
    whole = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KB
    about = {
        "private_growth_mb": round((max(peaks) - base) / 1e6),
        "resident_mb": round(whole / 1e6),
    }
    print(f"{words}; {json.dumps(about)}")


def _private() -> int:
    return table(STATUS)["RssAnon"] * KB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--child", choices=("memory", "stream", "auto"))
    parser.add_argument("--limit", type=int, default=0)
    flags = parser.parse_args()
    if flags.child:
        child(open_dataset(flags.folder), flags.child, flags.limit)
        return
    with tempfile.TemporaryDirectory() as folder:
        dataset = make(flags.data, flags.folder or Path(folder) / "logs")
        memory(dataset)
        cold(dataset)  # before anybody else has mapped the files: pages would stay
        speed(dataset)


if __name__ == "__main__":
    main()
