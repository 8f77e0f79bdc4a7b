"""Keys, sticks and leader arms say where a robot is to be."""

from __future__ import annotations

import os
import sys
import termios
import time

import msgspec
import numpy as np
import pytest
from author_bench import Scripted

from robostack import plugins
from robostack.hardware.fake.driver import FakeRobot
from robostack.hardware.fake.joints import SPEC
from robostack.spec import ArraySpec, float32
from robostack.teleop.gamepad import Gamepad, Pad
from robostack.teleop.jog import Jog
from robostack.teleop.keyboard import Keyboard, keys
from robostack.teleop.leader import Leader
from robostack.teleop.teleoperator import TeleopError, make, too_far

HALF = 0.05  # half of the fake's largest step [rad]


def settled(teleoperator, reads=50):
    for _ in range(reads):
        action = teleoperator.read()
    return action


def test_a_key_moves_the_chosen_joint_by_half_a_largest_step():
    keyboard = Keyboard(SPEC)
    for key in "2++1-":
        keyboard.press(key)
    assert settled(keyboard) == pytest.approx([-HALF, 2 * HALF])


def test_arrows_choose_and_move():
    keyboard = Keyboard(SPEC)
    for key in keys("\x1b[B\x1b[C\x1b[A\x1b[D"):
        keyboard.press(key)
    assert settled(keyboard) == pytest.approx([-HALF, HALF])


def test_keys_held_down_never_make_a_step_larger_than_half_the_largest():
    keyboard = Keyboard(SPEC)
    last = keyboard.read()
    for _ in range(50):
        for _ in range(5):
            keyboard.press("+")
        now = keyboard.read()
        assert np.abs(now - last).max() <= HALF + 1e-6
        last = now
    assert settled(keyboard)[0] == pytest.approx(1.5)  # its bound


def test_space_takes_over_and_gives_back_and_enter_ends_the_episode():
    keyboard = Keyboard(SPEC)
    keyboard.press(" ")
    assert keyboard.intervening
    keyboard.press(" ")
    assert not keyboard.intervening
    keyboard.press("\n")
    assert keyboard.finished
    keyboard.begin()
    assert not keyboard.finished


def test_whoever_takes_over_goes_on_from_the_action_in_effect():
    keyboard = Keyboard(SPEC)
    keyboard.press("+")
    keyboard.start(float32([0.3, 0.2]))
    assert keyboard.read() == pytest.approx([0.3, 0.2])


def test_a_real_terminal_is_heard_and_given_back_as_it_was():
    person, terminal = os.openpty()
    before = termios.tcgetattr(terminal)
    keyboard = Keyboard(SPEC, terminal)
    try:
        keyboard.connect()
        os.write(person, b"2+ ")
        deadline = time.monotonic() + 10
        while not keyboard.intervening and time.monotonic() < deadline:
            time.sleep(0.002)
        assert settled(keyboard) == pytest.approx([0, HALF])
    finally:
        keyboard.close()
    assert termios.tcgetattr(terminal) == before
    os.close(person)
    os.close(terminal)


def test_standard_input_that_is_no_terminal_is_one_sentence(monkeypatch, tmp_path):
    with (tmp_path / "x").open("w+") as file:
        monkeypatch.setattr(sys, "stdin", file)
        with pytest.raises(TeleopError, match="expected a terminal"):
            Keyboard(SPEC).connect()


class FakeStick:
    def __init__(self) -> None:
        self.pad = Pad((0.0, 0.0), frozenset())

    def open(self):
        pass

    def look(self):
        return self.pad

    def close(self):
        pass


def test_a_stick_pushes_its_joint_as_fast_as_it_is_pushed():
    stick = FakeStick()
    gamepad = Gamepad(SPEC, stick)
    stick.pad = Pad((1.0, -0.5), frozenset())
    for _ in range(4):
        action = gamepad.read()
    assert action == pytest.approx([4 * HALF, -2 * HALF])


def test_a_stick_near_its_middle_moves_nothing():
    stick = FakeStick()
    gamepad = Gamepad(SPEC, stick)
    stick.pad = Pad((0.1, -0.1), frozenset())
    assert settled(gamepad) == pytest.approx([0, 0])


def test_a_button_held_counts_once():
    stick = FakeStick()
    gamepad = Gamepad(SPEC, stick)
    stick.pad = Pad((), frozenset({0, 7}))
    gamepad.read()
    gamepad.read()
    assert gamepad.intervening
    assert gamepad.finished


def test_shoulder_buttons_reach_joints_beyond_the_sticks():
    names = [f"j{i}" for i in range(6)]
    many = msgspec.structs.replace(
        SPEC,
        tracks="",
        action=ArraySpec.uniform(names, "rad", -1, 1),
        home=(0.0,) * 6,
        max_action_step=(0.1,) * 6,
    )
    stick = FakeStick()
    gamepad = Gamepad(many, stick)
    assert gamepad.chosen == ("j0", "j1", "j2", "j3")
    stick.pad = Pad((0.0,) * 4, frozenset({5}))
    gamepad.read()
    assert gamepad.chosen == ("j2", "j3", "j4", "j5")


