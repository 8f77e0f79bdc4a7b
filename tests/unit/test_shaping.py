"""Targets stay within position, velocity, acceleration and jerk, whatever is asked."""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from robostack.limiting import ActionLimiter
from robostack.limits import derive
from robostack.shaper import Shaper, limits_axes
from robostack.shaping import (
    Axis,
    Motion,
    approach,
    brake,
    ease,
    rounding,
    stays,
    window,
)
from robostack.spec import ArraySpec, RobotSpec, float32

SPEC = RobotSpec(
    name="slider",
    control_period_s=0.02,
    command_timeout_s=0.1,
    control="position",
    tracks="joint_position",
    observation={"joint_position": ArraySpec.uniform(("x", "y"), "rad", -1.1, 1.6)},
    cameras={},
    action=ArraySpec.uniform(("x", "y"), "rad", -1.0, 1.5),
    home=(0.0, 0.0),
    max_action_step=(0.1, 0.1),
    conventions={},
)


def limits_of(velocity=5.0, acceleration=50.0, jerk=1000.0, period_s=0.02):
    return msgspec.structs.replace(
        derive(SPEC),
        period_s=period_s,
        step=(velocity * period_s,) * 2,
        velocity=(velocity,) * 2,
        acceleration=(acceleration,) * 2,
        jerk=(jerk,) * 2,
    )


def shaper_of(limits, at=(0.0, 0.0)):
    shaper = Shaper(limits)
    shaper.start(list(at))
    shaper.settle(list(at))
    return shaper


def play(shaper, requests):
    """Return the targets (T, 2) that became of `requests`."""
    targets = []
    for request in requests:
        shaped = shaper.shape(list(request))
        shaper.settle(shaped)
        targets.append(shaped)
    return np.array(targets)


def worst(limits, start, targets):
    """Return the largest part of each limit that `targets` (T, 2) took."""
    axis, path = limits_axes(limits)[0], np.array([start] * 3 + list(targets))
    slack = 1e-6
    outside = max((path - axis.high).max(), (axis.low - path).max())
    parts = [
        np.abs(np.diff(path, n=n, axis=0)).max() / (most + slack)
        for n, most in ((1, axis.speed), (2, axis.surge), (3, axis.jolt))
    ]
    return outside, max(parts)


LIMITS = [
    limits_of(),
    derive(SPEC),
    limits_of(jerk=1e6),
    limits_of(jerk=20.0, acceleration=30.0, velocity=2.0),
    limits_of(period_s=0.002),
    limits_of(velocity=1.0, acceleration=2.0, jerk=300.0, period_s=0.05),
    limits_of(velocity=0.5, acceleration=100.0, jerk=10.0, period_s=0.1),
]
ASKED = st.one_of(
    st.floats(-3, 3),
    st.sampled_from([-1e30, 1e30, -1.0, 1.5, 0.0, 1e-42]),
)


@pytest.mark.parametrize("limits", LIMITS)
@given(st.lists(st.tuples(ASKED, ASKED), min_size=1, max_size=60), st.integers(1, 12))
@settings(max_examples=25, deadline=None)
def test_no_sequence_of_requests_leaves_any_limit(limits, requests, held):
    requests = [r for r in requests for _ in range(held)]
    start = (0.1, -0.2)
    outside, part = worst(limits, start, play(shaper_of(limits, start), requests))
    assert outside <= 1e-5
    assert part <= 1.001


