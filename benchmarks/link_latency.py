"""From reading to applied action over ipc, through a node, against a bare echo.

    python benchmarks/link_latency.py [--policy bundle] [--cores any]

Two processes each, as in reality. The node's robot takes the time from the moment its
sensors are read to the moment an action is applied to it: sensors checked, reading
encoded and sent, received by the client and unpacked, policy called, command encoded
and sent, received, validated, limited. The echo is a pyzmq REQ that sends as many bytes
as our reading to a REP that calls the same policy and answers with as many bytes as our
command. A pair is a block of trips through each, one after the other; the result is the
median over pairs of the ratio of their median trips.

Where the processes run decides much: `apart` gives the answering side a core of its
own, as a robot's computer would; `one` puts all on one core, which makes the bare echo
fastest (nobody wakes another core) and every microsecond of ours count; `any` leaves it
to the scheduler, which does now this and now that.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import NamedTuple

import numpy as np
import zmq
from runtime_step import make_policy, prepare

from robostack.link.client import Client, arrays
from robostack.messages import encode
from robostack.node.serve import Options, serve
from robostack.runtime.session import Session
from robostack.spec import Array, ArraySpec, Image, RobotSpec, float32

JOINTS = tuple(f"joint_{i}" for i in range(6))
SPEC = RobotSpec(
    name="trivial",
    control_period_s=0.002,
    command_timeout_s=0.1,
    control="position",
    tracks="joint_position",
    observation={
        "joint_position": ArraySpec.uniform(JOINTS, "rad", -3.0, 3.0),
        "joint_velocity": ArraySpec.uniform(JOINTS, "rad/s", -9.0, 9.0),
    },
    cameras={},
    action=ArraySpec.uniform(JOINTS, "rad", -3.0, 3.0),
    home=(0.0,) * 6,
    max_action_step=(0.05,) * 6,
    conventions={},
)
Policy = Callable[[dict[str, Array]], Array]


class TrivialWorld:
    """Is where it was told to be, at once: all that is timed is ours."""

    spec = SPEC

    def __init__(self, medians: Queue) -> None:
        self._medians = medians
        self._trips: list[float] = []
        self._position = np.zeros(6, np.float32)
        self._now_s = 0.0
        self._read_s = 0.0

    def connect(self) -> None: ...

    def reset(self) -> None:
        self._trips.clear()

    def stop(self) -> None:
        """Report the block of trips that is over."""
        if self._trips:
            self._medians.put(statistics.median(self._trips))
            self._trips.clear()

    def close(self) -> None: ...

    def seed(self, seed: int) -> None: ...

    def truth(self) -> dict[str, Array]:
        return {}

    def frames(self) -> dict[str, Image]:
        return {}

    def read(self) -> dict[str, Array]:
        self._read_s = time.perf_counter()
        return {"joint_position": self._position, "joint_velocity": self._position}

    def apply(self, action: Array) -> Array:
        self._trips.append(time.perf_counter() - self._read_s)
        self._position = action
        return action

    def now(self) -> float:
        return self._now_s

    def sleep_until(self, deadline: float) -> None:
        self._now_s = deadline


def settle_on(core: int | None) -> None:
    """Keep this process on `core`, if one is given."""
    if core is not None:
        os.sched_setaffinity(0, {core})


def serve_trivial(endpoint: str, medians: Queue, core: int | None) -> None:
    settle_on(core)
    serve(TrivialWorld(medians), "test:trivial", endpoint, Options(lockstep=True))


def echo(
    endpoint: str, answer: bytes, policy: str, over: Event, core: int | None
) -> None:
    """Answer every request, after a call of the policy, until it is over."""
    settle_on(core)
    sensed = np.linspace(-0.1, 0.1, 6, dtype=np.float32)  # zeros would be cheaper
    arrays = {"joint_position": sensed, "joint_velocity": sensed}
    act = POLICIES[policy].bare()
    with zmq.Context() as context, context.socket(zmq.REP) as socket:
        socket.setsockopt(zmq.RCVTIMEO, 200)
        socket.bind(endpoint)
        while not over.is_set():
            try:
                socket.recv()
            except zmq.Again:
                continue
            act(arrays)
            socket.send(answer)


def no_policy() -> Policy:
    """Answer with where the robot is: costs nothing."""
    return lambda arrays: arrays["joint_position"]


def numpy_policy() -> Policy:
    """Return a 12-256-256-6 network by hand, a stand-in for a bundle."""
    rng = np.random.default_rng(0)
    sizes = (12, 256, 256, 6)
    pairs = itertools.pairwise(sizes)
    weights = [float32(rng.normal(0, 0.05, pair)) for pair in pairs]

    def act(arrays: dict[str, Array]) -> Array:
        x = np.concatenate([arrays["joint_position"], arrays["joint_velocity"]])
        for weight in weights[:-1]:
            x = np.tanh(x @ weight)
        return x @ weights[-1]

    return act


def bundle_policy() -> Policy:
    """Return the runtime's step of a real export, IQL's, 12-256-256-6."""
    with tempfile.TemporaryDirectory() as folder:
        return Session(make_policy(SPEC, Path(folder) / "p.onnx"), "cpu").act


def bare_policy() -> Policy:
    """Return a bare ONNX Runtime call of the same graph."""
    with tempfile.TemporaryDirectory() as folder:
        session = Session(make_policy(SPEC, Path(folder) / "p.onnx"), "cpu")
    bare, _ = prepare(session)

    def act(arrays: dict[str, Array]) -> Array:
        return bare.run(None, {name: array[None] for name, array in arrays.items()})[0]

    return act


class Pair(NamedTuple):
    """A policy as our side calls it, and as the echo does."""

    ours: Callable[[], Policy]
    bare: Callable[[], Policy]


CORES = {"apart": (0, 1), "one": (1, 1), "any": (None, None)}
POLICIES = {
    "none": Pair(no_policy, no_policy),
    "numpy": Pair(numpy_policy, numpy_policy),
    "bundle": Pair(bundle_policy, bare_policy),
}


def node_trips(client: Client, policy: Policy, trips: int) -> None:
    """Answer `trips` readings."""
    reading = client.begin()
    for _ in range(trips):
        reading = client.step(policy(arrays(reading.arrays)))
    client.end()


def echo_trips(socket: zmq.Socket[bytes], request: bytes, trips: int) -> float:
    """Return the median [s] of `trips`."""
    times = []
    for _ in range(trips):
        start = time.perf_counter()
        socket.send(request)
        socket.recv()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def compare(
    pairs: int, trips: int, policy: str, cores: tuple[int | None, int | None]
) -> list[tuple[float, float]]:
    """Return the median trip [s] of (node, echo) of each pair."""
    spawn = multiprocessing.get_context("spawn")
    medians, over = spawn.Queue(), spawn.Event()
    act = POLICIES[policy].ours()
    results = []
    ours, theirs = cores
    settle_on(ours)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        node_at, echo_at = (f"ipc://{folder / name}" for name in ("node", "echo"))
        node = spawn.Process(target=serve_trivial, args=(node_at, medians, theirs))
        node.start()
        stack.callback(node.terminate)
        client = stack.enter_context(Client(node_at, timeout_s=30.0))
        client.hello()
        reading = encode(client.begin())
        command = encode(client.command(np.zeros(6, np.float32)))
        client.end()
        print(f"reading {len(reading)} bytes, command {len(command)} bytes")
        arguments = (echo_at, command, policy, over, theirs)
        spawn.Process(target=echo, args=arguments).start()
        stack.callback(over.set)
        context = stack.enter_context(zmq.Context())
        socket = stack.enter_context(context.socket(zmq.REQ))
        socket.connect(echo_at)
        for _ in range(pairs + 1):
            node_trips(client, act, trips)
            results.append((medians.get(), echo_trips(socket, reading, trips)))
    return results[1:]  # the first pair warms up


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--trips", type=int, default=300)
    parser.add_argument("--policy", choices=list(POLICIES), default="none")
    parser.add_argument("--cores", choices=list(CORES), default="apart")
    flags = parser.parse_args()
    cores = CORES[flags.cores]
    medians = compare(flags.pairs, flags.trips, flags.policy, cores)
    ratios = sorted(node / bare for node, bare in medians)
    node_us, echo_us = (statistics.median(m) * 1e6 for m in zip(*medians, strict=True))
    print(f"node {node_us:.1f} us, echo {echo_us:.1f} us, medians of {flags.pairs}")
    print(
        f"ratio: median {statistics.median(ratios):.3f}, "
        f"from {ratios[0]:.3f} to {ratios[-1]:.3f}"
    )


if __name__ == "__main__":
    main()
