"""Clients that want the arm to break: does it ever leave its limits?

    python tests/faults/hostile.py          # a minute by hand, and one by sockets
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
from collections import Counter
from pathlib import Path

sys.path += [str(Path(__file__).resolve().parents[i]) for i in (0, 1)]

import numpy as np
from malice import Attack
from node_bench import Bench
from robot_examples import LockstepFake

from robostack.clock import MonotonicClock
from robostack.hardware import fake
from robostack.hardware.fake.driver import FakeRobot
from robostack.hardware.fake.joints import TICK_S
from robostack.link.client import Client
from robostack.link.errors import LeftError
from robostack.messages import Reading
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


class Tally:
    """What hostile clients sent, and what came of it."""

    def __init__(self, name: str, robot: FakeRobot, seed: int) -> None:
        self.name, self.robot = name, robot
        self.attack, self.peaks = Attack(seed), Peaks()
        self.refused: Counter[str] = Counter()
        self.left: Counter[str] = Counter()  # states the node went to by itself
        self.clamped = self.episodes = 0
        self.seconds = 0.0
        self.look()

    def look(self) -> None:
        """Judge the path since the last look."""
        self.peaks.add(self.robot.path())

    def begin(self) -> None:
        """Count an episode that was opened."""
        self.attack.begin()
        self.episodes += 1
        self.look()

    def leave(self, state: str, refused: dict[str, int]) -> None:
        """Count an episode that the node ended."""
        self.left[state] += 1
        self.refused.update(refused)
        self.look()

    @property
    def within(self) -> bool:
        """Whether the joints never left their limits."""
        return bool((self.peaks.parts <= 1 + TOLERANCE).all())

    def __str__(self) -> str:
        names = ("position", "velocity", "acceleration", "jerk")
        parts = zip(names, self.peaks.parts, strict=True)
        figures = ", ".join(f"{name} {x:.4f}" for name, x in parts)
        sent, plant = self.attack.sent, self.robot.plant
        applied = sent.total() - self.refused.total()
        return (
            f"{self.name}: {self.seconds:.0f} s, {self.episodes} episodes, the joints "
            f"went {self.peaks.way:.0f} rad\n"
            f"  largest parts of the limits, at physics steps: {figures}\n"
            f"  sent {sent.total()}: {listed(sent)}\n"
            f"  applied {applied} ({self.clamped} periods clamped), refused "
            f"{self.refused.total()}: {listed(self.refused)}\n"
            f"  the node left ACTIVE by itself: {listed(self.left)}\n"
            f"  periods the node missed, and the joints' controller bridged: "
            f"{plant.bridged}; led back after: {plant.led}"
        )


def listed(counts: Counter[str]) -> str:
    """Return counts in words."""
    return ", ".join(f"{n} {name}" for name, n in sorted(counts.items()))


def by_hand(seconds: float, seed: int = 0) -> Tally:
    """Attack a node on the bench for `seconds` of its own time."""
    robot = LockstepFake()
    bench = Bench(robot, LIMITS, lockstep=False)
    random, tally = np.random.default_rng(seed), Tally("by hand", robot, seed)
    while robot.now() < seconds:
        if bench.machine.state != "active":
            open_on_bench(bench)
            tally.begin()
        commands = tally.attack.commands(bench.reading, bench.session)
        offsets = np.sort(random.uniform(0, 0.9, len(commands))).tolist()
        start, period_s = robot.now(), bench.pilot.period_s
        for command, at in zip(commands, offsets, strict=True):
            robot.clock.sleep_until(start + at * period_s)
            bench.say(command)
        robot.clock.sleep_until(start + period_s)
        bench.supervisor.guard()
        if bench.machine.state == "active" and bench.service.observe():
            bench.reading = bench.wire.answers[b"me"][-1]
            tally.clamped += bench.reading.clamped
        if bench.machine.state != "active":
            tally.leave(bench.machine.state, bench.journal.counts.refused)
        tally.look()
    tally.refused.update(bench.end().refused if bench.machine.state == "active" else {})
    tally.seconds = robot.now()
    return tally


def open_on_bench(bench: Bench) -> None:
    """Clear what latched, and open the next episode."""
    if bench.machine.latched:
        bench.supervisor.clear("hostile.py")
    bench.watcher.messages.clear()
    bench.wire.answers.clear()
    if not isinstance(bench.begin(), Reading):
        raise RuntimeError(f"expected an episode, got {bench.machine.cause}")


def by_sockets(seconds: float, seed: int = 0) -> Tally:
    """Attack a node with its threads and sockets for `seconds` of real time."""
    robot, clock = FakeRobot(), MonotonicClock()
    tally, end = Tally("by sockets", robot, seed), clock.now() + seconds
    options = Options(limits=LIMITS)
    with embedded(robot, options=options) as node, Client(node.endpoint) as client:
        client.hello()
        supervisor, journal = node.node.supervisor, node.node.journal
        while clock.now() < end:
            try:
                drive(client, tally, end)
            except LeftError:
                tally.leave(supervisor.machine.state, journal.counts.refused)
            if supervisor.machine.latched:
                supervisor.clear("hostile.py")
    tally.look()
    tally.seconds = seconds
    return tally


def drive(client: Client, tally: Tally, end: float) -> None:
    """Attack for one episode; LeftError says that the node ended it."""
    reading = client.begin()
    tally.begin()
    clock = MonotonicClock()
    while clock.now() < end:
        for command in tally.attack.commands(reading, client.session):
            client.send(command)
        reading = client.receive(2.0)
        tally.clamped += reading.clamped
        tally.look()
    tally.refused.update(client.end(reason="enough").refused)


def main() -> int:
    """Attack; return 1 if a limit was left."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1.0, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()
    good = True
    for attack in (by_hand, by_sockets):
        tally = attack(60 * flags.minutes, flags.seed)
        print(tally, flush=True)
        good = good and tally.within
    print("no limit was left" if good else "A LIMIT WAS LEFT")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