@pytest.mark.parametrize("limits", LIMITS)
@pytest.mark.parametrize("turn", [1, 2, 3, 7, 30, 200])
def test_bang_bang_leaves_no_limit_and_uses_them(limits, turn):
    requests = [[9.0 * (-1) ** (k // turn)] * 2 for k in range(600)]
    targets = play(shaper_of(limits), requests)
    outside, part = worst(limits, (0.0, 0.0), targets)
    assert outside <= 1e-5
    assert part <= 1.001
    assert part >= 0.9 or limits.period_s < 0.01  # slow there, beside float32


def narrower(limits):
    """Return limits a little within `limits`, by more than float32s round.

    A target that is off by as much changes its third difference by three times that.
    """
    low, high = (tuple(0.99 * x for x in row) for row in (limits.low, limits.high))
    off = 4.0 * rounding(limits_axes(limits)[0])
    parts = {
        name: tuple(0.99 * x - off / limits.period_s**n for x in getattr(limits, name))
        for n, name in enumerate(("step", "velocity", "acceleration", "jerk"))
    }
    return msgspec.structs.replace(limits, low=low, high=high, **parts)


@pytest.mark.parametrize("limits", LIMITS)
@given(st.lists(st.floats(-1, 1), min_size=20, max_size=60), st.integers(1, 9))
@example([0, 1, 0, 1] + [0] * 8 + [-1, 0, 1] + [0] * 5, 4)
@settings(max_examples=15, deadline=None)
def test_whatever_is_feasible_passes_bit_by_bit(limits, noise, held):
    rough = [[1.5 * x, x] for x in noise for _ in range(held)]
    feasible = float32(play(shaper_of(narrower(limits)), rough)).tolist()
    again = shaper_of(limits)
    for row in feasible:
        assert again.shape(row) is row
        again.settle(row)


@pytest.mark.parametrize("rate_hz", [0.2, 0.5, 1.0])
def test_a_smooth_motion_within_limits_passes_unchanged(rate_hz):
    limiter = ActionLimiter(limits_of())
    limiter.start(float32([0.0, 0.0]))
    for k in range(200):
        t = 0.02 * k
        grow = min(1.0, t / 2.0) ** 3
        action = float32([0.3 * grow * math.sin(2 * math.pi * rate_hz * t), 0.0])
        limited = limiter(action)
        assert limited.changed == ()
        assert limited.action is action
        limiter.settle(limited.action)


@pytest.mark.parametrize("limits", LIMITS)
@pytest.mark.parametrize("to", [-3.0, 3.0])
def test_a_feasible_run_into_a_bound_is_braked_in_time(limits, to):
    """Each target follows well from the one before; what comes after them does not."""
    endless = msgspec.structs.replace(limits, low=(-9.0,) * 2, high=(9.0,) * 2)
    run = play(shaper_of(endless), [[to, -to]] * 3000)
    targets = play(shaper_of(limits), run)
    outside, part = worst(limits, (0.0, 0.0), targets)
    assert np.abs(targets[:3] - run[:3]).max() <= 1e-6
    assert outside <= 1e-5
    assert part <= 1.001


@pytest.mark.parametrize("limits", LIMITS)
@pytest.mark.parametrize("goal", [1.2, 0.013, -0.7])
def test_who_asks_for_one_place_gets_there_without_overshoot(limits, goal):
    targets = play(shaper_of(limits), [[goal, goal]] * 4000)[:, 0]
    assert targets[-1] == goal
    assert np.abs(targets).max() <= abs(goal) + 1e-5


@pytest.mark.parametrize("limits", LIMITS)
@given(st.floats(-1, 1), st.floats(-1, 1), st.lists(ASKED, min_size=5, max_size=5))
@settings(max_examples=30, deadline=None)
def test_braking_ends_at_rest_within_velocity_acceleration_and_jerk(
    limits, v, a, asked
):
    shaper = shaper_of(limits)
    play(shaper, [[v, a]] * 20 + [[x, -x] for x in asked])
    before = shaper.motions[0]
    axis = limits_axes(limits)[0]
    for _ in range(5000):
        targets = shaper.brake()
        if targets is None:
            break
        shaper.settle(targets)
        now = shaper.motions[0]
        assert abs(now.v) <= axis.speed * 1.001 + 1e-6
        assert abs(now.a) <= axis.surge * 1.001 + 1e-6
        assert abs(now.a - before.a) <= axis.jolt * 1.001 + 1e-6
        before = now
    assert targets is None


@given(st.floats(0, 1e3), st.floats(1e-6, 10))
def test_ease_is_the_inverse_of_easing_off(change, jolt):
    a, total = ease(change, jolt), 0.0
    for _ in range(int(a / jolt) + 2):
        total += a
        a = max(a - jolt, 0.0)
    assert total == pytest.approx(change, rel=1e-6, abs=1e-9)


AXIS = Axis(-1.0, 1.5, 0.1, 0.02, 0.008)


def test_a_motion_that_velocity_allows_has_a_next_one():
    random = np.random.default_rng(0)
    m = Motion(0.0, 0.0, 0.0)
    for _ in range(3000):
        least, most = window(AXIS, m)
        assert least <= most + 1e-12
        least, most = min(least, most), max(least, most)
        assert least - 1e-12 <= brake(AXIS, m) <= most + 1e-12
        new = m.after(random.choice([least, most, random.uniform(least, most)]))
        assert abs(new.v) <= AXIS.speed + 1e-12
        m = new._replace(p=0.0)


def test_the_nearest_feasible_target_is_not_short_of_the_limit():
    m = Motion(1.0, 0.1, 0.0)
    new = approach(AXIS, m, 9.0, 0.0)
    assert stays(AXIS, new, AXIS.low, AXIS.high)
    assert not stays(AXIS, m.after(new.a + 1e-6), AXIS.low, AXIS.high) or (
        new.a == pytest.approx(window(AXIS, m)[1])
    )


def test_an_episode_that_begins_in_the_margin_may_stay_and_lead_inside():
    limits = msgspec.structs.replace(limits_of(), margin_high=(0.3, 0.3))
    shaper = Shaper(limits)
    shaper.start([1.4, 0.0])
    assert shaper.shape([1.4, 0.0]) == [1.4, 0.0]
    shaper.settle([1.4, 0.0])
    targets = play(shaper, [[9.0, 9.0]] * 100)
    assert targets[-1] == pytest.approx([1.4, 1.2], abs=1e-5)


def test_a_period_without_command_leads_on_to_rest():
    limiter = ActionLimiter(limits_of())
    limiter.start(float32([0.0, 0.0]))
    for _ in range(6):
        limiter.settle(limiter(float32([0.5, 0.0])).action)
    assert limiter.brake() is not None
    path = []
    while (target := limiter.brake()) is not None:
        path.append(target[0])
        limiter.settle(target)
    steps = np.diff(path)
    assert (steps >= -1e-6).all()
    assert steps[-1] < 0.01


@example(0.0)
@given(st.floats(-0.002, 0.002))
def test_what_a_driver_rounds_is_not_motion(error):
    shaper = shaper_of(limits_of())
    for _ in range(10):
        shaped = shaper.shape([0.5, 0.5])
        shaper.settle([x + error for x in shaped])
    assert shaper.base == pytest.approx(shaped)
