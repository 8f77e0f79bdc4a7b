"""Whatever happens to the commands on their way, the node applies no bad one."""

from __future__ import annotations

import contextlib
import socket as tcp
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from node_bench import Bench
from proxy import KINDS, Fate, Meddler, complaints, proxied, signed_action
from robot_examples import LockstepFake
from vitals import free_port, make_keys

from robostack.hardware.fake.driver import FakeRobot
from robostack.limits import derive
from robostack.link import keys
from robostack.link.client import Client
from robostack.link.errors import LinkError
from robostack.messages import Step, encode
from robostack.node.embedded import embedded
from robostack.node.serve import Options

pytestmark = pytest.mark.alone

SPEC = FakeRobot.spec
HONEST = [kind for kind in KINDS if kind != "corrupt"]


def fates(kinds):
    fate = st.builds(Fate, st.sampled_from(kinds), st.integers(0, 1 << 16))
    return st.lists(fate, min_size=1, max_size=80)


class WatchedFake(LockstepFake):
    """Remembers where it was, each time somebody looked."""

    def __init__(self) -> None:
        super().__init__()
        self.path = []

    def sleep_until(self, deadline):
        while self.clock.now() < deadline - 1e-9:
            self.clock.sleep_until(min(deadline, self.clock.now() + 0.002))
            self.path.append(np.concatenate(list(super().read().values())))


def drive(story):
    """Let a client answer every reading, each command with its fate; return a bench."""
    bench, meddler = Bench(WatchedFake()), Meddler()
    reading = None
    for fate in story:
        if bench.machine.latched:
            break
        if bench.machine.state != "active":
            reading = bench.begin()
        command = bench.command(signed_action(reading))
        for frame in meddler.take(encode(command), fate):
            bench.say(frame)
        for frame in meddler.tick():
            bench.say(frame)
        bench.supervisor.guard()
        if bench.machine.state == "active":
            reading = bench.tick() or reading
    bench.end()
    return bench


def judge(bench, *, corrupted):
    steps = bench.watcher.of(Step)
    limits = bench.limits
    assert not complaints(steps, SPEC, limits, corrupted=corrupted)
    path = np.array(bench.robot.path or [np.zeros(4)])
    for at, name in ((slice(0, 2), "joint_position"), (slice(2, 4), "joint_velocity")):
        array = SPEC.observation[name]
        assert (path[:, at] >= np.float32(array.low)).all()
        assert (path[:, at] <= np.float32(array.high)).all()


@settings(max_examples=150, deadline=None, derandomize=True)
@given(fates(HONEST))
def test_no_stale_replayed_or_cut_command_is_applied(story):
    judge(drive(story), corrupted=False)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(fates(KINDS))
def test_with_changed_bytes_too_the_robot_stays_within_its_limits(story):
    judge(drive(story), corrupted=True)


def test_a_good_network_is_no_obstacle():
    bench = drive([Fate()] * 60)
    applied = [s for s in bench.watcher.of(Step) if s.requested is not None]
    assert len(applied) == 60
    assert not bench.journal.total


def test_a_command_of_an_episode_that_is_over_is_dropped():
    story = [Fate()] * 5 + [Fate("drop")] * 7 + [Fate("replay", 3)] * 5
    bench = drive(story)
    assert bench.journal.total["generation"] >= 1
    judge(bench, corrupted=False)


def test_a_command_that_was_held_back_too_long_is_dropped():
    story = [Fate("hold", 4), Fate("hold", 6)] + [Fate("drop")] * 8
    bench = drive(story)
    assert bench.journal.total["stale"] == 1
    judge(bench, corrupted=False)


def test_the_judge_finds_a_command_that_was_applied_twice():
    bench = drive([Fate()] * 5)
    steps = bench.watcher.of(Step)
    assert complaints([*steps, steps[1]], SPEC, bench.limits, corrupted=False)


def listen(node):
    """Collect the steps that a node publishes."""
    steps = []
    publish = node.node.journal._publisher
    send, publish.watched = publish.send, lambda: True
    publish.send = lambda m: (steps.append(m) if isinstance(m, Step) else None, send(m))
    return steps


def insist(client, seconds):
    """Drive, whatever the network does, for a while; return the steps taken."""
    steps, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(LinkError):
            client.hello()
            reading = client.begin(timeout_s=0.3)
            while time.monotonic() < end:
                reading = client.step(signed_action(reading))
                steps += 1
    return steps


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_over_real_sockets_too_no_bad_command_is_applied(tmp_path, seed):
    front = f"ipc://{tmp_path}/front"
    with (
        embedded(FakeRobot()) as node,
        proxied(front, node.endpoint, np.random.default_rng(seed)),
        Client(front, timeout_s=0.2) as client,
    ):
        steps = listen(node)
        assert insist(client, 2.0) > 10
        dropped = sum(node.node.journal.total.values())
    assert dropped > 0
    assert not complaints(steps, SPEC, derive(SPEC), corrupted=False)


def test_with_keys_one_changed_byte_breaks_the_connection_and_moves_nothing(tmp_path):
    node_keys, friend = make_keys(tmp_path)
    port, front = free_port(), free_port()
    options = Options(lockstep=True, keys=keys.load_node(node_keys))
    with (
        embedded(
            LockstepFake(), bind=f"tcp://127.0.0.1:{port}", options=options
        ) as node,
        Tapped(front, port) as tap,
        Client(
            f"tcp://127.0.0.1:{front}", timeout_s=1.0, keys=keys.load_client(friend)
        ) as client,
    ):
        client.hello()
        reading = client.begin()
        steps = listen(node)
        client.step(signed_action(reading))
        tap.corrupt = True
        with pytest.raises(LinkError):
            client.step(signed_action(client.reading))
        assert len([s for s in steps if s.requested is not None]) <= 1
        assert not node.node.journal.total


class Tapped:
    """A TCP proxy for one connection; changes one byte of each piece if told to."""

    def __init__(self, front: int, back: int) -> None:
        self.corrupt = False
        self._back = back
        self._listener = tcp.create_server(("127.0.0.1", front))
        self._listener.settimeout(5)
        self._ends = []

    def __enter__(self):
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()
        return self

    def __exit__(self, *_):
        for end in [self._listener, *self._ends]:
            with contextlib.suppress(OSError):
                end.shutdown(tcp.SHUT_RDWR)
            end.close()
        self._thread.join()

    def _accept(self):
        client, _ = self._listener.accept()
        node = tcp.create_connection(("127.0.0.1", self._back))
        self._ends = [client, node]
        back = threading.Thread(target=self._pump, args=(node, client, False))
        back.start()
        self._pump(client, node, True)
        back.join()

    def _pump(self, source, sink, up):
        with contextlib.suppress(OSError):
            while piece := bytearray(source.recv(65536)):
                if up and self.corrupt:
                    piece[-1] ^= 0x01
                sink.sendall(piece)
            sink.shutdown(tcp.SHUT_RDWR)
