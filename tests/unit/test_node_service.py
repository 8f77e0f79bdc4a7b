"""The handshake, the lease, and the story of an episode."""

import pickle

import msgspec
import numpy as np
import pytest
from node_bench import Bench

from robostack.limits import derive
from robostack.messages import (
    PROTOCOL,
    Begin,
    Bye,
    Closed,
    Ended,
    Event,
    Hello,
    Notice,
    Opened,
    Reading,
    Refusal,
    Step,
    Welcome,
    encode,
)


@pytest.fixture
def bench():
    return Bench()


def other(robot, **fields):
    return msgspec.structs.replace(robot, **fields)


def test_welcome_says_what_is_served(bench):
    welcome = bench.hello()
    assert isinstance(welcome, Welcome)
    assert welcome.robot == bench.robot.spec
    assert welcome.limits == derive(bench.robot.spec)
    assert (welcome.lockstep, welcome.address) == (True, "test:fake")
    assert welcome.state == "hold"


def test_a_policy_for_this_robot_is_welcome(bench):
    assert isinstance(bench.hello(robot=bench.robot.spec), Welcome)


def test_a_policy_for_another_robot_is_refused_with_every_difference(bench):
    action = other(bench.robot.spec.action, names=("shoulder", "wrist"))
    there = other(bench.robot.spec, action=action, control_period_s=0.04)
    refusal = bench.hello(robot=there)
    assert refusal.code == "spec"
    assert refusal.differences == (
        "control_period_s [s]: 0.04 here and 0.02 there",
        "action: element 1 is 'wrist' here and 'elbow' there",
    )
    assert bench.say(Begin("", 0, {})).code == "session"


def test_another_order_of_joints_is_refused_with_the_permutation(bench):
    action = other(bench.robot.spec.action, names=("elbow", "shoulder"))
    refusal = bench.hello(robot=other(bench.robot.spec, action=action))
    assert "permutation [1, 0]" in refusal.differences[0]


def test_another_protocol_is_refused(bench):
    refusal = bench.hello(protocol=PROTOCOL + 1)
    assert refusal.code == "protocol"
    assert "same version" in refusal.sentence


def test_a_second_client_is_refused_by_name(bench):
    bench.hello(name="first")
    refusal = bench.hello(client=b"you")
    assert refusal.code == "lease"
    assert "'first' holds the lease" in refusal.sentence


def test_bye_gives_the_lease_back(bench):
    bench.hello()
    bench.say(Bye(bench.session))
    assert isinstance(bench.hello(client=b"you"), Welcome)


def test_a_client_that_went_away_loses_the_lease(bench):
    bench.begin()
    bench.wire.gone.add(b"me")
    assert isinstance(bench.hello(client=b"you"), Welcome)
    assert bench.machine.state == "hold"
    (closed,) = bench.watcher.of(Closed)
    assert not closed.terminated


def test_a_client_that_is_silent_for_long_loses_the_lease(bench, monkeypatch):
    bench.hello()
    from robostack.node import service

    now_s = service.time.monotonic()
    monkeypatch.setattr(service.time, "monotonic", lambda: now_s + 9)
    assert isinstance(bench.hello(client=b"you"), Refusal)
    monkeypatch.setattr(service.time, "monotonic", lambda: now_s + 11)
    assert isinstance(bench.hello(client=b"you"), Welcome)


def test_a_probe_closes_the_episode_of_a_client_that_went_away(bench):
    bench.begin()
    bench.service.probe()
    assert bench.machine.state == "active"
    bench.wire.gone.add(b"me")
    bench.service.probe()
    assert bench.machine.state == "hold"
    assert "went away" in bench.machine.cause


def test_nobody_commands_without_the_lease(bench):
    bench.begin()
    command = bench.command([0.04, 0.0])
    refusal = bench.say(command, client=b"thief")
    assert refusal.code == "session"
    assert not bench.moved
    assert bench.journal.total["session"] == 1


def test_nobody_commands_with_an_old_session(bench):
    bench.begin()
    old = bench.command([0.04, 0.0])
    bench.hello()
    refusal = bench.say(old)
    assert refusal.code == "session"
    assert "say hello again" in refusal.sentence


