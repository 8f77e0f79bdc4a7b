"""The fake robot's joints at physics resolution: 1 ms."""

import msgspec
import numpy as np
import pytest

from robostack.clock import ManualClock
from robostack.hardware import fake
from robostack.hardware.fake.driver import FakeRobot, Flaws
from robostack.hardware.fake.joints import MAX_ACCELERATION, MAX_JERK, MAX_SPEED
from robostack.plugins import PluginError
from robostack.shaper import Shaper
from robostack.spec import float32

MOST = (MAX_SPEED, MAX_ACCELERATION, MAX_JERK)
GOOD = Flaws()
PERIOD_S = fake.SPEC.control_period_s


class Fake:
    """A fake robot with a host that reads and applies every period."""

    def __init__(self, flaws=GOOD, limits=None):
        self.clock = ManualClock()
        self.robot = FakeRobot(self.clock, flaws, limits)
        self.robot.connect()
        self.robot.reset()
        self.pieces = [self.robot.path()]

    def period(self, target=None):
        reading = self.robot.read()
        if target is not None:
            self.robot.apply(float32(target))
        self.clock.advance(PERIOD_S)
        self.pieces.append(self.robot.path()[3:])
        return reading["joint_position"]

    def parts(self):
        self.pieces.append(self.robot.path()[3:])
        path = np.concatenate(self.pieces)
        return [
            np.abs(np.diff(path, n=n, axis=0)).max() / 0.001**n / most
            for n, most in enumerate(MOST, start=1)
        ]


def targets(periods, turn=14):
    """Return targets (T, 2) that use the limits of the fake robot."""
    shaper = Shaper(fake.limits())
    shaper.start([0.0, 0.0])
    shaper.settle([0.0, 0.0])
    path = []
    for k in range(periods):
        shaped = shaper.shape([1.5 * (-1) ** (k // turn), 0.3])
        shaper.settle(shaped)
        path.append(shaped)
    return path


def test_targets_within_limits_keep_the_joints_within_them_at_physics_steps():
    fake_robot = Fake()
    for target in targets(300):
        fake_robot.period(target)
    parts = fake_robot.parts()
    assert max(parts) <= 1.001
    assert min(parts) >= 0.5
    plant = fake_robot.robot.plant
    assert (plant.bridged, plant.led) == (0, 0)  # nobody else kept them


def test_targets_beyond_limits_move_joints_beyond_them():
    """The plant is no second limiter: it is the node that is judged by it."""
    wide = msgspec.structs.replace(
        fake.limits(), acceleration=(1e4,) * 2, jerk=(1e7,) * 2
    )
    fake_robot = Fake(limits=wide)
    for k in range(50):
        fake_robot.period([0.1 * (-1) ** (k // 4)] * 2)
    assert max(fake_robot.parts()) > 1.2


@pytest.mark.parametrize("when", range(3, 60, 6))
def test_a_stop_brakes_within_limits_and_holds(when):
    fake_robot = Fake()
    for target in targets(when):
        fake_robot.period(target)
    fake_robot.robot.stop()
    places = [fake_robot.period() for _ in range(80)]
    assert max(fake_robot.parts()) <= 1.001
    assert np.abs(places[-1] - places[-2]).max() < 1e-6


def test_reset_goes_home_within_limits_instead_of_jumping():
    fake_robot = Fake()
    for target in targets(11):
        fake_robot.period(target)
    fake_robot.robot.reset()
    assert max(fake_robot.parts()) <= 1.001
    assert np.abs(fake_robot.robot.read()["joint_position"]).max() < 1e-6


def test_a_host_that_misses_periods_is_bridged_within_limits():
    fake_robot = Fake()
    path = targets(200)
    for k, target in enumerate(path):
        if k % 23 == 20:
            fake_robot.clock.advance(3.4 * PERIOD_S)  # and did not read either
        fake_robot.period(target)
    assert max(fake_robot.parts()) <= 1.001
    assert fake_robot.robot.plant.bridged > 0


def test_somebody_may_stop_it_on_its_way_home():
    fake_robot = Fake()
    for target in targets(12):
        fake_robot.period(target)
    sleep, robot = fake_robot.clock.sleep_until, fake_robot.robot

    def stop_while_sleeping(deadline):
        robot.stop()
        sleep(deadline)

    fake_robot.clock.sleep_until = stop_while_sleeping
    with pytest.raises(RuntimeError, match="stopped the robot on its way home"):
        robot.reset()


def step_response(flaws):
    fake_robot = Fake(flaws)
    return np.array([fake_robot.period(t)[0] for t in targets(40)])


def test_delay_noise_and_backlash_are_what_they_say():
    good = step_response(Flaws())
    late = step_response(Flaws(delay=3))
    assert np.abs(late[3:] - good[:-3]).max() < 1e-3
    noisy = step_response(Flaws(noise=0.01))
    assert 0.004 < np.std(noisy - good) < 0.02
    loose = step_response(Flaws(backlash=0.02))
    assert np.abs(loose - good).max() == pytest.approx(0.01, abs=1e-4)
    assert np.array_equal(good, step_response(Flaws()))


def test_flaws_follow_the_slash():
    made = fake.make("delay=2,noise=0.001")
    assert made._flaws == Flaws(delay=2, noise=0.001)
    with pytest.raises(PluginError, match="expected hardware:fake/delay=PERIODS"):
        fake.spec("latency=2")
