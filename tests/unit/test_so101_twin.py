"""Emulated servos in the MuJoCo twin, and the addresses that lead to them."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from robostack.plugins import PluginError

pytest.importorskip("scservo_sdk", reason="feetech-servo-sdk is not installed")

from robostack.hardware import so101 as plugin
from robostack.hardware.so101 import arm, place, twin
from robostack.hardware.so101 import registers as r
from robostack.hardware.so101.emulated_bus import Emulator, places
from robostack.hardware.so101.twin import Twin

LIFT = 1


@pytest.fixture
def world():
    if lacking := twin.lacking():
        pytest.skip(f"{lacking} not installed")
    world = Twin(seed=0)
    yield world
    world.close()


@pytest.fixture
def servos(world):
    return world.servos()


def hold(servos, limit=1000):
    for servo in servos:
        servo.write(48, r.TORQUE_LIMIT.pack(limit))
        servo.write(42, r.GOAL_POSITION.pack(round(servo.position)))


def sunk(world, servos, seconds=1.0):
    """Return how far [tick] the joint that moved most went in some time."""
    before = [servo.position for servo in servos]
    world.advance(servos, seconds)
    after = [servo.position for servo in servos]
    return np.abs(np.subtract(after, before)).max()


def test_an_arm_without_torque_sinks(world, servos):
    assert sunk(world, servos) > 200


def test_an_arm_with_torque_holds_within_ticks(world, servos):
    hold(servos)
    assert sunk(world, servos) < 3


def test_an_arm_whose_torque_limit_is_low_sinks(world, servos):
    hold(servos, limit=50)
    assert sunk(world, servos) > 100


def test_a_goal_is_reached_at_the_speed_of_its_register(world, servos):
    hold(servos)
    pan = servos[0]
    start = pan.position
    pan.write(46, r.GOAL_VELOCITY.pack(500))
    pan.write(42, r.GOAL_POSITION.pack(round(start) + 500))
    world.advance(servos, 0.5)
    assert 150 < pan.position - start < 260
    world.advance(servos, 1.0)
    assert pan.position == pytest.approx(round(start) + 500, abs=2)


def test_what_is_read_is_whole_ticks_of_the_world(world, servos):
    hold(servos)
    world.advance(servos, 0.5)
    shafts = places(world._world.angles().tolist())
    for servo, shaft in zip(servos, shafts, strict=True):
        at = r.PRESENT_POSITION.get(servo.read(56, 2), 56)
        assert at == round(shaft)


def test_effort_shows_as_load_voltage_and_in_time_as_warmth(world, servos):
    hold(servos)
    world.advance(servos, 0.2)
    lift = servos[LIFT]
    assert abs(lift.effort) > 0.01
    lift.read(0, 1)
    assert r.PRESENT_LOAD.get(lift.memory) == round(1000 * lift.effort)
    assert 60 <= r.PRESENT_VOLTAGE.get(lift.memory) <= 74
    lift.feel(lift.position, 0.0, 1.0, 60.0)
    assert 32 < lift.temperature < arm.CARE.hottest_c


def test_a_power_cut_lets_the_arm_sink_and_power_gives_no_torque_back(world, servos):
    with Emulator(servos, mechanics=world.advance) as bus:
        with bus.lock:
            hold(bus.servos)
            bus.power(on=False)
            bus.power(on=True)
            assert sunk(world, bus.servos) > 200
        assert not any(servo.torque for servo in bus.servos)


def test_the_same_seed_puts_arm_and_cube_in_the_same_place(world):
    again = Twin(seed=0)
    assert world.cube() == again.cube()
    assert [s.position for s in world.servos()] == [s.position for s in again.servos()]
    again.close()


# addresses


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("", "so101//dev/ttyACM0"),
        ("emulated+tabel", "did you mean 'table'"),
        ("emulated+table=x.toml", "it is the twin's"),
    ],
)
def test_a_wrong_address_is_one_sentence(argument, sentence):
    with pytest.raises(PluginError, match=sentence):
        place.parse(argument)


def test_the_words_of_an_address_say_what_is_around_the_arm():
    bare = place.parse("/dev/ttyACM0@left.json")
    assert bare == ("/dev/ttyACM0", "left.json", None, False)
    assert place.parse("dev/ttyACM0+table+limp") == ("/dev/ttyACM0", "", "", True)
    assert place.parse("/dev/ttyACM0+table=t.toml").table == "t.toml"
    assert place.parse("emulated+arm").table is None


def test_the_orphaned_arm_holds_unless_the_address_says_limp():
    assert plugin.make("emulated+arm").ending.orphan == "hold"
    assert plugin.make("emulated+arm+limp").ending.orphan == "limp"


def test_without_mujoco_the_emulated_arm_is_alone_and_says_so(monkeypatch, caplog):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n: None if n == "mujoco" else find(n)
    )
    assert plugin.spec("emulated") == arm.SPEC
    robot = plugin.make("emulated")
    assert robot.spec == arm.SPEC
    assert "no mujoco here: the emulated arm is alone" in caplog.text


def test_arms_differ_in_facts_and_not_in_the_spec():
    robot = plugin.make("emulated+arm")
    assert robot.facts().keys() == {"calibration", "firmware", "port"}
    assert "calibration" not in robot.spec.conventions


def test_the_cube_is_read_from_the_tracker_and_its_age_told():
    if lacking := twin.lacking():
        pytest.skip(f"{lacking} not installed")
    robot = plugin.make("emulated")
    robot.connect()
    try:
        reading = robot.read()
        assert list(reading) == list(robot.spec.observation)
        assert 0.15 < reading["cube_position"][0] < 0.3
        assert 0 <= robot.ages()["cube_position"] < 1
        frames = robot.frames()
        assert frames["overhead"].shape == (128, 128, 3)
        assert np.std(frames["front"]) > 5
    finally:
        robot.close()
