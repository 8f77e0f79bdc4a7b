"""Clients that want the arm to break: does it ever leave its limits?

    python tests/faults/hostile.py                      # a minute by hand, one by sockets
    python tests/faults/hostile.py --minutes 10

Against a node on the bench, whose time is moved by hand, and against a real one, with
its threads and sockets in real time, they send what is random, bang-bang, ramped, not
finite, huge, tiny, misshapen, replayed, reordered, stale, of another generation, ten
times as much as asked for, and nothing. After a fault somebody local clears it. What
counts is the path of the joints at physics steps (1 ms).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import msgspec
import numpy as np
from node_bench import Bench
from robot_examples import LockstepFake

from robostack.clock import MonotonicClock
from robostack.hardware import fake
from robostack.hardware.fake.driver import FakeRobot
from robostack.hardware.fake.joints import TICK_S
from robostack.link.client import Client, arrays
from robostack.link.errors import LeftError, LinkError
from robostack.messages import Command, Reading, Tensor
from robostack.node.embedded import embedded
from robostack.node.serve import Options

LIMITS = fake.limits()
TOLERANCE = 1e-3  # parts of a limit; float32 targets alone take 1e-4 of the jerk's
BOUNDS = np.array([LIMITS.low, LIMITS.high])
MOTION = [LIMITS.velocity, LIMITS.acceleration, LIMITS.jerk]


class Peaks:
    """The largest parts of the limits that a path took."""

    def __init__(self) -> None:
        self.parts = np.zeros(4)  # position, velocity, acceleration, jerk
        self.way = 0.0  # [rad]

    def add(self, path) -> None:
        """Look at a piece (T, 2) of the path."""
        middle, half = BOUNDS.mean(axis=0), np.diff(BOUNDS, axis=0)[0] / 2
        parts = [np.abs((path - middle) / half).max()]
        for n, most in enumerate(MOTION, start=1):
            size = np.abs(np.diff(path, n=n, axis=0)) / TICK_S**n / most
            parts.append(size.max(initial=0.0))
        self.parts = np.maximum(self.parts, parts)
        self.way += float(np.abs(np.diff(path[2:], axis=0)).sum())


class Tally(NamedTuple):
    """What hostile clients sent, and what came of it."""

    seconds: float
    peaks: Peaks
    sent: Counter[str]
    refused: Counter[str]
    left: Counter[str]  # states the node went to by itself
    applied: int
    clamped: int
    episodes: int
    bridged: int  # beats in which the joints' own controller had to brake
    led: int  # beats in which it had to lead back


class Attack:
    """Gives the commands of one period, one kind of malice for a while."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._old: list[Command] = []
        self._kind, self._left, self._seen = "polite", 0, 0
        self._goal = np.zeros(2)
        self.sent: Counter[str] = Counter()

    def begin(self) -> None:
        """Start an episode: where commands are too far they are only refused."""
        self._kind, self._left, self._seen = "polite", 3, 0

    def commands(self, reading: Reading, session: str) -> list[Command]:
        """Return what to send in answer to `reading`."""
        position = arrays(reading.arrays)["joint_position"]
        self._left, self._seen = self._left - 1, self._seen + 1
        if self._left < 0:
            self._kind = str(self._random.choice(KINDS, p=WEIGHTS))
            self._left = int(self._random.integers(1, 40))
            self._goal = self._random.uniform(-1.5, 1.5, 2)
        commands = self._malice(reading, session, position)
        self.sent[self._kind] += len(commands)
        self._old = [*self._old, *commands][-50:]
        return commands

    def _malice(self, reading, session, position) -> list[Command]:
        def command(values, **fields) -> Command:
            action = values
            if not isinstance(values, Tensor):
                action = Tensor.pack(np.asarray(values, np.float32))
            good = Command(
                session, reading.generation, reading.seq, 0.0, 9.0, False, action
            )
            return msgspec.structs.replace(good, **fields)

        def anywhere():
            return self._random.uniform(-1.6, 1.6, 2)

        k, random, kind = self._seen, self._random, self._kind
        with np.errstate(over="ignore"):
            table = {
                "polite": lambda: [command(position)],
                "random": lambda: [command(anywhere())],
                "bang-bang": lambda: [command([1.5 * (-1) ** (k // 12)] * 2)],
                "far": lambda: [command(self._goal)],
                "ramp": lambda: [command(position + 0.2 * np.sign(self._goal))],
                "sine": lambda: [command(1.4 * np.sin([0.1 * k, 0.2 * k]))],
                "tiny": lambda: [command([1e-42, -1e-42])],
                "huge": lambda: [command([1e30, -3e38])],
                "not finite": lambda: [command(random.choice(NOT_FINITE, 2))],
                "misshapen": lambda: [command(MISSHAPEN[k % len(MISSHAPEN)])],
                "replayed": lambda: [command(self._goal), *self._old[-20:]],
                "reordered": lambda: [
                    *(self._old[i] for i in random.permutation(len(self._old))),
                    command(anywhere()),
                ],
                "stale": lambda: [command(anywhere(), seq=reading.seq - 30)],
                "ttl": lambda: [command(anywhere(), ttl_s=-1.0)],
                "generation": lambda: [command(anywhere(), generation=k)],
                "unknown": lambda: [command(anywhere(), seq=reading.seq + 5)],
                "tenfold": lambda: [
                    command(anywhere(), seq=reading.seq - i) for i in range(9, -1, -1)
                ],
                "late": lambda: (
                    [command(self._goal, seq=reading.seq - 1)] if k % 2 else []
                ),
                "silent": list,
                "gaps": lambda: [command(self._goal)] if k % 4 == 0 else [],
            }
            return list(table[kind]())


NOT_FINITE = [np.nan, np.inf, -np.inf, 0.0]
MISSHAPEN = [
    Tensor.pack(np.zeros(3, np.float32)),
    Tensor.pack(np.zeros(2, np.float64)),
    Tensor.pack(np.zeros((2, 1), np.float32)),
    Tensor("<f4", (2,), b"123"),
    Tensor("<f4", (-1,), b"12345678"),
]
_RARE = ("not finite", "misshapen", "huge", "silent")
KINDS = [
    "polite", "random", "bang-bang", "far", "ramp", "sine", "tiny", "huge",
    "not finite", "misshapen", "replayed", "reordered", "stale", "ttl", "generation",
    "unknown", "tenfold", "late", "silent", "gaps",
]  # fmt: skip
_SHARES = np.array([0.3 if kind in _RARE else 1.0 for kind in KINDS])
WEIGHTS = _SHARES / _SHARES.sum()


def by_hand(seconds: float, seed: int = 0) -> Tally:
    """Attack a node on the bench for `seconds` of its own time."""
    robot = LockstepFake()
    bench = Bench(robot, LIMITS, lockstep=False)
    attack, peaks, left = Attack(seed), Peaks(), Counter()
    random = np.random.default_rng(seed)
    refused, applied, clamped, episodes = Counter(), 0, 0, 0
    peaks.add(robot.path())
    while robot.now() < seconds:
        machine = bench.machine
        if machine.state != "active":
            bench.supervisor.clear("hostile.py") if machine.latched else None
            if not isinstance(bench.begin(), Reading):
                raise RuntimeError(f"no episode: {machine.cause}")
            attack.begin()
            episodes += 1
            peaks.add(robot.path())
        deadline = robot.now() + bench.pilot.period_s
        commands = attack.commands(bench.reading, bench.session)
        for at in np.sort(random.uniform(0, 0.9, len(commands))).tolist():
            robot.clock.sleep_until(deadline - (1 - at) * bench.pilot.period_s)
            bench.say(commands.pop(0))
            applied += bench.moved
        robot.clock.sleep_until(deadline)
        bench.supervisor.guard()
        counts = bench.journal.counts
        if machine.state == "active" and bench.service.observe():
            bench.reading = bench.wire.answers[b"me"][-1]
            clamped += bench.reading.clamped
            if episodes % 50 == 0 or len(bench.wire.answers[b"me"]) > 500:
                bench.wire.answers[b"me"] = bench.wire.answers[b"me"][-1:]
        if machine.state != "active":
            left[machine.state] += 1
            refused.update(counts.refused)
            bench.watcher.messages.clear()
        peaks.add(robot.path())
    return Tally(
        robot.now(), peaks, attack.sent, refused, left, applied, clamped, episodes,
        robot.plant.bridged, robot.plant.led,
    )  # fmt: skip


def by_sockets(seconds: float, seed: int = 0) -> Tally:
    """Attack a node with its threads and sockets for `seconds` of real time."""
    robot, clock = FakeRobot(), MonotonicClock()
    attack, peaks, left = Attack(seed), Peaks(), Counter()
    refused, clamped, episodes = Counter(), 0, 0
    end = clock.now() + seconds
    peaks.add(robot.path())
    options = Options(limits=LIMITS)
    with embedded(robot, options=options) as node, Client(node.endpoint) as client:
        client.hello()
        supervisor = node.node.supervisor
        while clock.now() < end:
            reading = client.begin()
            attack.begin()
            episodes += 1
            stop = clock.now() + 20.0
            try:
                while clock.now() < min(stop, end):
                    for command in attack.commands(reading, client.session):
                        client.send(command)
                    reading = client.receive(1.0)
                    clamped += reading.clamped
                    peaks.add(robot.path())
                refused.update(client.end(reason="enough").refused)
            except LeftError:
                left[supervisor.machine.state] += 1
                refused.update(node.node.journal.counts.refused)
            except LinkError as error:
                left[str(error)] += 1
            if supervisor.machine.latched:
                supervisor.clear("hostile.py")
            peaks.add(robot.path())
        time.sleep(0.5)
        peaks.add(robot.path())
    return Tally(
        seconds, peaks, attack.sent, refused, left,
        attack.sent.total() - refused.total(), clamped, episodes,
        robot.plant.bridged, robot.plant.led,
    )  # fmt: skip


def told(name: str, tally: Tally) -> str:
    """Return a tally in words."""
    parts = ("position", "velocity", "acceleration", "jerk")
    figures = ", ".join(
        f"{part} {x:.4f}" for part, x in zip(parts, tally.peaks.parts, strict=True)
    )
    kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(tally.sent.items()))
    refused = ", ".join(f"{n} {cause}" for cause, n in sorted(tally.refused.items()))
    left = ", ".join(f"{n} {state}" for state, n in sorted(tally.left.items()))
    return (
        f"{name}: {tally.seconds:.0f} s, {tally.episodes} episodes, the joints went "
        f"{tally.peaks.way:.0f} rad\n"
        f"  largest parts of the limits, at physics steps: {figures}\n"
        f"  sent {tally.sent.total()}: {kinds}\n"
        f"  refused {tally.refused.total()}: {refused}\n"
        f"  applied {tally.applied}, clamped {tally.clamped}; left ACTIVE for: {left}\n"
        f"  beats missed by the node: {tally.bridged}, after which the joints' own "
        f"controller led {tally.led}"
    )


def within(tally: Tally) -> bool:
    """Return whether the joints never left their limits."""
    return bool((tally.peaks.parts <= 1 + TOLERANCE).all())


def main() -> int:
    """Attack; return 1 if a limit was left."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1.0, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()
    good = True
    for name, attack in (("by hand", by_hand), ("by sockets", by_sockets)):
        tally = attack(60 * flags.minutes, flags.seed)
        print(told(name, tally), flush=True)
        good = good and within(tally)
    print("no limit was left" if good else "A LIMIT WAS LEFT")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
