"""Hostile clients for a short while; hostile.py itself runs as long as one likes."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from hostile import LIMITS, Peaks, by_hand, by_sockets

pytestmark = pytest.mark.alone


@pytest.mark.parametrize("seed", [0, 1])
def test_no_joint_leaves_a_limit_whatever_clients_send(seed):
    tally = by_hand(60.0, seed)
    assert tally.within, str(tally)
    assert tally.peaks.way > 20.0  # [rad]
    assert (tally.peaks.parts[1:] > 0.5).all()  # not for want of motion
    plant = tally.robot.plant
    assert (plant.bridged, plant.led) == (0, 0)  # it is the node that keeps them
    assert tally.left["fault"] > 0
    assert {"replayed", "stale", "unknown", "generation"} <= tally.refused.keys()


@pytest.mark.slow
def test_nor_over_sockets_in_real_time():
    tally = by_sockets(4.0)
    assert tally.within, str(tally)
    assert tally.peaks.way > 0.5


def test_a_path_beyond_a_limit_is_seen():
    peaks = Peaks()
    t = np.arange(100)[:, None] * 1e-3
    peaks.add(np.hstack([1.01 * LIMITS.velocity[0] * t, 0.0 * t]))
    assert peaks.parts[1] == pytest.approx(1.01)
