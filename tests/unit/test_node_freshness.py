"""Sensors that are old, or dead: HOLD, then SAFE, and the client is told which."""

import math

import msgspec
import numpy as np
import pytest
from node_bench import Bench
from robot_examples import LockstepFake

from robostack.messages import Event, Notice, Reading, Refusal, Step
from robostack.node.freshness import Frozen, SensorLimits, frozen_readings, oldest
from robostack.spec import ArraySpec, CameraSpec


class AgedFake(LockstepFake):
    """A thread of its driver would fill the joint velocity."""

    def __init__(self) -> None:
        super().__init__()
        self.age_s = 0.01
        self.resets = 0

    def reset(self):
        self.resets += 1
        super().reset()

    def ages(self):
        return {"joint_velocity": self.age_s}


class FrozenFake(LockstepFake):
    """Its bus gives the same reading again and again once `dead`."""

    def __init__(self) -> None:
        super().__init__()
        self.dead = False

    def read(self):
        if not self.dead:
            self.last = super().read()
        return {name: array.copy() for name, array in self.last.items()}


class SeeingFake(LockstepFake):
    """A camera that shows where the joints are, unless it is dead."""

    spec = msgspec.structs.replace(
        LockstepFake.spec, cameras={"front": CameraSpec(4, 4, 0.02)}
    )

    def __init__(self, repeats=()) -> None:
        super().__init__()
        self.repeats, self.looks = repeats, 0
        self.last = np.zeros((4, 4, 3), np.uint8)

    def frames(self):
        self.looks += 1
        if self.looks not in self.repeats:
            position = int(1000 * self.plant.position[0]) % 256
            self.last = np.full((4, 4, 3), position, np.uint8)
        return {"front": self.last}


def test_ages_have_a_floor_and_follow_slow_periods(robot):
    assert oldest(robot, SensorLimits())["joint_position"] == 0.05
    slow = msgspec.structs.replace(
        robot,
        control_period_s=0.1,
        command_timeout_s=0.3,
        cameras={"a": CameraSpec(4, 4, 0.05), "b": CameraSpec(4, 4, 0.5)},
    )
    assert oldest(slow, SensorLimits())["joint_position"] == 0.2
    assert oldest(slow, SensorLimits())["a"] == 0.2
    assert oldest(slow, SensorLimits())["b"] == 1.0


@pytest.mark.parametrize("age_s", [0.051, math.inf, math.nan])
def test_an_array_that_is_too_old_is_hold_and_then_safe(age_s):
    bench = Bench(AgedFake())
    bench.begin()
    assert bench.step([0.01, 0.0])
    bench.robot.age_s = age_s
    assert bench.step([0.02, 0.0]) is None
    assert bench.machine.state == "hold"
    notice = bench.wire.answers[b"me"][-1]
    assert isinstance(notice, Notice)
    assert notice.cause.startswith("joint_velocity is ")
    assert notice.cause.endswith("ms old, and may be 50 ms")
    bench.clock.advance(0.5)
    bench.supervisor.guard()
    assert bench.machine.state == "safe"


def test_ages_are_told_with_every_step():
    bench = Bench(AgedFake())
    bench.begin()
    bench.step()
    bench.end()
    ages = [step.ages_s for step in bench.watcher.of(Step)]
    assert ages == [{"joint_velocity": 0.01}] * 2


def test_a_robot_that_is_blind_does_not_go_home():
    bench = Bench(AgedFake())
    bench.robot.age_s = 0.2
    bench.hello()
    refusal = bench.begin()
    assert isinstance(refusal, Refusal)
    assert "joint_velocity is 200 ms old" in refusal.sentence
    assert bench.machine.state == "hold"
    assert bench.robot.resets == 0
    bench.robot.age_s = 0.0
    assert isinstance(bench.begin(), Reading)


def test_between_episodes_an_array_that_stays_old_ends_hold():
    bench = Bench(AgedFake())
    bench.robot.age_s = 0.2
    bench.pilot.look()
    assert bench.machine.state == "hold"
    bench.robot.age_s = 0.6
    bench.pilot.look()
    assert bench.machine.state == "safe"
    assert "joint_velocity is 600 ms old" in bench.machine.cause


