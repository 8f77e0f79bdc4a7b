"""SIGKILL a commanding client at random moments; how long until the node holds?

python tests/faults/kills.py --kills 200

By the node's clock, which on one computer is also ours: from the last command that it
applied to the end of the episode, which it closes as it goes to HOLD. The promise is a
command's time-to-live and one control period. Prints the distribution; exit code 0 if
the promise was kept in all.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import zmq
from vitals import GOOD_CLIENT, serving

from robostack import plugins
from robostack.link import endpoints
from robostack.messages import Closed, Event, Opened, Step, Watch, decode_watch

SPEC = plugins.load("hardware", "fake").spec("")
TTL_S = SPEC.command_timeout_s
PROMISE_S = TTL_S + SPEC.control_period_s
_PATIENCE_S = 20.0


class Kill(NamedTuple):
    """One death, in the node's time."""

    commanded_s: float  # from the last applied command to HOLD
    answered_s: float  # from the reading which that command answered to HOLD
    killed_s: float  # from the signal to HOLD
    cause: str


class Ear:
    """Hears what a node tells its watchers."""

    def __init__(self, endpoint: str) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.subscribe(b"")
        self._socket.connect(endpoints.parse(endpoint).watch)

    def until(self, kind: type[Watch] | tuple[type[Watch], ...]) -> list[Watch]:
        """Return all messages up to the first of `kind`."""
        heard, deadline = [], time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            if self._socket.poll(100):
                heard.append(decode_watch(self._socket.recv()))
                if isinstance(heard[-1], kind):
                    return heard
        raise AssertionError(f"expected {kind} within {_PATIENCE_S} s")

    def until_stamp(self, stamp_s: float) -> Iterator[Watch]:
        """Yield all messages up to the first of the node's time `stamp_s`."""
        message = None
        while message is None or message.stamp_s < stamp_s:
            message = self.until((Opened, Step, Event, Closed))[-1]
            yield message

    def close(self) -> None:
        """Stop listening."""
        self._context.destroy(linger=0)


@contextlib.contextmanager
def driving(endpoint: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a client that commands, until it is killed."""
    command = [sys.executable, str(GOOD_CLIENT), endpoint]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def kill(endpoint: str, ear: Ear, after_s: float) -> Kill:
    """Start a client, kill it `after_s` after its first step, and wait for HOLD."""
    with driving(endpoint) as client:
        ear.until(Opened)
        heard = ear.until(Step)
        time.sleep(after_s)
        client.send_signal(signal.SIGKILL)
        killed_s = time.monotonic()
        heard += ear.until(Closed)
    closed = heard[-1]
    assert isinstance(closed, Closed)
    last = [m for m in heard if isinstance(m, Step) and m.requested is not None][-1]
    return Kill(
        closed.stamp_s - (last.stamp_s + last.age_s),
        closed.stamp_s - last.stamp_s,
        closed.stamp_s - killed_s,
        closed.reason,
    )


def distribution(kills: list[Kill]) -> str:
    """Return the figures in lines for people."""
    rows = []
    for name in ("commanded_s", "answered_s", "killed_s"):
        seconds = np.array([getattr(k, name) for k in kills])
        low, p50, p99, high = np.percentile(seconds, (0, 50, 99, 100)) * 1e3
        rows.append(
            f"{name:<12} to HOLD [ms]: min {low:.1f}, p50 {p50:.1f}, p99 {p99:.1f}, "
            f"max {high:.1f}"
        )
    return "\n".join(rows)


def main() -> int:
    """Kill; return 0 if the promise was kept in all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    moments = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as node:
        ear = Ear(node.endpoint)
        with contextlib.closing(ear):
            kills = [
                kill(node.endpoint, ear, moments.uniform(0.0, 0.5))
                for _ in range(given.kills)
            ]
    kept = sum(k.commanded_s <= PROMISE_S for k in kills)
    print(distribution(kills))
    print(f"{kept} of {len(kills)} within {PROMISE_S * 1e3:.0f} ms (time-to-live + 1)")
    return 0 if kept == len(kills) else 1


if __name__ == "__main__":
    sys.exit(main())
