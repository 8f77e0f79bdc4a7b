"""What the node does with a command, good or bad."""

import msgspec
import numpy as np
import pytest
from node_bench import Bench
from robot_examples import BlindFake, BrokenFake, RecordingFake

from robostack.limiting import ActionLimiter, CommandError
from robostack.messages import Closed, Event, Notice, Reading, Refusal, Step, Tensor


@pytest.fixture
def bench():
    bench = Bench(RecordingFake())
    bench.begin()
    bench.robot.calls.clear()
    return bench


def test_a_good_command_moves_the_robot(bench):
    reading = bench.step([0.04, -0.04])
    assert bench.robot.calls == ["apply"]
    assert reading.seq == 1
    assert reading.applied.unpack() == pytest.approx([0.04, -0.04])
    bench.step([0.04, -0.04])
    bench.step([0.04, -0.04])  # the joints take a while
    assert bench.reading.arrays["joint_position"].unpack()[0] > 0


def test_a_clamp_is_returned_and_counted_and_named(bench):
    bench.step([0.5, 0.0])
    assert bench.reading.clamped
    assert bench.reading.applied.unpack() == pytest.approx([0.05, 0.0])
    bench.step([0.0, 0.0])
    assert not bench.reading.clamped
    first, second = bench.watcher.of(Step)
    assert first.clamped == ("shoulder",)
    assert first.requested.unpack() == pytest.approx([0.5, 0.0])
    assert first.applied.unpack() == pytest.approx([0.05, 0.0])
    assert second.clamped == ()
    assert bench.end().clamps == 1


def test_the_largest_step_holds_per_period_however_many_commands_come(bench):
    bench.step([0.05, 0.0])
    older = bench.command([1.0, 0.0])
    bench.tick()
    bench.say(older)
    bench.say(bench.command([1.0, 0.0]))
    assert bench.tick().applied.unpack()[0] == pytest.approx(0.15)


DROPPED = [
    ("generation", {"generation": 0}),
    ("generation", {"generation": 2}),
    ("unknown", {"seq": 1}),
    ("unknown", {"seq": 2**40}),
    ("replayed", {"seq": -1}),
    ("stale", {"ttl_s": -1.0}),
    ("stale", {"ttl_s": float("nan")}),
]


@pytest.mark.parametrize(("cause", "fields"), DROPPED)
def test_what_is_not_current_is_dropped_and_counted(bench, cause, fields):
    bench.say(bench.command([0.04, 0.0], **fields))
    assert not bench.moved
    assert bench.robot.calls == []
    assert bench.machine.state == "active"
    assert bench.end().refused == {cause: 1}


def test_a_replayed_command_is_dropped(bench):
    command = bench.command([0.04, 0.0])
    bench.say(command)
    bench.say(command)
    assert bench.robot.calls == ["apply"]
    assert bench.end().refused == {"replayed": 1}


def test_a_command_of_the_episode_before_is_dropped(bench):
    old = bench.command([0.04, 0.0])
    bench.end()
    bench.begin()
    bench.robot.calls.clear()
    bench.say(old)
    assert bench.robot.calls == []
    assert bench.end().refused == {"generation": 1}


@pytest.mark.parametrize(
    ("age_s", "ttl_s", "moves"),
    [
        (0.03, 0.04, True),
        (0.05, 0.04, False),
        (0.09, 9.0, True),
        (0.11, 9.0, False),
    ],
)
def test_age_is_the_time_since_the_reading_by_the_nodes_clock(
    bench, age_s, ttl_s, moves
):
    bench.clock.advance(age_s)
    bench.say(bench.command([0.04, 0.0], ttl_s=ttl_s, sent_s=1e12))
    assert bench.moved is moves


def test_an_older_reading_may_be_answered_while_it_is_fresh(bench):
    late = bench.command([0.04, 0.0])
    bench.tick()
    bench.tick()
    bench.say(late)
    assert bench.moved
    bench.tick()
    assert bench.watcher.of(Step)[-1].age_s == pytest.approx(0.04)


FAULTS = [
    ("not_finite", {"action": Tensor.pack(np.float32([np.nan, 0]))}),
    ("not_finite", {"action": Tensor.pack(np.float32([0, np.inf]))}),
    ("malformed", {"action": Tensor.pack(np.zeros(3, np.float32))}),
    ("malformed", {"action": Tensor.pack(np.zeros(2, np.float64))}),
    ("malformed", {"action": Tensor("<f4", (2,), b"123")}),
]


@pytest.mark.parametrize(("cause", "fields"), FAULTS)
def test_what_no_limiter_can_mend_is_a_latched_fault(bench, cause, fields):
    bench.say(bench.command(**fields))
    assert bench.robot.calls == ["stop"]
    assert bench.machine.state == "fault"
    (closed,) = bench.watcher.of(Closed)
    assert closed.refused == {cause: 1}
    assert not closed.terminated
    bench.service.notify()
    notice = bench.wire.answers[b"me"][-1]
    assert isinstance(notice, Notice)
    assert notice.state == "fault"


def test_what_is_not_current_is_dropped_before_its_action_is_looked_at(bench):
    bench.say(bench.command([np.nan, 0.0], generation=0))
    assert bench.machine.state == "active"