def test_another_hello_ends_the_open_episode(bench):
    bench.begin()
    bench.hello()
    assert bench.machine.state == "hold"
    assert len(bench.watcher.of(Closed)) == 1


def test_begin_is_refused_while_an_episode_is_open(bench):
    bench.begin()
    assert "end it" in bench.begin().sentence


def test_end_is_refused_while_none_is_open(bench):
    bench.hello()
    assert bench.end().code == "state"


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\x00" * 50,
        pickle.dumps(print),
        b"\x81" * 10000,
        encode(Notice(1, "estop", "fake")),
        encode(Ended(0, 0, 0, 0, {})),
    ],
)
def test_garbage_is_counted_and_not_answered(bench, frame):
    bench.begin()
    for client in (b"me", b"you"):
        assert bench.say(frame, client=client) is None
    assert bench.machine.state == "active"
    assert bench.journal.total == {"malformed": 2}


def test_an_episode_is_opened_told_and_closed(bench):
    bench.hello(name="tester")
    bench.begin(seed=4)
    for action in ([0.01, 0.0], [0.02, 0.0], [0.03, 0.0]):
        bench.step(action)
    ended = bench.end(terminated=True, reason="there")
    story = [m for m in bench.watcher.messages if not isinstance(m, Event)]
    assert [type(m) for m in story] == [Opened, Step, Step, Step, Step, Closed]
    opened, *steps, closed = story
    assert (opened.client, opened.seed) == ("tester", 4)
    assert opened.labels == {"task": "test"}
    assert {m.generation for m in story} == {opened.generation}
    assert [s.seq for s in steps] == [0, 1, 2, 3]
    assert [s.stamp_s for s in steps] == pytest.approx([0.0, 0.02, 0.04, 0.06])
    applied = [s.applied.unpack()[0] for s in steps[:-1]]
    assert applied == pytest.approx([0.01, 0.02, 0.03])
    assert (steps[-1].requested, steps[-1].applied) == (None, None)
    assert (closed.terminated, closed.reason, closed.steps) == (True, "there", 3)
    assert (ended.steps, ended.overruns, ended.clamps) == (3, 0, 0)


def test_a_period_without_a_command_tells_what_stayed_in_effect(bench):
    bench.begin()
    bench.step([0.04, 0.0])
    bench.tick()
    held = bench.watcher.of(Step)[-1]
    assert held.requested is None
    assert held.applied.unpack() == pytest.approx([0.04, 0.0])


def test_an_intervention_is_told(bench):
    bench.begin()
    bench.step([0.01, 0.0], intervention=True)
    assert bench.watcher.of(Step)[0].intervention


def test_truth_is_beside_the_arrays_and_not_among_them(bench):
    reading = bench.begin(seed=4)
    assert set(reading.truth) == {"target"}
    assert set(reading.arrays) == {"joint_position", "joint_velocity"}
    bench.step()
    assert set(bench.watcher.of(Step)[0].truth) == {"target"}


def test_a_seed_fixes_the_world(bench):
    truths = []
    for seed in (1, 1, 2):
        truths.append(bench.begin(seed=seed).truth["target"].unpack())
        bench.end()
    assert np.array_equal(truths[0], truths[1])
    assert not np.array_equal(truths[0], truths[2])


def test_generations_only_grow(bench):
    generations = []
    for _ in range(3):
        generations.append(bench.begin().generation)
        generations.append(bench.end().generation)
    assert generations == sorted(set(generations))


def test_begin_and_hello_need_no_special_order(bench):
    assert bench.say(Begin("", None, {})).code == "session"
    assert isinstance(bench.say(Hello(PROTOCOL, "x", None, "", 1, 1)), Welcome)
    assert isinstance(bench.say(Hello(PROTOCOL, "x", None, "", 1, 1)), Welcome)


def test_reading_comes_right_after_begin(bench):
    reading = bench.begin()
    assert isinstance(reading, Reading)
    assert (reading.seq, reading.clamped) == (0, False)
    assert reading.applied.unpack().tolist() == [0.0, 0.0]  # home
