"""What a robot lived through: what is drawn of it, and what a file brings back."""

import numpy as np
import pytest

from robostack.data.episode import End
from robostack.data.experience import (
    FILE,
    Experience,
    ExperienceError,
    Learned,
    Saved,
    Transition,
)
from robostack.data.replay import returns_to_go
from robostack.spec import float32

GAMMA = 0.9
LEARNED = Learned(GAMMA, scale=2.0, shift=-1.0)


def step(number, end=None):
    """Return a step whose every number tells which it is."""
    return Transition(
        float32(np.full(4, number)),
        float32([number, -number]),
        float32(np.full(4, number + 1)),
        0.1 * number,
        end,
    )


def live(experience, lengths, end=End.TRUNCATED):
    """Add episodes; one of a negative length goes on."""
    for length in lengths:
        for i in range(abs(length)):
            over = length > 0 and i == length - 1
            experience.add(step(experience.rows, end if over else None))


@pytest.fixture
def make(tmp_path, robot):
    opened = []

    def make(capacity=100, saved=None, learned=LEARNED):
        opened.append(Experience(tmp_path, robot, learned, capacity, saved))
        return opened[-1]

    yield make
    for experience in opened:
        experience.close()


def everything(experience):
    """Return one batch with every transition that can be drawn, in order."""

    class InOrder:
        def integers(self, low, high, size):
            return np.arange(low, high)

    return experience.sample(InOrder(), 0, experience.rows)


def same(one, other):
    pairs = zip(one, other, strict=True)
    known = [(a, b) for a, b in pairs if a is not None or b is not None]
    return all(np.array_equal(a, b, equal_nan=True) for a, b in known)


def test_what_is_drawn_is_what_was_lived_through(make):
    experience = make()
    live(experience, [5, -3])
    batch = experience.sample(np.random.default_rng(0), 64, experience.rows)
    number = batch.observation[:, 0]
    assert set(number) == set(range(8))
    assert np.array_equal(batch.action, np.stack([number, -number], axis=1))
    assert np.array_equal(batch.next_observation[:, 3], number + 1)
    assert batch.reward == pytest.approx(2.0 * 0.1 * number - 1.0, abs=1e-6)


def test_a_terminated_step_looks_no_further_a_truncated_one_does(make):
    experience = make()
    live(experience, [3], End.TERMINATED)
    live(experience, [3], End.TRUNCATED)
    discount = everything(experience).discount
    assert discount.tolist() == float32([GAMMA, GAMMA, 0, GAMMA, GAMMA, GAMMA]).tolist()


@pytest.mark.parametrize("end", list(End))
def test_returns_to_go_are_those_of_a_dataset(make, end):
    experience = make()
    live(experience, [7], end)
    batch = everything(experience)
    expected = float32(returns_to_go(batch.reward, GAMMA, end))
    assert np.array_equal(batch.mc_return, expected)


def test_returns_are_not_known_before_the_episode_ended(make):
    experience = make()
    live(experience, [4, -2])
    assert (
        np.isnan(everything(experience).mc_return).tolist() == [False] * 4 + [True] * 2
    )
    assert (experience.rows, experience.finished) == (6, 4)
    assert experience.returns == [pytest.approx(0.1 * (0 + 1 + 2 + 3))]


def test_only_what_is_known_is_drawn(make):
    experience = make()
    live(experience, [4, -20])
    batch = experience.sample(np.random.default_rng(0), 200, experience.finished)
    assert batch.observation.max() == 3
    assert np.isfinite(batch.mc_return).all()


def test_the_ring_forgets_the_oldest(make):
    experience = make(capacity=10)
    live(experience, [6, 6, 6, -4])
    assert everything(experience).observation[:, 0].tolist() == list(range(12, 22))


@pytest.mark.parametrize("capacity", [10, 100])
def test_a_file_brings_everything_back_to_the_bit(make, capacity):
    """Also the returns of an episode of which the ring has only the end."""
    experience = make(capacity)
    live(experience, [6, 6, 6, -4])
    again = make(capacity, experience.sync())
    assert same(everything(experience), everything(again))
    assert experience.returns == again.returns
    assert (experience.rows, experience.finished) == (again.rows, again.finished)
    for each in (experience, again):
        live(each, [3, 2])
    assert same(everything(experience), everything(again))
    assert experience.returns == again.returns


def test_the_episode_that_goes_on_comes_back_step_by_step(make):
    experience = make()
    live(experience, [5, -3])
    steps = make(saved=experience.sync()).unfinished()
    assert [t.action[0] for t in steps] == [5, 6, 7]
    assert [t.end for t in steps] == [None] * 3
    assert [t.reward for t in steps] == pytest.approx([0.5, 0.6, 0.7])


def test_what_came_after_the_checkpoint_is_cut_off(make, tmp_path):
    experience = make()
    live(experience, [5])
    saved = experience.sync()
    live(experience, [5])
    experience.sync()
    again = make(saved=saved)
    assert again.rows == 5
    assert (tmp_path / FILE).stat().st_size == 5 * 12 * 4


def test_a_file_of_a_run_without_a_checkpoint_is_begun_again(make):
    experience = make()
    live(experience, [5])
    experience.sync()
    assert make(saved=None).rows == 0


def test_a_damaged_file_is_refused(make, tmp_path):
    experience = make()
    live(experience, [5])
    saved = experience.sync()
    content = bytearray((tmp_path / FILE).read_bytes())
    content[40] ^= 1
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(ExperienceError, match="damaged"):
        make(saved=saved)


def test_a_short_file_is_refused(make):
    with pytest.raises(ExperienceError, match=r"expected 7 steps.*found 0"):
        make(saved=Saved(7, 0))


def test_a_full_disk_is_a_sentence(make, monkeypatch):
    experience = make()
    live(experience, [5])

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ExperienceError, match="No space left on device; make room"):
        experience.sync()
