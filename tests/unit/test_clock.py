import pytest

from robostack.clock import ManualClock, MonotonicClock, Ticker


def test_manual_clock_never_goes_back():
    clock = ManualClock(5.0)
    clock.sleep_until(3.0)
    assert clock.now() == 5.0
    clock.sleep_until(6.0)
    assert clock.now() == 6.0


def test_monotonic_clock_does_not_return_early():
    clock = MonotonicClock()
    deadline = clock.now() + 0.003
    clock.sleep_until(deadline)
    assert clock.now() >= deadline


def test_monotonic_clock_returns_at_once_from_the_past():
    clock = MonotonicClock()
    clock.sleep_until(clock.now() - 100.0)


def test_ticker_does_not_drift():
    clock = ManualClock()
    ticker = Ticker(clock, 0.1)
    for _ in range(50):
        clock.advance(0.03)  # work
        ticker.wait()
    assert clock.now() == pytest.approx(5.0)
    assert ticker.overruns == 0


def test_ticker_skips_what_it_missed_and_keeps_the_phase():
    clock = ManualClock()
    ticker = Ticker(clock, 0.1)
    ticker.wait()
    clock.advance(0.25)  # at 0.35: the ticks at 0.2 and 0.3 are gone
    ticker.wait()
    assert clock.now() == pytest.approx(0.4)
    assert ticker.overruns == 1
    ticker.wait()
    assert clock.now() == pytest.approx(0.5)


def test_advance_gives_the_deadline_without_waiting():
    clock = ManualClock(1.0)
    ticker = Ticker(clock, 0.5)
    assert ticker.advance() == 1.5
    assert clock.now() == 1.0


def test_landing_on_the_deadline_is_no_overrun():
    clock = ManualClock()
    ticker = Ticker(clock, 0.1)
    for _ in range(30):
        clock.advance(0.1)
        ticker.wait()
    assert ticker.overruns == 0


def test_ticks_missed_in_a_row_are_counted_until_one_is_in_time():
    clock, missed = ManualClock(), []
    ticker = Ticker(clock, 1.0)
    for work_s in (0.5, 1.5, 1.5, 3.5, 0.5):
        clock.advance(work_s)
        clock.sleep_until(ticker.advance())
        missed.append(ticker.missed)
    assert missed == [0, 1, 2, 5, 0]
