"""What a watcher knows of a node."""

import msgspec
import numpy as np
import pytest
from node_bench import Bench
from test_node_freshness import SeeingFake

from robostack.node.loops import Node
from robostack.node.picture import Picture
from robostack.verbs.watch import render


def seen(bench, skip=()):
    picture = Picture()
    for i, message in enumerate(bench.watcher.messages):
        if i not in skip:
            picture.take(message)
    return picture.snapshot()


def test_an_episode_is_seen_with_its_counts():
    bench = Bench(SeeingFake())
    bench.begin()
    for _ in range(4):
        bench.step([0.01, 0.0])
    bench.say(bench.command([9.0, 0.0]))
    bench.say(bench.command([9.0, 0.0], generation=5))
    bench.tick()
    bench.journal.count()
    bench.tick()
    found = seen(bench)
    assert (found.state, found.client, found.address) == (
        "active",
        "tester",
        "test:fake",
    )
    assert (found.seq, found.generation, found.missed) == (5, 1, 0)
    assert found.rate_hz == pytest.approx(50)
    assert found.period_p50_s == pytest.approx(0.02)
    assert found.requested[0] == 9.0
    assert found.applied[0] < 0.2
    assert found.clamped == ("shoulder",)
    assert found.clamps == 1
    assert found.refused == {"generation": 1}
    assert found.cameras_hz["front"] == pytest.approx(50)
    assert set(found.arrays) == {"joint_position", "joint_velocity"}


def test_steps_that_did_not_arrive_are_counted():
    bench = Bench()
    bench.begin()
    for _ in range(10):
        bench.step()
    steps = [i for i, m in enumerate(bench.watcher.messages) if hasattr(m, "applied")]
    assert seen(bench, skip=steps[3:6]).missed == 3


def test_states_and_causes_are_seen():
    bench = Bench()
    bench.begin()
    bench.step()
    bench.supervisor.leave("estop", "stopped by 'me': now")
    found = seen(bench)
    assert (found.state, found.cause) == ("estop", "stopped by 'me': now")
    assert found.events[-1] == "estop: stopped by 'me': now"


def test_who_comes_late_hears_the_state_from_the_pulse():
    bench = Bench()
    bench.watcher.messages.clear()
    Node(bench.supervisor, bench.pilot, bench.service, bench.journal).pulse()
    assert (seen(bench).state, seen(bench).cause) == ("hold", "connected")
    assert seen(bench).events == ()


def test_every_snapshot_is_json_and_a_page():
    bench = Bench()
    for found in (Picture().snapshot(), seen(bench)):
        assert (
            msgspec.json.decode(msgspec.json.encode(found), type=type(found)) == found
        )
        assert render(found, 0)


def test_a_text_that_cannot_be_read_is_an_event_and_no_error():
    bench = Bench()
    bench.journal.event("counts", "{")
    assert "counts cannot be read" in seen(bench).events[-1]
    assert np.isfinite(seen(bench).rate_hz)
