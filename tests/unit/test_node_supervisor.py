"""Leaving ACTIVE: the watchdog, stops, and a driver that is stuck."""

import math
import threading

import numpy as np
import pytest
from node_bench import Bench
from robot_examples import LockstepFake, RecordingFake, StuckFake

from robostack.clock import ManualClock
from robostack.messages import Closed, Event, Notice, Refusal
from robostack.node.loops import Node


@pytest.fixture
def bench():
    bench = Bench(RecordingFake())
    bench.begin()
    bench.robot.calls.clear()
    return bench


def test_silence_in_active_is_hold_at_the_time_out(bench):
    bench.clock.advance(0.099)
    assert bench.supervisor.guard() == pytest.approx(0.001)
    assert bench.machine.state == "active"
    bench.clock.advance(0.001)
    bench.supervisor.guard()
    assert bench.machine.state == "hold"
    assert bench.robot.calls == ["stop"]
    (closed,) = bench.watcher.of(Closed)
    assert (closed.terminated, closed.stamp_s) == (False, pytest.approx(0.1))
    bench.service.notify()
    notice = bench.wire.answers[b"me"][-1]
    assert notice == Notice(2, "hold", "no fresh command for 0.1 s")


def test_after_hold_comes_safe(bench):
    bench.clock.advance(0.1)
    assert bench.supervisor.guard() == pytest.approx(0.4)
    bench.clock.advance(0.39)
    bench.supervisor.guard()
    assert bench.machine.state == "hold"
    bench.clock.advance(0.02)
    bench.supervisor.guard()
    assert bench.machine.state == "safe"
    assert math.isinf(bench.supervisor.guard())


def test_after_an_end_that_was_asked_for_nothing_expires(bench):
    bench.end()
    bench.clock.advance(100.0)
    assert math.isinf(bench.supervisor.guard())
    assert bench.machine.state == "hold"


def test_only_accepted_commands_feed_the_watchdog(bench):
    for bad in ({"seq": 99}, {"generation": 77}, {"ttl_s": -1.0}, {"seq": -1}) * 10:
        bench.clock.advance(0.005)
        bench.say(bench.command([0.01, 0.0], **bad))
        bench.say(b"garbage")
        bench.supervisor.guard()
    assert bench.machine.state == "hold"


def test_accepted_commands_feed_it(bench):
    for _ in range(50):
        bench.step([0.01, 0.0])
        bench.supervisor.guard()
    assert bench.machine.state == "active"


def test_from_hold_and_from_safe_an_episode_can_begin(bench):
    bench.clock.advance(0.1)
    bench.supervisor.guard()
    bench.begin()
    assert bench.machine.state == "active"
    bench.clock.advance(0.6)
    bench.supervisor.guard()
    bench.supervisor.guard()
    assert bench.machine.state == "safe"
    bench.begin()
    assert bench.machine.state == "active"


def test_a_stop_latches_and_purges(bench):
    queued = [bench.command([0.01 * i, 0.0]) for i in range(5)]
    bench.supervisor.leave("estop", "stopped by 'me'")
    assert bench.robot.calls == ["stop"]
    for command in queued:
        bench.say(command)
    assert bench.supervisor.clear("all is well")
    for command in queued:
        bench.say(command)
    assert "apply" not in bench.robot.calls
    assert bench.journal.total["state"] == 10


def test_a_stop_stops_again_however_often_it_comes(bench):
    for _ in range(3):
        bench.supervisor.leave("estop", "stopped")
    assert bench.robot.calls == ["stop"] * 3
    assert len(bench.watcher.of(Closed)) == 1


def test_states_and_causes_are_told(bench):
    bench.supervisor.leave("estop", "stopped by 'me'")
    texts = [e.text for e in bench.watcher.of(Event) if e.kind == "state"]
    assert texts[-1] == "estop: stopped by 'me'"


class StopsDuringReset(LockstepFake):
    def __init__(self):
        super().__init__()
        self.supervisor = None
        self.stopped = 0

    def reset(self):
        self.supervisor.leave("estop", "in the middle of it")

    def stop(self):
        self.stopped += 1


def test_a_stop_during_reset_wins():
    robot = StopsDuringReset()
    bench = Bench(robot)
    robot.supervisor = bench.supervisor
    refusal = bench.begin()
    assert isinstance(refusal, Refusal)
    assert "estop: in the middle of it" in refusal.sentence
    assert robot.stopped >= 2  # once by the stop, once after reset came back


class Unreachable(LockstepFake):
    def __init__(self):
        super().__init__()
        self.plugged = False

    def connect(self):
        if not self.plugged:
            raise OSError("no device at /dev/ttyACM0")


def test_a_device_that_does_not_answer_is_a_fault_that_can_be_cleared():
    bench = Bench(Unreachable())
    assert bench.machine.state == "fault"
    assert "no device at /dev/ttyACM0" in bench.begin().sentence
    assert not bench.supervisor.clear("still unplugged")
    bench.robot.plugged = True
    assert bench.supervisor.clear("plugged in")
    assert bench.machine.state == "hold"


def test_the_watchdog_stops_a_robot_whose_driver_is_stuck():
    robot = StuckFake(ManualClock())
    robot.clock = robot._clock
    bench = Bench(robot)
    bench.begin()
    generation = bench.machine.generation
    stops = robot.stops
    results = []

    def control():
        action = np.float32([0.04, 0.0])
        results.append(bench.supervisor.apply(action, generation, 0.0))

    thread = threading.Thread(target=control)
    thread.start()
    assert robot.entered.wait(5)
    robot.clock.advance(0.1)
    bench.supervisor.guard()  # while `apply` hangs
    assert bench.machine.state == "hold"
    assert robot.stops == stops + 1
    assert len(bench.watcher.of(Closed)) == 1
    robot.free.set()
    thread.join(5)
    assert results == [None]
    assert robot.stops == stops + 2  # the last word is a stop


def test_an_action_of_another_generation_does_not_pass(bench):
    action = np.float32([0.04, 0.0])
    for generation in (0, 2):
        assert bench.supervisor.apply(action, generation, 0.0) is None
    assert bench.robot.calls == []


def test_periods_missed_for_as_long_as_the_watchdog_waits_are_hold(bench):
    node = Node(bench.supervisor, bench.pilot, bench.service, bench.journal)
    node.check_pace(4)  # of 20 ms; the command time-out is 100 ms
    assert bench.machine.state == "active"
    node.check_pace(5)
    assert bench.machine.state == "hold"
    assert bench.machine.cause.startswith("5 control periods were missed in a row")


def test_a_client_cannot_enable_a_disabled_node(bench):
    bench.supervisor.leave("disabled", "lunch")
    refusal = bench.begin()
    assert (refusal.code, bench.machine.state) == ("state", "disabled")
    assert bench.supervisor.enable("back")
    assert bench.begin().seq == 0


@pytest.mark.parametrize("first", ["command", "guard"])
def test_after_a_suspension_old_commands_are_dropped_whoever_looks_first(bench, first):
    bench.step([0.01, 0.0])
    bench.robot.calls.clear()
    command = bench.command([0.05, 0.0], ttl_s=1000.0)
    bench.clock.advance(0.3)  # nobody ran meanwhile
    if first == "guard":
        bench.supervisor.guard()
    bench.say(command)
    bench.supervisor.guard()
    assert bench.robot.calls in (["stop"], ["stop", "stop"])
    assert bench.machine.state == "hold"
    cause = {"command": "stale", "guard": "state"}[first]
    assert bench.journal.total == {cause: 1}
