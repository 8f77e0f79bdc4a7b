"""What the drivers of all servo arms promise, on emulated buses, fault by fault."""

import contextlib
import logging
import math

import numpy as np
import pytest
from servo_examples import DynamixelExample, EventfulClock, SO101Example

from robostack.hardware._servo_bus import BusError, ServoError
from robostack.spec import SpecError, float32

FIRST, ELBOW = 0, 2  # joints
RADIANS_PER_TICK = 2 * math.pi / 4096


@pytest.fixture(params=[SO101Example, DynamixelExample])
def arm(request):
    return request.param()


@pytest.fixture
def clock():
    return EventfulClock()


@pytest.fixture
def bus(arm, clock):
    with arm.emulate(clock) as bus:
        yield bus


@pytest.fixture
def robot(arm, bus, clock):
    robot = arm.driver(bus, clock)
    yield robot
    robot.close()


@pytest.fixture
def ready(robot):
    robot.connect()
    robot.reset()
    return robot


def torque(bus):
    return [servo.torque for servo in bus.servos]


# connect


def test_connect_enables_no_torque_and_writes_nothing(robot, bus):
    robot.connect()
    robot.read()
    assert not any(torque(bus))
    assert bus.written == []


def test_connect_names_who_is_silent_and_can_be_tried_again(robot, bus, arm):
    bus.unplugged = {2, 5}
    silent = rf"from {arm.joints[1]} \(id 2\), {arm.joints[4]} \(id 5\) in 3"
    with pytest.raises(BusError, match=silent):
        robot.connect()
    bus.unplugged = set()
    robot.connect()
    robot.read()


def test_one_port_has_one_driver(robot, bus, clock, arm):
    robot.connect()
    with pytest.raises(BusError, match="another program may have it"):
        arm.driver(bus, clock).connect()


# reset


def test_reset_stops_before_a_blocked_joint(robot, bus, arm):
    bus.servos[FIRST].place(2713.0)
    bus.servos[FIRST]._stops = (2712.0, 4095.0)
    robot.connect()
    with pytest.raises(ServoError, match=f"{arm.joints[FIRST]} is blocked"):
        robot.reset()
    goal = arm.goal.get(bus.servos[FIRST].memory)
    assert abs(goal - bus.servos[FIRST].position) * RADIANS_PER_TICK <= arm.care.rest


def test_stop_ends_reset_where_the_arm_is(robot, bus, clock, arm):
    bus.servos[FIRST].place(2713.0)
    robot.connect()
    clock.at, clock.event = 20, robot.stop
    with pytest.raises(ServoError, match="somebody stopped"):
        robot.reset()
    at = arm.angles(bus)[FIRST]
    clock.advance(2.0)
    assert arm.angles(bus)[FIRST] == pytest.approx(at, abs=arm.care.rest)
    assert at > 0.5


def test_a_servo_unplugged_on_the_way_home_stops_the_others(robot, bus, clock, arm):
    bus.servos[FIRST].place(2713.0)
    robot.connect()
    clock.at, clock.event = 20, lambda: bus.unplugged.add(3)
    with pytest.raises(BusError, match=rf"no answer from {arm.joints[ELBOW]} \(id 3\)"):
        robot.reset()
    at = arm.angles(bus)[FIRST]
    clock.advance(2.0)
    assert arm.angles(bus)[FIRST] == pytest.approx(at, abs=arm.care.rest)
    with pytest.raises(ServoError, match="expected reset"):
        robot.apply(arm.home)


# read and apply


def test_apply_refuses_what_is_no_number(ready, bus, arm):
    before = len(bus.written)
    with pytest.raises(SpecError, match=f"not finite: {arm.joints[ELBOW]}"):
        ready.apply(float32([0, 0, np.nan, 0, 0, 0]))
    assert len(bus.written) == before


@pytest.mark.parametrize("fault", ["lost", "corrupt"])
def test_a_few_bad_answers_are_asked_for_again(ready, bus, arm, fault):
    setattr(bus, fault, 3)
    before = arm.angles(bus)
    reading = ready.read()["joint_position"]
    np.testing.assert_allclose(reading, before, atol=0.01)


@pytest.mark.parametrize(
    ("fault", "words"), [("lost", "no answer"), ("corrupt", "corrupt answers")]
)
def test_only_bad_answers_raise_and_are_bounded(ready, bus, arm, fault, words):
    setattr(bus, fault, 10_000)
    named = f"{words} from {arm.joints[FIRST]} .id 1.* 3 tries"
    with pytest.raises(BusError, match=named):
        ready.read()
    setattr(bus, fault, 0)
    ready.read()


def test_late_answers_are_not_taken_for_answers_to_another_question(bus, arm):
    bus.latency_s = 0.035  # beyond the patience: it comes while we ask something else
    with contextlib.closing(arm.line(bus.path)) as line:
        for _ in range(4):
            for size in (1, 30):
                found, _bad = line.poll([1, 2, 3], arm.block, size)
                assert all(len(answer.data) == size for answer in found.values())


def test_a_wall_clock_set_back_ends_no_time_out_late(ready, bus, monkeypatch):
    wall = iter(range(10**9, 0, -3600))
    monkeypatch.setattr("time.time", lambda: float(next(wall)))
    bus.lost = 10_000
    with pytest.raises(BusError, match="no answer"):
        ready.read()


def test_an_answer_within_the_patience_of_the_bus_will_do(ready, bus, arm):
    bus.latency_s = 0.005
    ready.apply(arm.home)
    ready.read()


# stop and close


def test_stop_gives_no_torque(robot, bus):
    robot.stop()
    robot.connect()
    robot.stop()
    assert not any(torque(bus))
    assert bus.written == []


def test_stops_in_a_row_do_not_let_the_arm_creep(ready, bus, clock, arm):
    clock.advance(0.4)  # to come to rest
    bus.settle()
    ready.stop()
    at = arm.angles(bus)
    for _ in range(50):
        clock.advance(0.05)
        ready.stop()
    np.testing.assert_allclose(arm.angles(bus), at, atol=0.005)


def test_stop_holds_those_who_answer_and_raises_nothing(ready, bus, clock, arm, caplog):
    ready.apply(float32(arm.home + 5 * arm.near))
    ready.read()  # the goals have come by now
    clock.advance(0.1)
    bus.unplugged = {4}
    with caplog.at_level(logging.WARNING):
        ready.stop()
    assert "[4] did not answer to a stop" in caplog.text
    at = arm.angles(bus)
    clock.advance(0.45)
    others = [0, 1, 2, 4, 5]
    np.testing.assert_allclose(arm.angles(bus)[others], at[others], atol=0.1)


def test_close_lets_go_of_all_whom_it_can_reach(ready, bus, clock, arm, caplog):
    clock.at, clock.event = 10, lambda: bus.unplugged.add(2)
    with caplog.at_level(logging.WARNING):
        ready.close()
    assert torque(bus) == [False, True, False, False, False, False]
    assert f"no answer from {arm.joints[1]} (id 2)" in caplog.text
