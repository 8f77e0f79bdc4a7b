"""What a control loop takes for itself, and that it gives it back."""

import gc
import os
import sys
import threading
from pathlib import Path

import pytest

from robostack.node import realtime as module
from robostack.node.realtime import realtime, urgent

permitted = pytest.mark.skipif(
    not hasattr(os, "sched_setscheduler") or os.getuid() != 0,
    reason="real-time priority may be refused here",
)


def policy():
    return os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK


def test_other_threads_give_way_soon_and_garbage_is_left_alone():
    interval_s, frozen = sys.getswitchinterval(), gc.get_freeze_count()
    with realtime(0.02):
        assert sys.getswitchinterval() <= 0.0005
        assert gc.get_freeze_count() > frozen
    assert sys.getswitchinterval() == pytest.approx(interval_s)
    assert gc.get_freeze_count() == 0


@permitted
def test_the_loop_runs_first_but_not_what_it_starts():
    seen = []
    with realtime(0.02) as raised:
        assert raised
        assert policy() == os.SCHED_FIFO
        child = threading.Thread(target=lambda: seen.append(policy()))
        child.start()
        child.join()
    assert seen == [os.SCHED_OTHER]
    assert policy() == os.SCHED_OTHER


@permitted
def test_a_watchdog_comes_before_the_loop():
    with realtime(0.02):
        loop = os.sched_getparam(0).sched_priority
    with urgent():
        assert os.sched_getparam(0).sched_priority > loop


def test_where_it_is_refused_the_loop_runs_all_the_same(monkeypatch):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    with realtime(0.02) as raised, urgent() as also:
        assert not raised
        assert not also


@pytest.mark.parametrize(("period_s", "asked"), [(0.002, b"\0\0\0\0"), (0.02, b"")])
def test_processors_stay_awake_for_a_fast_loop_alone(
    period_s, asked, tmp_path, monkeypatch
):
    device = tmp_path / "cpu_dma_latency"
    device.write_bytes(b"")
    monkeypatch.setattr(module, "LATENCY", device)
    with realtime(period_s):
        assert device.read_bytes() == asked
        assert opened(device) == bool(asked)  # Linux holds to it while it is open
    assert not opened(device)


def opened(path):
    return any(fd.resolve() == path for fd in Path("/proc/self/fd").iterdir())


def test_where_processors_may_not_be_kept_awake_the_loop_runs_all_the_same(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(module, "LATENCY", tmp_path / "none")
    with module.wakeful() as awake, realtime(0.002):
        assert not awake
