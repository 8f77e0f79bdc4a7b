"""Inference beside the I/O: newest wins, memory misses nothing, errors return."""

from __future__ import annotations

import threading

import pytest

from robostack.runtime.solver import Inline, Worker
from robostack.spec import float32

WAIT_S = 10.0  # never waited for in full


class GatedBrain:
    """Infers when the test lets it, and writes down what it was asked."""

    def __init__(self, *, remembers) -> None:
        self.remembers = remembers
        self.log = []
        self.inside = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)
        self.error = None

    def reset(self):
        self.log.append("reset")

    def infer(self, arrays):
        self.inside.release()
        assert self.gate.acquire(timeout=WAIT_S)
        if self.error is not None:
            raise self.error
        self.log.append(f"infer {arrays['x'][0]:g}")
        return float32([[arrays["x"][0]]])

    def observe(self, arrays):
        self.log.append(f"observe {arrays['x'][0]:g}")


def post(solver, seq, *, wanted=True):
    solver.post(seq, {"x": float32([seq])}, wanted=wanted)


@pytest.mark.parametrize("remembers", [False, True])
def test_the_newest_reading_wins_and_a_memory_still_sees_all(remembers):
    brain = GatedBrain(remembers=remembers)
    with Worker(brain) as worker:
        worker.begin()
        post(worker, 0)
        assert brain.inside.acquire(timeout=WAIT_S)
        for seq in (1, 2, 3):  # while it thinks about 0
            post(worker, seq)
        brain.gate.release()
        assert worker.poll(WAIT_S).seq == 0
        brain.gate.release()
        assert worker.poll(WAIT_S).seq == 3
        assert not worker.busy
    between = ["observe 1", "observe 2"] if remembers else []
    assert brain.log == ["reset", "infer 0", *between, "infer 3"]


def test_what_belongs_to_an_episode_that_is_over_never_comes_out():
    brain = GatedBrain(remembers=True)
    with Worker(brain) as worker:
        worker.begin()
        post(worker, 7)
        assert brain.inside.acquire(timeout=WAIT_S)
        worker.begin()
        post(worker, 0)
        brain.gate.release()
        assert brain.inside.acquire(timeout=WAIT_S)  # 7 is answered, and 0 is not
        assert worker.poll(0.0) is None
        brain.gate.release()
        assert worker.poll(WAIT_S).seq == 0
    assert brain.log == ["reset", "infer 7", "reset", "infer 0"]


def test_an_error_of_the_policy_is_raised_where_it_is_asked_for():
    brain = GatedBrain(remembers=False)
    brain.error = ValueError("not finite")
    brain.gate.release()
    with Worker(brain) as worker:
        worker.begin()
        post(worker, 0)
        with pytest.raises(ValueError, match="not finite"):
            worker.poll(WAIT_S)


def test_polling_returns_by_its_deadline_while_the_policy_thinks():
    brain = GatedBrain(remembers=False)
    with Worker(brain) as worker:
        worker.begin()
        post(worker, 0)
        assert brain.inside.acquire(timeout=WAIT_S)
        assert worker.poll(0.0) is None
        assert worker.poll(0.001) is None
        brain.gate.release()


def test_inline_gives_what_the_worker_gives():
    brain = GatedBrain(remembers=True)
    brain.gate.release()
    solver = Inline(brain)
    solver.begin()
    post(solver, 4, wanted=False)
    assert solver.poll(0.0) is None
    post(solver, 5)
    assert solver.poll(0.0).seq == 5
    assert brain.log == ["reset", "observe 4", "infer 5"]
