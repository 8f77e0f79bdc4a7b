import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from robostack.limiting import ActionLimiter, CommandError
from robostack.limits import Limits, derive
from robostack.messages import Tensor
from robostack.safety import LATCHED, Chatter, Machine, RateLimit, Watchdog
from robostack.spec import float32

LIMITS = Limits(
    names=("hip", "knee"),
    period_s=0.02,
    low=(-1.0, 0.0),
    high=(1.0, 2.0),
    margin_low=(0.0, 0.0),
    margin_high=(0.0, 0.0),
    step=(0.1, 0.5),
    velocity=(),
    acceleration=(),
    jerk=(),
    first=(0.05, 0.1),
    gate=(),
    boxes={},
    outside_per_s=3,
    reversals=2,
    reversals_s=0.5,
    command_timeout_s=0.1,
    safe_after_s=0.5,
)
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)


def settled(at=(0.0, 1.0)):
    limiter = ActionLimiter(LIMITS)
    limiter.settle(float32(at))
    return limiter


def test_an_action_within_limits_passes_unchanged():
    action = float32([0.1, 0.5])
    assert settled()(action).action.tobytes() == action.tobytes()
    assert settled()(action)[1:] == ((), False, ())


@pytest.mark.parametrize(
    ("action", "limited", "changed", "outside"),
    [
        ([0.3, 1.0], [0.1, 1.0], ("hip",), False),
        ([-0.3, 1.0], [-0.1, 1.0], ("hip",), False),
        ([0.0, 9.0], [0.0, 1.5], ("knee",), True),
        ([1e30, -1e30], [0.1, 0.5], ("hip", "knee"), True),
        ([1.0, 2.0], [0.1, 1.5], ("hip", "knee"), False),
    ],
)
def test_range_and_step_are_clipped_and_named(action, limited, changed, outside):
    result = settled()(float32(action))
    assert result.action.tolist() == pytest.approx(limited)
    assert result.action.dtype == np.float32
    assert result.changed == changed
    assert result.outside is outside


@pytest.mark.parametrize("rim", [[1.0, 2.0], [-1.0, 0.0]])
@pytest.mark.parametrize("place", [0, 1])
def test_bounds_hold_within_one_step_of_the_rim(rim, place):
    action = float32(rim)
    action[place] += 0.08 * np.sign(rim[0])
    result = settled(rim)(action)
    assert result.action.tolist() == rim
    assert result.changed == (LIMITS.names[place],)
    assert result.outside


def test_the_first_action_is_held_near_what_was_measured():
    limiter = ActionLimiter(LIMITS)
    limiter.start(float32([0.5, 1.0]))
    assert limiter(float32([1.0, 1.0])).action.tolist() == pytest.approx([0.55, 1.0])
    limiter.settle(float32([0.55, 1.0]))
    assert limiter(float32([1.0, 1.0])).action.tolist() == pytest.approx([0.65, 1.0])


def test_measured_out_of_bounds_leads_back_inside():
    limiter = ActionLimiter(LIMITS)
    limiter.start(float32([1.2, -0.3]))
    assert limiter(float32([1.2, -0.3])).action.tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("action", "pushed"),
    [
        ([0.3, 1.0], (1, 0)),
        ([-0.3, 1.6], (-1, 1)),
        ([0.0, 9.0], (0, 1)),
        ([0.1, 0.5], ()),
    ],
)
def test_what_went_beyond_the_largest_step_is_told_with_its_direction(action, pushed):
    assert settled()(float32(action)).pushed == pushed


def test_what_only_left_the_bounds_pushed_nowhere():
    result = settled(at=(1.0, 2.0))(float32([1e30, 9.0]))
    assert result.changed == LIMITS.names
    assert result.pushed == (0, 0)


def test_rounding_is_no_clamp():
    just_over = np.nextafter(np.float32(0.1), np.float32(1.0))
    result = settled()(float32([just_over, 1.0]))
    assert result.action[0] <= np.float32(0.1)
    assert result.changed == ()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 1])
def test_what_is_not_finite_is_refused_by_name(bad, place):
    action = float32([0.0, 1.0])
    action[place] = bad
    with pytest.raises(CommandError, match=LIMITS.names[place]) as caught:
        settled()(action)
    assert caught.value.cause == "not_finite"


def test_nan_is_refused_although_another_element_is_clipped():
    with pytest.raises(CommandError):
        settled()(float32([99.0, np.nan]))


@pytest.mark.parametrize(
    "tensor",
    [
        Tensor.pack(np.zeros(3, np.float32)),
        Tensor.pack(np.zeros(1, np.float32)),
        Tensor.pack(np.zeros((2, 1), np.float32)),
        Tensor.pack(np.zeros(2, np.float64)),
        Tensor.pack(np.zeros(2, np.uint8)),
        Tensor("<f4", (2,), b"1234"),
        Tensor("<f4", (2,), b"123456789"),
        Tensor("<f4", (-1,), b"12345678"),
    ],
)
def test_other_shapes_types_and_lengths_are_malformed(tensor):
    with pytest.raises(CommandError, match="expected an action of float32") as caught:
        settled().unpack(tensor)
    assert caught.value.cause == "malformed"


