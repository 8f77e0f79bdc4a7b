import msgspec
import numpy as np
import pytest

from robostack.spec import (
    ArraySpec,
    CameraSpec,
    SpecError,
    concatenate,
    difference,
    float32,
)

PAIR = ArraySpec(("a", "b"), ("rad", "m"), (-1.0, 0.0), (1.0, 2.0))


def changed(robot, **fields):
    return msgspec.structs.replace(robot, **fields)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ((("a",), ("rad", "m"), (0.0,), (1.0,)), "differ in length"),
        ((("a", "a"), ("m", "m"), (0.0, 0.0), (1.0, 1.0)), "different names"),
        ((("a",), ("m",), (2.0,), (1.0,)), "low <= high for a"),
        ((("a",), ("m",), (0.0,), (float("inf"),)), "finite"),
        ((("a",), ("m",), (float("nan"),), (1.0,)), "finite"),
    ],
)
def test_array_spec_refuses_contradictions(fields, words):
    with pytest.raises(SpecError, match=words):
        ArraySpec(*fields)


def test_validate_returns_float32():
    value = PAIR.validate([0.5, 1])
    assert value.dtype == np.float32
    assert value.tolist() == [0.5, 1.0]


@pytest.mark.parametrize("value", [[0.0], [0.0, 0.0, 0.0], [[0.0, 0.0]], 0.0])
def test_validate_refuses_other_shapes(value):
    with pytest.raises(SpecError, match="shape"):
        PAIR.validate(value)


def test_validate_names_what_is_not_finite():
    with pytest.raises(SpecError, match="not finite: b"):
        PAIR.validate([0.0, np.nan])


def test_clip_keeps_to_the_bounds():
    assert PAIR.clip(float32([-3.0, 3.0])).tolist() == [-1.0, 2.0]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"observation": {}, "tracks": ""}, "at least one observation"),
        ({"control_period_s": 0.06}, "command_timeout_s / 2"),
        ({"control_period_s": 0.0}, "0 < control_period_s"),
        ({"home": (0.0,)}, "differ in"),
        ({"home": (9.0, 0.0)}, "within the action bounds"),
        ({"max_action_step": (0.1, 0.0)}, "positive steps"),
        ({"max_action_step": (0.1, float("nan"))}, "positive steps"),
        ({"tracks": "torque"}, "one of"),
    ],
)
def test_robot_spec_refuses_contradictions(robot, fields, words):
    with pytest.raises(SpecError, match=words):
        changed(robot, **fields)


def test_digest_is_of_the_whole_content(robot):
    assert changed(robot).digest == robot.digest
    assert changed(robot, command_timeout_s=0.2).digest != robot.digest
    assert changed(robot, conventions={}).digest != robot.digest


def test_digest_survives_the_wire(robot):
    frame = msgspec.json.encode(robot)
    assert msgspec.json.decode(frame, type=type(robot)).digest == robot.digest


def test_concatenate_is_in_the_order_of_the_spec(robot):
    reading = {
        "joint_velocity": float32([3.0, 4.0]),
        "joint_position": float32([1.0, 2.0]),
    }
    assert concatenate(robot, reading).tolist() == [1.0, 2.0, 3.0, 4.0]


def test_equal_specs_have_no_difference(robot):
    assert difference(robot, changed(robot)) == []


def test_difference_names_a_renamed_joint_in_one_line(robot):
    action = msgspec.structs.replace(robot.action, names=("hip", "ankle"))
    assert difference(robot, changed(robot, action=action)) == [
        "action: element 1 is 'knee' here and 'ankle' there"
    ]


def test_difference_gives_the_permutation(robot):
    action = msgspec.structs.replace(robot.action, names=("knee", "hip"))
    (line,) = difference(robot, changed(robot, action=action))
    assert line.endswith("permutation [1, 0]")


def test_difference_names_units_and_bounds(robot):
    action = msgspec.structs.replace(
        robot.action, units=("rad", "deg"), high=(2.0, 2.5)
    )
    lines = difference(robot, changed(robot, action=action))
    assert lines == [
        "action: unit of knee: 'rad' here and 'deg' there",
        "action: high of knee: 2.0 here and 2.5 there",
    ]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"control_period_s": 0.05}, "control_period_s [s]: 0.02 here and 0.05 there"),
        ({"control": "velocity"}, "control: 'position' here and 'velocity' there"),
        ({"cameras": {"top": CameraSpec(8, 8, 0.1)}}, "camera top: there and not here"),
        ({"home": (0.1, 0.0)}, "home"),
        ({"conventions": {"zero": "up"}}, "conventions"),
    ],
)
def test_difference_names_every_field(robot, fields, words):
    (line,) = difference(robot, changed(robot, **fields))
    assert words in line


def test_difference_names_a_missing_array(robot):
    only = {"joint_position": robot.observation["joint_position"]}
    lines = difference(robot, changed(robot, observation=only))
    assert lines == ["observation joint_velocity: here and not there"]
