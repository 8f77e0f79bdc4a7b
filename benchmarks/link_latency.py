"""Round trip over ipc: reading to applied action through a node, against a bare echo.

    python benchmarks/link_latency.py [--pairs 15] [--trips 3000] [--policy numpy]

Three processes, as in reality: this client, a node that serves a trivial robot in
lockstep, and a bare pyzmq REP socket that answers a request of as many bytes as our
command with as many bytes as our reading. One pair is a block of round trips through
each, in turn; the result is the median over pairs of the ratio of their median trips.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
import zmq

from robostack.link.client import Client
from robostack.messages import encode
from robostack.node.serve import Options, serve
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

    def __init__(self) -> None:
        self._position = np.zeros(6, np.float32)
        self._now_s = 0.0

    def connect(self) -> None: ...

    def reset(self) -> None: ...

    def stop(self) -> None: ...

    def close(self) -> None: ...

    def seed(self, seed: int) -> None: ...

    def truth(self) -> dict[str, Array]:
        return {}

    def frames(self) -> dict[str, Image]:
        return {}

    def read(self) -> dict[str, Array]:
        return {"joint_position": self._position, "joint_velocity": self._position}

    def apply(self, action: Array) -> Array:
        self._position = action
        return action

    def now(self) -> float:
        return self._now_s

    def sleep_until(self, deadline: float) -> None:
        self._now_s = deadline


def serve_trivial(endpoint: str) -> None:
    serve(TrivialWorld(), "test:trivial", endpoint, Options(lockstep=True))


def echo(endpoint: str, answer: bytes, over: Event) -> None:
    socket = zmq.Context().socket(zmq.REP)
    socket.setsockopt(zmq.RCVTIMEO, 200)
    socket.bind(endpoint)
    while not over.is_set():
        try:
            socket.recv()
        except zmq.Again:
            continue
        socket.send(answer)


def no_policy(arrays: dict[str, Array]) -> Array:
    """Answer with where the robot is: costs nothing."""
    return arrays["joint_position"]


def numpy_policy() -> Policy:
    """Return a 12-256-256-6 network by hand, a stand-in for a bundle."""
    rng = np.random.default_rng(0)
    sizes = (12, 256, 256, 6)
    pairs = zip(sizes, sizes[1:], strict=False)
    weights = [float32(rng.normal(0, 0.05, pair)) for pair in pairs]

    def act(arrays: dict[str, Array]) -> Array:
        x = np.concatenate([arrays["joint_position"], arrays["joint_velocity"]])
        for weight in weights[:-1]:
            x = np.tanh(x @ weight)
        return x @ weights[-1]

    return act


def node_trips(client: Client, policy: Policy, trips: int) -> list[float]:
    """Return how long [s] each of `trips` took: reading in, action applied, reading."""
    reading, times = client.begin(), []
    for _ in range(trips):
        start = time.perf_counter()
        arrays = {name: t.unpack() for name, t in reading.arrays.items()}
        reading = client.step(policy(arrays))
        times.append(time.perf_counter() - start)
    client.end()
    return times


def echo_trips(
    socket: zmq.Socket[bytes], request: bytes, policy: Policy, trips: int
) -> list[float]:
    """Return how long [s] each of `trips` took; the policy's call is added to it."""
    arrays = TrivialWorld().read()
    times = []
    for _ in range(trips):
        start = time.perf_counter()
        policy(arrays)
        socket.send(request)
        socket.recv()
        times.append(time.perf_counter() - start)
    return times


def compare(pairs: int, trips: int, policy: Policy) -> list[tuple[float, float]]:
    """Return the median trip [s] of (node, echo) of each pair."""
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        node_at, echo_at = (f"ipc://{Path(folder) / n}" for n in ("node", "echo"))
        node = spawn.Process(target=serve_trivial, args=(node_at,))
        node.start()
        with Client(node_at, timeout_s=30.0) as client:
            client.hello()
            reply = encode(client.begin())
            request = encode(client.command(np.zeros(6, np.float32)))
            client.end()
            over = spawn.Event()
            echoer = spawn.Process(target=echo, args=(echo_at, reply, over))
            echoer.start()
            socket = zmq.Context().socket(zmq.REQ)
            socket.setsockopt(zmq.LINGER, 0)
            socket.connect(echo_at)
            print(f"command {len(request)} bytes, reading {len(reply)} bytes")
            medians = [
                (
                    statistics.median(node_trips(client, policy, trips)),
                    statistics.median(echo_trips(socket, request, policy, trips)),
                )
                for _ in range(pairs + 1)
            ]
            over.set()
            echoer.join()
            socket.close()
        node.terminate()
        node.join()
    return medians[1:]  # the first pair warms up


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--trips", type=int, default=3000)
    parser.add_argument("--policy", choices=["none", "numpy"], default="none")
    flags = parser.parse_args()
    policy = numpy_policy() if flags.policy == "numpy" else no_policy
    medians = compare(flags.pairs, flags.trips, policy)
    ratios = sorted(node / bare for node, bare in medians)
    node_us, echo_us = (statistics.median(m) * 1e6 for m in zip(*medians, strict=True))
    print(f"node {node_us:.1f} us, echo {echo_us:.1f} us, medians of {flags.pairs}")
    print(
        f"ratio: median {statistics.median(ratios):.3f}, "
        f"from {ratios[0]:.3f} to {ratios[-1]:.3f}"
    )


if __name__ == "__main__":
    main()