def test_pygame_without_a_controller_is_one_sentence():
    pytest.importorskip("pygame", exc_type=ImportError)
    gamepad = Gamepad(SPEC)
    with pytest.raises(TeleopError, match="found none"):
        gamepad.connect()
    gamepad.close()


class HandMoved(FakeRobot):
    """A leader with its joints in another order, that a hand moves."""

    def __init__(self) -> None:
        super().__init__()
        names = ("elbow", "shoulder")
        turned = {
            name: msgspec.structs.replace(array, names=names)
            for name, array in SPEC.observation.items()
        }
        self.spec = msgspec.structs.replace(SPEC, name="led", observation=turned)
        self.hand = float32([0.1, 0.2])
        self.calls = []
        self.broken = False

    def connect(self):
        self.calls.append("connect")

    def reset(self):
        self.calls.append("reset")

    def apply(self, action):
        self.calls.append("apply")
        return action

    def close(self):
        self.calls.append("close")

    def read(self):
        if self.broken:
            raise OSError("unplugged")
        return {"joint_position": self.hand, "joint_velocity": float32([0, 0])}


def test_a_leader_is_matched_by_joint_name_and_never_driven():
    robot = HandMoved()
    leader = Leader(SPEC, robot)
    leader.connect()
    assert leader.read() == pytest.approx([0.2, 0.1])
    leader.close()
    assert robot.calls == ["connect", "close"]


def test_a_leader_not_read_for_a_while_has_told_nothing():
    now = [0.0]
    leader = Leader(SPEC, HandMoved(), now=lambda: now[0])
    leader.look()
    now[0] = 0.19
    assert leader.read() is not None
    now[0] = 0.21
    assert leader.read() is None


def test_a_leader_that_breaks_is_one_sentence():
    robot = HandMoved()
    leader = Leader(SPEC, robot)
    leader.connect()
    robot.broken = True
    leader.join()
    with pytest.raises(TeleopError, match="can no longer be read: unplugged"):
        leader.read()
    leader.close()


def test_a_leader_without_a_joint_of_the_robot_is_refused_by_name():
    other = msgspec.structs.replace(
        SPEC, action=ArraySpec.uniform(("shoulder", "wrist"), "rad", -1, 1)
    )
    with pytest.raises(TeleopError, match="expected wrist"):
        Leader(other, HandMoved())


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("joystick", "expected keyboard, gamepad, leader:.*got 'joystick'"),
        ("leader:sim:pendulum", "expected hardware:ROBOT as a leader"),
        ("leader:hardware:fakee", "did you mean 'fake'"),
    ],
)
def test_an_unknown_teleoperator_is_one_sentence(what, sentence):
    with pytest.raises(TeleopError, match=sentence):
        make(what, SPEC)


def test_distance_is_judged_joint_by_joint():
    assert too_far(SPEC, float32([0, 0]), float32([0.79, -0.79])) == ""
    assert "elbow" in too_far(SPEC, float32([0, 0]), float32([0.7, 0.81]))
    assert "shoulder" in too_far(SPEC, float32([0, 0]), float32([np.nan, 0]))


def test_a_jog_goes_on_to_its_target_when_nobody_pushes():
    jog = Jog(SPEC)
    for _ in range(3):
        jog.push(0, 1.0)
    assert jog.advance()[0] == pytest.approx(HALF)
    assert jog.advance()[0] == pytest.approx(2 * HALF)


def test_a_scripted_operator_is_a_teleoperator():
    assert settled(Scripted(lambda i: [0.1, 0.1]), 2) == pytest.approx([0.1, 0.1])


def test_an_so101_by_its_address_leads_another():
    pytest.importorskip("scservo_sdk")
    robot = plugins.load("hardware", "so101").spec("emulated")
    leader = make("leader:hardware:so101/emulated", robot)
    try:
        leader.connect()
        leader.look()
        assert leader.read() == pytest.approx(robot.home, abs=0.8)
    finally:
        leader.close()


def test_a_plug_in_may_have_teleoperators_of_its_own(monkeypatch):
    fake = plugins.load("hardware", "fake")
    monkeypatch.setattr(
        fake, "teleoperator", lambda argument, robot: (argument, robot), raising=False
    )
    assert make("hardware:fake/stick@file", SPEC) == ("stick@file", SPEC)


def test_a_robot_that_was_meant_as_a_leader_is_told_how():
    with pytest.raises(TeleopError, match=r"did you mean leader:hardware:fake\?"):
        make("hardware:fake", SPEC)