def test_a_thousand_good_commands_do_not_clear_a_fault(bench):
    bench.say(bench.command([np.nan, 0.0]))
    bench.robot.calls.clear()
    for _ in range(1000):
        bench.say(bench.command([0.01, 0.0], generation=bench.machine.generation))
        refusal = bench.begin()
        assert isinstance(refusal, Refusal)
        bench.reading = Reading("", bench.machine.generation, 0, 0, {}, {}, None, False)
    assert "fault: bad command: not finite: shoulder" in refusal.sentence
    assert "apply" not in bench.robot.calls
    assert bench.machine.state == "fault"


def test_a_local_clear_leads_back(bench):
    bench.say(bench.command([np.nan, 0.0]))
    assert bench.supervisor.clear("looked at it")
    assert bench.machine.state == "hold"
    assert isinstance(bench.begin(), Reading)


def test_commands_out_of_bounds_all_the_time_are_a_fault(bench):
    bench.step()
    for _ in range(26):
        assert bench.machine.state == "active"
        bench.step([9.0, 0.0])
    assert bench.machine.state == "fault"
    assert "out of bounds" in bench.machine.cause


def test_a_target_far_away_is_not(bench):
    bench.step()
    for i in range(60):
        bench.step([1.5 * (-1) ** (i // 14), 0.0])
    assert bench.machine.state == "active"
    assert bench.end().clamps > 40


def test_back_and_forth_beyond_the_largest_step_is_a_fault(bench):
    bench.step()
    for i in range(6):
        assert bench.machine.state == "active"
        bench.step([1.5 * (-1) ** i, 0.0])
    assert bench.machine.state == "fault"
    assert "more than 4 commands within 0.2 s" in bench.machine.cause
    assert "scale" in bench.machine.cause
    assert bench.robot.calls[-1] == "stop"


def test_back_and_forth_within_the_largest_step_is_not(bench):
    for i in range(60):
        bench.step([0.04 * (-1) ** i, 0.0])
    assert bench.machine.state == "active"


def test_limits_hold_for_whatever_comes(bench):
    random = np.random.default_rng(0)
    position, step = np.zeros(2), np.float32(bench.limits.step) + 1e-6
    bench.step()
    for _ in range(300):
        if bench.machine.state != "active":
            bench.supervisor.clear("go on")
            position = bench.begin().arrays["joint_position"].unpack()
            bench.step(position)
        action = random.choice([1e30, -1e30, 1e-42, 1.4, -1.4], 2)
        bench.step(action)
        applied = bench.reading.applied.unpack()
        assert (np.abs(applied - position) <= step).all()
        assert (np.abs(applied) <= 1.5 + 1e-6).all()
        position = applied


def test_a_blind_sensor_is_a_fault():
    bench = Bench(BlindFake(3))
    bench.begin()
    bench.step()
    bench.step()
    assert bench.step() is None
    assert bench.machine.state == "fault"
    assert "joint_velocity is not finite" in bench.machine.cause
    assert isinstance(bench.wire.answers[b"me"][-1], Notice)


def test_a_sensor_blind_from_the_start_refuses_the_episode():
    bench = Bench(BlindFake(0))
    refusal = bench.begin()
    assert isinstance(refusal, Refusal)
    assert "not finite" in refusal.sentence
    (closed,) = bench.watcher.of(Closed)
    assert closed.steps == 0


def test_a_driver_that_raises_is_a_fault_with_its_words():
    bench = Bench(BrokenFake())
    bench.begin()
    bench.step([0.01, 0.0])
    bench.robot.calls.clear()
    bench.say(bench.command([0.02, 0.0]))
    assert not bench.moved
    assert bench.machine.state == "fault"
    assert bench.machine.cause == "OSError: no answer from servo 3"
    assert bench.robot.calls[-1] == "stop"


def test_the_first_refusal_of_a_cause_is_an_event_and_the_rest_are_counted(bench):
    for _ in range(5):
        bench.say(bench.command(seq=99))
    refused = [e for e in bench.watcher.of(Event) if e.kind == "refused"]
    assert [e.text for e in refused] == ["unknown"]
    assert bench.end().refused == {"unknown": 5}


def test_every_field_of_a_command_is_used(bench):
    used = {"session", "generation", "seq", "ttl_s", "intervention", "action"}
    fields = {f.name for f in msgspec.structs.fields(type(bench.command()))}
    assert fields - used == {"sent_s"}  # of a clock that is never compared


@pytest.mark.parametrize("sent", [[np.nan, 0.0], [0.0], [[0.0, 0.0]]])
def test_a_driver_that_says_it_sent_what_it_cannot_have_is_a_fault(bench, sent):
    bench.robot.apply = lambda action: np.float32(sent)
    bench.say(bench.command([0.01, 0.0]))
    assert not bench.moved
    assert bench.machine.state == "fault"
    assert "the driver says it sent" in bench.machine.cause


def test_a_wrong_length_is_refused_without_the_wire_too(bench):
    with pytest.raises(CommandError, match="expected 2 elements, got 1"):
        ActionLimiter(bench.limits)(np.zeros(1, np.float32))
