"""What a control loop takes for itself, and that it gives it back."""

import gc
import os
import sys
import threading

import pytest

from robostack.node.realtime import realtime, urgent

permitted = pytest.mark.skipif(
    not hasattr(os, "sched_setscheduler") or os.getuid() != 0,
    reason="real-time priority may be refused here",
)


def policy():
    return os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK


def test_other_threads_give_way_soon_and_garbage_is_left_alone():
    interval_s, frozen = sys.getswitchinterval(), gc.get_freeze_count()
    with realtime():
        assert sys.getswitchinterval() <= 0.0005
        assert gc.get_freeze_count() > frozen
    assert sys.getswitchinterval() == pytest.approx(interval_s)
    assert gc.get_freeze_count() == 0


@permitted
def test_the_loop_runs_first_but_not_what_it_starts():
    seen = []
    with realtime() as raised:
        assert raised
        assert policy() == os.SCHED_FIFO
        child = threading.Thread(target=lambda: seen.append(policy()))
        child.start()
        child.join()
    assert seen == [os.SCHED_OTHER]
    assert policy() == os.SCHED_OTHER


@permitted
def test_a_watchdog_comes_before_the_loop():
    with realtime():
        loop = os.sched_getparam(0).sched_priority
    with urgent():
        assert os.sched_getparam(0).sched_priority > loop


def test_where_it_is_refused_the_loop_runs_all_the_same(monkeypatch):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    with realtime() as raised, urgent() as also:
        assert not raised
        assert not also
