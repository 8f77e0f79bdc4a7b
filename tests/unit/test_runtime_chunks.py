"""Actions come from the chunk and row that the readings' own numbers say."""

from __future__ import annotations

import time

import numpy as np
import pytest
from author_bench import SlowSolver, reading
from hypothesis import given
from hypothesis import strategies as st

from robostack.runtime.author import Pace, Planner, pace
from robostack.runtime.chunks import Chunk, Plan
from robostack.spec import float32

FOREVER = float("inf")


def chunk(seq, length=5):
    return Chunk(seq, float32([[seq + i / 100] for i in range(length)]), 0.0)


def test_a_chunk_is_entered_where_time_has_come_to_and_not_at_its_beginning():
    plan = Plan(execute=5)
    plan.merge(chunk(10), 10)
    assert plan.merge(chunk(13), 15)
    assert plan.at(15) == pytest.approx([13.02])


def test_at_most_execute_actions_of_a_chunk_are_used():
    plan = Plan(execute=3)
    plan.merge(chunk(10), 10)
    assert [plan.at(seq) is not None for seq in range(9, 15)] == [
        *[False, True, True, True, False, False]
    ]


def test_an_older_chunk_never_replaces_a_newer_one():
    plan = Plan(execute=5)
    plan.merge(chunk(12), 12)
    assert not plan.merge(chunk(11), 12)
    assert plan.at(12) == pytest.approx([12.0])


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=20),
    st.integers(1, 8),
)
def test_whatever_order_chunks_come_in_a_row_is_for_its_own_reading(come, execute):
    plan = Plan(execute)
    for seq, now in come:
        plan.merge(chunk(seq, 8), now)
        action = plan.at(now)
        if action is not None:
            start = int(action[0])
            assert action[0] == pytest.approx(start + (now - start) / 100)
            assert now - start < execute
        assert (action is not None) == (plan.left(now) > 0)


@pytest.fixture
def solver():
    return SlowSolver()


def planner(solver, execute=8, lead=4, deadline_s=FOREVER):
    made = Planner(solver, Pace(execute, lead, deadline_s, 0.0))
    made.begin()
    return made


def first(answer):
    return None if answer is None else pytest.approx(float(answer.action[0]))


def test_in_real_time_the_next_chunk_is_asked_for_when_half_is_left(solver):
    policy = planner(solver)
    solver.wanted.append(0)
    solver.give(0)
    solver.wanted.clear()
    for seq in range(7):
        policy.answer(reading(seq))
    assert solver.wanted == [4]


def test_the_robot_is_held_until_the_first_chunk_and_no_row_is_skipped(solver):
    policy = planner(solver)
    held = [policy.answer(reading(seq, applied=(0.5, 0.1))) for seq in range(3)]
    assert [a.action.tolist() for a in held] == [pytest.approx([0.5, 0.1])] * 3
    assert all(a.holding for a in held)
    solver.give(0)
    assert first(policy.answer(reading(3))) == 0.0
    assert first(policy.answer(reading(4))) == 0.01
    assert policy.counts.waited == 3


def test_when_a_chunk_runs_out_nothing_is_sent_and_it_is_counted(solver):
    policy = planner(solver, execute=4, lead=2)
    policy.answer(reading(0))
    solver.give(0)
    answers = [first(policy.answer(reading(seq))) for seq in range(1, 8)]
    assert answers == [0.0, 0.01, 0.02, 0.03, None, None, None]
    assert policy.counts.starved == 3


def test_it_goes_on_with_the_row_that_is_due_after_it_starved(solver):
    policy = planner(solver, execute=4, lead=2)
    policy.answer(reading(0))
    solver.give(0)
    for seq in range(1, 6):
        policy.answer(reading(seq))  # at 5 there is none left
    solver.give(5)
    assert first(policy.answer(reading(7))) == 5.02


def test_a_chunk_that_comes_when_all_its_rows_are_past_is_counted_late(solver):
    policy = planner(solver, execute=4, lead=2)
    policy.answer(reading(0))
    solver.give(0)
    policy.answer(reading(1))
    policy.answer(reading(3))
    solver.give(3)
    assert policy.answer(reading(9)) is None
    assert policy.counts.late == 1


def test_an_inference_beyond_its_deadline_is_not_used(solver):
    policy = planner(solver, execute=1, lead=0, deadline_s=0.001)
    assert policy.answer(reading(0)) is None
    time.sleep(0.005)
    solver.give(0)
    assert policy.answer(reading(0)) is None
    assert (policy.counts.late, policy.counts.starved) == (1, 2)


def test_one_action_a_reading_is_never_the_answer_to_another_reading(solver):
    policy = planner(solver, execute=1, lead=0)
    policy.answer(reading(0))
    solver.give(0)
    assert policy.answer(reading(1)) is None


def test_after_a_resume_no_chunk_from_before_is_used(solver):
    policy = planner(solver)
    policy.answer(reading(0))
    solver.give(0)
    policy.answer(reading(1))
    policy.answer(reading(5))
    policy.resume(6)
    solver.give(5)
    answer = policy.answer(reading(6, applied=(0.7, 0.0)))
    assert answer.holding
    assert answer.action == pytest.approx([0.7, 0.0])


def test_every_reading_reaches_the_policy_once(solver):
    policy = planner(solver)
    policy.answer(reading(0))
    policy.watch(reading(1))
    policy.answer(reading(2))
    assert solver.shown == [0, 1, 2]


def test_in_lockstep_a_whole_chunk_is_used_and_nothing_has_a_deadline():
    assert pace(8, 0.02, lockstep=True) == Pace(8, 0, FOREVER, 0.0)
    assert pace(8, 0.02, lockstep=True, execute=3).execute == 3


def test_the_deadline_is_as_long_as_the_actions_are_due():
    one, many = pace(1, 0.02, lockstep=False), pace(8, 0.02, lockstep=False)
    assert one == Pace(1, 0, pytest.approx(0.02), pytest.approx(0.02))
    assert many == Pace(8, 4, pytest.approx(0.16), pytest.approx(0.02))
    asked = pace(1, 0.02, lockstep=False, deadline_s=0.05)
    assert asked.patience_s == pytest.approx(0.05)
    assert np.isfinite(asked.deadline_s)