def test_between_episodes_a_sensor_that_raises_is_a_fault():
    bench = Bench()
    bench.robot.read = dict
    bench.pilot.look()
    assert bench.machine.state == "fault"


def test_between_episodes_watchers_hear_what_is_sensed():
    bench = Bench(AgedFake())
    bench.pilot.look()
    (event,) = [e for e in bench.watcher.of(Event) if e.kind == "reading"]
    assert msgspec.json.decode(event.text) == {
        "arrays": {"joint_position": [0.0, 0.0], "joint_velocity": [0.0, 0.0]},
        "ages_s": {"joint_velocity": 0.01},
    }


@pytest.mark.parametrize("state", ["active", "fault", "estop", "disabled"])
def test_only_hold_and_safe_read_on_their_own(state):
    bench = Bench()
    if state == "active":
        bench.begin()
    else:
        bench.supervisor.leave(state, "test")
    bench.robot.read = lambda: pytest.fail("read")
    bench.pilot.look()


def test_an_age_of_an_unknown_sensor_is_a_fault():
    robot = AgedFake()
    robot.ages = lambda: {"elbow_camera": 0.0}
    bench = Bench(robot)
    bench.begin()
    assert bench.machine.state == "fault"
    assert "'elbow_camera'" in bench.machine.cause


def move(bench, steps, size=0.02):
    """Move the shoulder `steps` times; return how many periods went well."""
    for i in range(steps):
        if bench.step([size * (i + 1), 0.0]) is None:
            return i
        if bench.machine.state != "active":
            return i
    return steps


def test_joints_that_never_change_while_targets_move_are_hold():
    bench = Bench(FrozenFake())
    bench.begin()
    move(bench, 5)
    bench.robot.dead = True
    assert 10 <= move(bench, 60) <= 25
    assert bench.machine.state == "hold"
    assert "joint_position has been the same" in bench.machine.cause
    bench.service.notify()
    assert bench.wire.answers[b"me"][-1].cause == bench.machine.cause


def test_joints_that_never_change_at_rest_are_at_rest():
    bench = Bench(FrozenFake())
    bench.begin()
    bench.robot.dead = True
    for _ in range(200):
        assert bench.step([0.0, 0.0])


def test_joints_that_follow_are_alive():
    bench = Bench(FrozenFake())
    bench.begin()
    assert move(bench, 60) == 60


def test_one_of_three_targets_alone_may_be_a_gripper_on_something(robot):
    names = ("hip", "knee", "jaw")
    action = ArraySpec.uniform(names, "rad", -1.0, 1.0)
    robot = msgspec.structs.replace(
        robot,
        observation={"joint_position": action},
        action=action,
        home=(0.0,) * 3,
        max_action_step=(0.1,) * 3,
    )

    def verdicts(both):
        frozen = frozen_readings(robot, SensorLimits())
        for i in range(100):
            target = np.float32([0.0, 0.01 * i * both, 0.01 * i])
            yield frozen.note((b"same",), target.tobytes(), 0.02 * i)

    assert not any(verdicts(both=False))
    assert any(verdicts(both=True))


def test_a_slow_bus_may_repeat_itself_for_a_moment():
    frozen = Frozen(15, 0.2, (0.01,), 1)
    verdicts = [
        frozen.note((bytes([i // 60]),), np.float32([i]).tobytes(), 0.002 * i)
        for i in range(1000)  # 500 Hz; 60 readings alike are 0.12 s
    ]
    assert not any(verdicts)


def test_a_camera_that_shows_the_same_while_the_robot_moves_is_hold():
    bench = Bench(SeeingFake(repeats=range(5, 1000)))
    bench.begin()
    assert move(bench, 60) < 40
    assert bench.machine.state == "hold"
    assert "camera front has shown the same frame" in bench.machine.cause


def test_a_camera_that_shows_the_same_while_nothing_moves_is_alive():
    bench = Bench(SeeingFake(repeats=range(5, 1000)))
    bench.begin()
    for _ in range(100):
        assert bench.step([0.0, 0.0])


def test_a_camera_that_drops_half_of_its_frames_is_alive():
    random = np.random.default_rng(0)
    repeats = set(np.flatnonzero(random.random(1000) < 0.5).tolist())
    bench = Bench(SeeingFake(repeats=repeats))
    bench.begin()
    assert move(bench, 70) == 70
