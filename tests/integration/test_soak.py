"""Twenty seconds of the soak, and that it would see what it looks for."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "faults"))

from soak import Driver, Vitals, soak, unreadable

from robostack.hardware.fake.driver import FakeRobot

pytestmark = pytest.mark.alone


@pytest.mark.slow
def test_a_node_at_work_stays_as_it_is():
    found = soak(20.0)
    assert [w for w in found.wrong if not w.startswith("periods")] == []
    assert found.recordings >= 4
    assert found.steps > 500
    assert found.heard > 500
    assert found.periods_ms["p50"] == pytest.approx(20.0, abs=1.0)


def test_memory_that_grows_is_seen():
    vitals = Vitals(1, [40.0 + 0.1 * i for i in range(100)], [9] * 100)
    assert vitals.growth() == "memory grew from 43.7 to 48.7 MB"
    assert Vitals(1, [40.0] * 100, [9] * 100).growth() == ""


def test_files_that_stay_open_are_seen():
    vitals = Vitals(1, [40.0] * 100, [9] * 90 + [10] * 10)
    assert vitals.growth() == "open files grew from 9 to 10"


def test_a_recording_that_is_missing_or_broken_is_seen(tmp_path):
    driver = Driver(None, FakeRobot.spec)
    driver.lengths = [100]
    assert unreadable([], driver)[0] == "0 recordings of 1 episodes"
    broken = tmp_path / "broken.mcap"
    broken.write_bytes(b"nothing")
    assert unreadable([broken], driver)[0].startswith("broken.mcap: ")