@given(st.lists(arrays(np.float32, 2, elements=FINITE), min_size=1, max_size=30))
def test_no_sequence_of_actions_leaves_the_limits(actions):
    limiter = ActionLimiter(LIMITS)
    last = float32([0.0, 1.0])
    limiter.start(last)
    reach = float32(LIMITS.first)
    for action in actions:
        limited = limiter(action).action
        assert (limited >= float32(LIMITS.low)).all()
        assert (limited <= float32(LIMITS.high)).all()
        assert (np.abs(limited - last) <= reach + 1e-6).all()
        limiter.settle(limited)
        last, reach = limited, float32(LIMITS.step)


def test_limits_follow_from_the_spec(robot):
    limits = derive(robot)
    assert limits.low == robot.action.low
    assert limits.step == robot.max_action_step
    assert limits.first == (0.05, 0.05)  # rad
    assert limits.outside_per_s == 25  # half of the commands at 50 Hz
    assert limits.safe_after_s == 0.5
    assert (limits.reversals, limits.reversals_s) == (4, 0.2)  # of ten commands


def test_without_a_measured_target_the_first_step_is_a_step(robot):
    torque = msgspec.structs.replace(robot, tracks="", control="torque")
    assert derive(torque).first == robot.max_action_step


def test_digest_tells_limits_apart(robot):
    limits = derive(robot)
    wider = msgspec.structs.replace(limits, high=(2.0, 2.1))
    assert limits.digest == derive(robot).digest != wider.digest


def test_rate_limit_counts_within_one_second():
    rate = RateLimit(3)
    assert [rate.exceeded(t) for t in (0.0, 0.1, 0.2)] == [False] * 3
    assert rate.exceeded(0.3)
    assert not rate.exceeded(5.0)


def test_rate_limit_forgets_what_is_older():
    rate = RateLimit(1)
    assert not any(rate.exceeded(1.1 * i) for i in range(20))


def test_rate_limit_counts_within_its_own_window():
    rate = RateLimit(1, window_s=0.1)
    assert not any(rate.exceeded(0.11 * i) for i in range(20))
    assert rate.exceeded(20 * 0.11 - 0.05)


UP, DOWN = (1, 0), (-1, 0)


def chatters(*pushes, every_s=0.02):
    chatter = Chatter(LIMITS)
    return [chatter.exceeded(p, every_s * i) for i, p in enumerate(pushes)]


def test_back_and_forth_is_chatter_from_one_reversal_too_many_on():
    assert chatters(UP, DOWN, UP, DOWN, UP) == [False, False, False, True, True]


@pytest.mark.parametrize(
    "pushes",
    [
        [UP] * 20,  # far from where it wants to be
        [UP, (0, 0)] * 10 + [DOWN, (0, 0)] * 10,
        [UP, (), DOWN, ()] * 10,  # commands within limits in between
        [(1, 0), (0, -1)] * 10,  # two elements, one way each
    ],
)
def test_no_chatter_where_nothing_turns_round_at_once(pushes):
    assert not any(chatters(*pushes))


def test_reversals_far_apart_are_no_chatter():
    assert not any(chatters(*[UP, DOWN] * 10, every_s=0.3))


def test_chatter_does_not_reach_across_episodes():
    chatter = Chatter(LIMITS)
    for i in range(20):
        chatter.start()
        assert not chatter.exceeded([UP, DOWN][i % 2], 0.02 * i)


def test_watchdog_expires_when_the_time_is_up():
    watchdog = Watchdog(0.1)
    watchdog.feed(5.0)
    assert not watchdog.expired(5.09)
    assert watchdog.expired(5.1)


def test_watchdog_never_expires_disarmed():
    watchdog = Watchdog(0.1)
    assert not watchdog.expired(1e9)
    watchdog.feed(0.0)
    watchdog.disarm()
    assert not watchdog.expired(1e9)
    assert math.isinf(watchdog.deadline)


def walk(*states):
    machine = Machine()
    for state in states:
        assert machine.enter(state, "test")
    return machine


def test_the_way_to_active_and_back():
    machine = walk("arming", "hold", "active")
    assert machine.generation == 1
    assert machine.enter("hold", "end")
    assert machine.generation == 2


@pytest.mark.parametrize("state", ["hold", "safe", "fault", "estop", "disabled"])
def test_leaving_active_bumps_the_generation(state):
    machine = walk("arming", "hold", "active")
    assert machine.enter(state, "x")
    assert machine.generation == 2


@pytest.mark.parametrize("way", [(), ("arming",), ("arming", "hold", "safe")])
def test_only_hold_leads_to_active(way):
    assert not walk(*way).enter("active", "x")


@pytest.mark.parametrize("latch", sorted(LATCHED))
def test_nothing_but_clear_leaves_a_latch(latch):
    machine = walk("arming", "hold", latch)
    for state in ("disabled", "arming", "hold", "active", "safe", "fault"):
        assert not machine.enter(state, "x")
    assert (machine.state, machine.cause) == (latch, "test")
    assert machine.clear("seen")
    assert machine.state == "disabled"


@pytest.mark.parametrize(
    "way", [(), ("arming",), ("arming", "hold"), ("arming", "hold", "active")]
)
def test_estop_is_open_from_everywhere(way):
    assert walk(*way).enter("estop", "x")


def test_fault_may_become_estop():
    assert walk("fault").enter("estop", "x")


def test_clear_does_nothing_without_a_latch():
    assert not walk("arming", "hold").clear("x")
