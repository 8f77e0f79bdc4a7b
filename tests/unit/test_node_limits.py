"""The node's limits: the start gate, periods without a command, and posture."""

import msgspec
import numpy as np
import pytest
from node_bench import Bench
from robot_examples import RecordingFake

from robostack.hardware import fake
from robostack.limits import Box
from robostack.messages import (
    Begin,
    Closed,
    Command,
    End,
    Hello,
    Notice,
    Reading,
    Step,
    decode_control,
    encode,
)

LIMITS = fake.limits()


def bench_of(limits=LIMITS, **options):
    bench = Bench(RecordingFake(), limits, **options)
    bench.begin()
    bench.robot.calls.clear()
    return bench


def test_a_first_command_beyond_the_gate_is_refused_and_nothing_moves():
    bench = bench_of()
    bench.say(bench.command([0.0, 0.81]))
    assert "apply" not in bench.robot.calls
    assert bench.machine.state == "hold"
    (closed,) = bench.watcher.of(Closed)
    assert closed.refused == {"gate": 1}
    bench.service.notify()
    notice = bench.wire.answers[b"me"][-1]
    assert isinstance(notice, Notice)
    assert "elbow 0.81 away, expected at most 0.8" in notice.cause
    assert isinstance(bench.begin(), Reading)  # it is no fault


def test_between_first_and_gate_the_node_ramps_and_says_so():
    bench = bench_of()
    path = [np.zeros(2)] * 3
    clamped = []
    for _ in range(60):
        bench.step([0.0, 0.79])
        path.append(bench.reading.applied.unpack())
        clamped.append(bench.reading.clamped)
    assert path[3][1] <= LIMITS.first[1]
    assert clamped[0]
    assert not clamped[-1]
    assert path[-1] == pytest.approx([0.0, 0.79])
    assert max(p[1] for p in path) <= 0.79 + 1e-5  # and does not overshoot
    for n, most in ((1, 5.0), (2, 50.0), (3, 1000.0)):
        assert np.abs(np.diff(path, n=n, axis=0)).max() <= most * 0.02**n + 1e-6
    bench.robot.clock.advance(0.5)
    assert bench.robot.read()["joint_position"] == pytest.approx([0, 0.79], abs=1e-3)


def test_only_the_first_command_has_a_gate():
    bench = bench_of()
    bench.step()
    bench.step([1.4, 1.4])
    assert bench.machine.state == "active"


def test_not_finite_is_a_fault_at_the_gate_too():
    bench = bench_of()
    bench.say(bench.command([0.0, np.inf]))
    assert bench.machine.state == "fault"


def moving(bench):
    for _ in range(8):
        bench.step([0.7, 0.0])
    bench.robot.calls.clear()
    return bench


def test_a_period_without_a_command_brakes_the_targets_in_real_time():
    bench = moving(bench_of(lockstep=False))
    path = [s.applied.unpack() for s in bench.watcher.of(Step)]
    for _ in range(3):
        bench.tick()
    assert bench.robot.calls == ["apply"] * 3
    steps = [s for s in bench.watcher.of(Step) if s.requested is None]
    path += [s.applied.unpack() for s in steps]
    assert len(steps) == 3
    assert path[-1][0] > path[-4][0]  # it goes on, ever slower
    for n, most in ((2, 50.0), (3, 1000.0)):
        assert np.abs(np.diff(path, n=n, axis=0)).max() <= most * 0.02**n + 1e-6
    bench.step([0.7, 0.0])  # who comes back goes on from there
    assert np.abs(bench.reading.applied.unpack()[0] - path[-1][0]) <= 0.1 + 1e-6


def test_braking_does_not_feed_the_watchdog():
    bench = moving(bench_of(lockstep=False))
    last_s = bench.clock.now()
    while bench.machine.state == "active":
        bench.tick()
        bench.supervisor.guard()
    assert bench.robot.calls.count("apply") >= 4
    assert bench.machine.state == "hold"
    assert bench.clock.now() - last_s <= LIMITS.command_timeout_s + 1e-6
    assert "no fresh command for 0.1 s" in bench.machine.cause


def test_targets_at_rest_need_no_braking():
    bench = bench_of(lockstep=False)
    bench.step()
    bench.step()
    bench.robot.calls.clear()
    bench.tick()
    assert bench.robot.calls == []


def boxed(tolerance):
    box = Box((-1.6, -0.2), (1.6, 0.2), tolerance)
    return msgspec.structs.replace(LIMITS, boxes={"joint_position": box})


@pytest.mark.parametrize(("tolerance", "farthest"), [(0.0, 0.2), (0.1, 0.3)])
def test_a_reading_outside_of_its_box_is_a_fault(tolerance, farthest):
    bench = bench_of(boxed(tolerance))
    for _ in range(60):
        if bench.step([0.0, 0.6]) is None:
            break
    assert bench.machine.state == "fault"
    assert bench.machine.cause.startswith("joint_position is [0.0, ")
    assert "outside of the box" in bench.machine.cause
    seen = [s.arrays["joint_position"].unpack()[1] for s in bench.watcher.of(Step)]
    assert farthest - 0.1 < max(seen) <= farthest + 1e-6


def test_the_handshake_states_the_limits_in_full():
    bench = Bench(limits=LIMITS)
    welcome = bench.hello()
    assert welcome.limits == LIMITS
    assert decode_control(encode(welcome)).limits.digest == LIMITS.digest


@pytest.mark.parametrize("message", [Hello, Begin, Command, End])
def test_no_message_of_a_client_has_a_place_for_limits(message):
    names = {field.name for field in msgspec.structs.fields(message)}
    assert not names & {*LIMITS.__struct_fields__} - {"names"}
    assert not any("limit" in name for name in names)


def test_a_wide_spec_in_the_handshake_widens_nothing():
    bench = bench_of()
    spec = bench.robot.spec
    wide = msgspec.structs.replace(spec, max_action_step=(9.0, 9.0))
    assert bench.hello(robot=wide).code == "spec"
    bench.step()
    bench.step([0.7, 0.7])
    assert np.abs(bench.reading.applied.unpack()).max() < 0.05


def test_labels_named_like_limits_change_nothing():
    bench = bench_of()
    bench.end()
    labels = {"velocity": "99", "limits": '{"step": [9, 9]}'}
    bench.reading = bench.say(Begin(bench.session, 0, labels))
    bench.step()
    bench.step([0.7, 0.7])
    assert np.abs(bench.reading.applied.unpack()).max() < 0.05
