"""A person takes over and gives back in steps of a blend, never in a jump."""

from __future__ import annotations

import numpy as np
import pytest
from author_bench import Scripted, SlowSolver, reading

from robostack.hardware.fake.joints import SPEC
from robostack.runtime.author import Answer, Counts, Pace, Planner
from robostack.runtime.operator import Blend, Operated, Shared
from robostack.spec import float32
from robostack.teleop.teleoperator import TeleopError

PERIODS = 15  # 0.3 s of 0.02 s each
POLICY, PERSON = float32([0.5, -0.5]), float32([-0.2, 0.1])


class Steady:
    """A policy that always wants the same."""

    def __init__(self) -> None:
        self.counts, self.inference_s = Counts(), []
        self.seen: list[int] = []
        self.resumed: list[int] = []

    def begin(self):
        pass

    def answer(self, reading):
        self.seen.append(reading.seq)
        return Answer(POLICY)

    def watch(self, reading):
        self.seen.append(reading.seq)

    def resume(self, seq):
        self.resumed.append(seq)


def drive(author, periods, start=POLICY):
    """Answer `periods` readings, each applied in full; return the answers."""
    author.begin()
    applied, answers = start, []
    for seq in range(periods):
        answer = author.answer(reading(seq, applied=applied))
        answers.append(answer)
        if answer is not None:
            applied = answer.action
    return answers


def shared(intervening, policy=None, script=lambda i: PERSON, note=lambda s: None):
    person = Scripted(script, intervening)
    return Shared(policy or Steady(), person, SPEC, note)


def test_no_step_is_larger_than_the_blend_allows_both_ways():
    answers = drive(shared(range(20, 60)), 100)
    actions = np.stack([POLICY, *(a.action for a in answers)])
    steps = np.abs(np.diff(actions, axis=0))
    assert steps.max() <= np.abs(POLICY - PERSON).max() / PERIODS + 1e-6
    assert actions[50] == pytest.approx(PERSON)
    assert (actions[-1] == POLICY).all()


def test_interventions_are_flagged_as_long_as_a_person_has_the_robot():
    flags = [a.intervention for a in drive(shared(range(20, 60)), 100)]
    assert flags == [20 <= i < 60 for i in range(100)]


def test_without_an_intervention_the_policys_actions_are_untouched():
    answers = drive(shared(()), 10, start=float32([0, 0]))
    assert all(a.action is POLICY for a in answers)


def test_the_policy_sees_every_reading_and_is_told_when_it_goes_on():
    policy = Steady()
    drive(shared(range(5, 9), policy), 12)
    assert policy.seen == list(range(12))
    assert policy.resumed == [9]


def test_a_policy_without_a_plan_gets_the_robot_back_only_once_it_has_one():
    solver = SlowSolver()
    policy = Planner(solver, Pace(8, 4, float("inf"), 0.0))
    author = shared(range(5), policy)
    author.begin()
    applied = PERSON
    for seq in range(12):
        if seq == 9:
            solver.give(8)
        answer = author.answer(reading(seq, applied=applied))
        step = np.abs(answer.action - applied).max()
        assert step <= 9.0 / 15  # the chunk is far away; the blend takes its time
        if 5 <= seq < 9:
            assert step == 0
        applied = answer.action
    assert not np.allclose(applied, PERSON)


def test_an_operator_too_far_away_does_not_get_the_robot_and_hears_why():
    said = []
    far = float32([0.5, 0.31])
    answers = drive(shared(range(5, 9), script=lambda i: far, note=said.append), 12)
    assert not any(a.intervention for a in answers)
    assert len(said) == 1
    assert (
        "elbow of the robot is at -0.50 rad and that of its operator at 0.31"
        in (said[0])
    )


def test_while_the_operator_is_not_known_nothing_is_sent():
    author = shared(range(100), script=lambda i: None if 10 < i < 15 else PERSON)
    answers = drive(author, 20)
    assert [i for i, a in enumerate(answers) if a is None] == [11, 12, 13, 14]
    assert author.counts.starved == 4


def test_an_operator_who_was_away_comes_back_without_a_jump():
    def script(i):
        return None if 40 < i < 45 else PERSON if i < 45 else POLICY

    answers = drive(shared(range(100), script=script), 60)
    step = np.abs(answers[45].action - answers[40].action).max()
    assert 0 < step <= np.abs(POLICY - PERSON).max() / PERIODS + 1e-6


def test_alone_a_person_begins_slowly_and_all_of_it_is_flagged():
    author = Operated(Scripted(lambda i: PERSON), SPEC)
    answers = drive(author, 60, start=float32([0.0, 0.0]))
    actions = np.stack([[0.0, 0.0], *(a.action for a in answers)])
    assert np.abs(np.diff(actions, axis=0)).max() <= 0.2 / 50 + 1e-6
    assert all(a.intervention for a in answers)
    assert (actions[-1] == PERSON).all()


def test_a_leader_that_is_far_away_is_refused_before_anything_moves():
    author = Operated(Scripted(lambda i: [0.9, 0.0]), SPEC)
    author.begin()
    with pytest.raises(TeleopError, match=r"shoulder.*at most 0\.8 between them"):
        author.answer(reading(0))


def test_after_silence_a_person_is_blended_in_again():
    author = Operated(
        Scripted(lambda i: None if i == 60 else [0.0, 0.0] if i < 60 else [0.4, 0]),
        SPEC,
    )
    answers = drive(author, 70, start=float32([0.0, 0.0]))
    assert [i for i, a in enumerate(answers) if a is None] == [60]
    assert 0 < answers[61].action[0] < 0.4 / 40


def test_a_blend_asks_for_no_more_than_half_of_the_largest_step():
    blend = Blend(float32([-1.5, 0]), float32([1.5, 0]), SPEC, 0.0)
    actions = [blend(float32([1.5, 0])) for _ in range(blend.periods)]
    assert np.abs(np.diff([a[0] for a in actions])).max() <= 0.05 + 1e-6
    assert (actions[-1] == float32([1.5, 0])).all()
