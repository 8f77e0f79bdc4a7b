"""Each attack for a moment; the scripts beside this file do them at full length."""

from __future__ import annotations

import contextlib
import random
import socket

import fuzz
import hostile_bytes
import kills
import numpy as np
import pytest
import reconnect
from node_bench import Bench
from vitals import befriended, look, serving

from robostack.messages import (
    UNREADABLE,
    decode_control,
    decode_stop,
    decode_watch,
)

pytestmark = pytest.mark.alone


@pytest.mark.parametrize("decode", [decode_control, decode_stop, decode_watch])
def test_whatever_comes_is_a_message_or_unreadable(decode, tmp_path):
    attack = hostile_bytes.frames(np.random.default_rng(1), tmp_path / "canary")
    for _ in range(20_000):
        with contextlib.suppress(*UNREADABLE):
            decode(next(attack))
    assert not (tmp_path / "canary").exists()


def test_a_service_takes_whatever_comes(tmp_path):
    bench = Bench()
    attack = hostile_bytes.frames(np.random.default_rng(2), tmp_path / "canary")
    bench.begin()
    for _ in range(5000):
        bench.say(next(attack), b"stranger")
    assert bench.journal.total["malformed"] > 3000
    assert bench.machine.state == "active"
    assert not (tmp_path / "canary").exists()


@pytest.mark.slow
@pytest.mark.parametrize("curve", [False, True])
def test_hostile_bytes_on_every_socket_leave_a_node_as_it_was(tmp_path, curve):
    canary = tmp_path / "canary"
    with serving(tmp_path, curve=curve) as node:
        for name in fuzz.SOCKETS:
            report = fuzz.attack(node, name, 0.4, seed=7, canary=canary)
            assert not report.complaints()
    assert not canary.exists()


@pytest.mark.slow
@pytest.mark.parametrize("many", [300, 3000])
def test_idle_connections_are_hung_up_on(tmp_path, many):
    with serving(tmp_path) as node, befriended(node) as good:
        before = look(node.pid)
        port = int(node.endpoint.rpartition(":")[2])
        with contextlib.ExitStack() as stack:
            idle = [
                stack.enter_context(
                    socket.create_connection(("127.0.0.1", port + i % 3), timeout=10)
                )
                for i in range(many)
            ]
            for connection in idle[-3:]:  # the node itself closes each sort
                while connection.recv(100):
                    pass
        after = look(node.pid)
    assert good["steps"] > 0
    assert after.descriptors <= before.descriptors + 20
    assert after.rss_mb <= before.rss_mb + 30
    assert after.threads == before.threads


@pytest.mark.parametrize("curve", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_many_reconnects_leave_no_trace(tmp_path, curve):
    with serving(tmp_path, curve=curve) as node:
        more = reconnect.growth(reconnect.reconnect(node, 120))
    assert more.descriptors <= reconnect.MOST_DESCRIPTORS
    assert more.rss_mb <= reconnect.MOST_RSS_MB


def test_every_killed_client_is_held_within_its_time_to_live(tmp_path):
    moments = random.Random(0)
    with serving(tmp_path) as node:
        ear = kills.Ear(node.endpoint)
        with contextlib.closing(ear):
            died = [
                kills.kill(node.endpoint, ear, moments.uniform(0, 0.3))
                for _ in range(3)
            ]
    slack_s = 0.03  # of a computer that has other things to do
    assert all(kills.TTL_S <= k.commanded_s <= kills.PROMISE_S + slack_s for k in died)
    assert {k.cause for k in died} == {"no fresh command for 0.1 s"}
