"""What a batch is made of, and when updates are due."""

import numpy as np
import pytest

from robostack.data.episode import End
from robostack.data.experience import Experience, Learned, Transition
from robostack.learner import Batch
from robostack.spec import float32
from robostack.training.feed import Mixture, Rollouts
from robostack.training.recipe import Recipe, RecipeError

LOGGED, LIVED = -1.0, 1.0  # rewards, which tell where a transition is from


class Logs:
    """A dataset of as many transitions as asked for."""

    def __init__(self, size):
        self._size = size

    def __len__(self):
        return self._size

    def sample(self, rng, size):
        rows, one = np.zeros((size, 4), np.float32), np.ones(size, np.float32)
        return Batch(rows, rows[:, :2], LOGGED * one, one, rows, one)


@pytest.fixture
def experience(tmp_path, robot):
    experience = Experience(tmp_path, robot, Learned(0.9), 100)
    yield experience
    experience.close()


def live(experience, steps, end=None):
    nothing = np.zeros(4, np.float32)
    for i in range(steps):
        over = end if i == steps - 1 else None
        experience.add(Transition(nothing, float32([0, 0]), nothing, LIVED, over))


def lived(batch):
    return int((batch.reward == LIVED).sum())


@pytest.mark.parametrize(("share", "count"), [(0.5, 32), (0.25, 16), (1.0, 64)])
def test_a_share_is_exact_in_every_batch(experience, share, count):
    """0.5 is the symmetric sampling of RLPD, however little was lived through yet."""
    live(experience, 3)
    recipe = Recipe(batch_size=64, online_share=share)
    feed, rng = Mixture(recipe, experience, Logs(10_000)), np.random.default_rng(0)
    batches = [feed.draw(rng) for _ in range(5)]
    assert {lived(batch) for batch in batches} == {count}
    assert {len(column) for batch in batches for column in batch} == {64}


def test_uniform_is_as_likely_for_every_transition_old_or_new(experience):
    live(experience, 50)
    recipe = Recipe(batch_size=100, online_share="uniform")
    feed, rng = Mixture(recipe, experience, Logs(150)), np.random.default_rng(0)
    counts = [lived(feed.draw(rng)) for _ in range(200)]
    assert np.mean(counts) == pytest.approx(25.0, abs=1.0)
    assert len(set(counts)) > 5


def test_uniform_counts_only_what_the_ring_still_has(experience):
    live(experience, 300)
    recipe = Recipe(batch_size=100, online_share="uniform")
    feed, rng = Mixture(recipe, experience, Logs(100)), np.random.default_rng(0)
    counts = [lived(feed.draw(rng)) for _ in range(200)]
    assert np.mean(counts) == pytest.approx(50.0, abs=1.5)


def test_every_row_says_whether_it_was_lived(experience):
    live(experience, 3)
    for share, replay in ((0.25, Logs(9)), (1.0, Logs(9)), (0.5, None)):
        recipe = Recipe(batch_size=64, online_share=share)
        batch = Mixture(recipe, experience, replay).draw(np.random.default_rng(0))
        assert np.array_equal(batch.lived, batch.reward == LIVED)


def test_without_a_dataset_all_is_of_the_experience(experience):
    live(experience, 3)
    recipe = Recipe(batch_size=8, online_share=0.5)
    assert lived(Mixture(recipe, experience, None).draw(np.random.default_rng(0))) == 8


def test_updates_are_due_by_step_and_none_before_the_first_ones_are_over(experience):
    recipe = Recipe(updates_per_step=2.5, random_steps=3, warmup_steps=4)
    feed = Mixture(recipe, experience, None)
    due = []
    for _ in range(10):
        live(experience, 1)
        due.append(feed.due())
    assert due == [0, 0, 0, 0, 0, 0, 0, 2, 5, 7]


def test_who_needs_returns_gets_whole_episodes_and_updates_after_them(experience):
    feed = Mixture(Recipe(batch_size=32), experience, None, whole=True)
    live(experience, 6)
    assert feed.due() == 0
    live(experience, 1, End.TRUNCATED)
    assert feed.due() == 7
    live(experience, 5)
    assert feed.due() == 7
    assert np.isfinite(feed.draw(np.random.default_rng(0)).mc_return).all()


def walk(experience, lengths, ends):
    """Live through episodes whose observations count all steps."""
    for length, end in zip(lengths, ends, strict=True):
        for i in range(length):
            now = float32(np.full(4, experience.rows))
            over = end if i == length - 1 else None
            after = now + np.float32(1.0)
            experience.add(Transition(now, now[:2], after, LIVED, over))


def test_a_rollout_is_all_that_was_lived_since_the_last_one_in_order(experience):
    """Ends of episodes are where they were: a time-out keeps its discount."""
    recipe = Recipe(batch_size=6, replay_capacity=100)
    feed, drawn = Rollouts(recipe, experience), []
    for _ in range(12):
        walk(experience, [1], [None])
        while len(drawn) < feed.due():
            drawn.append(feed.draw(None).observation[:, 0].tolist())
    assert drawn == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]
    walk(experience, [2, 2, 2], [End.TRUNCATED, End.TERMINATED, None])
    batch = feed.draw(None)
    assert batch.discount == pytest.approx([0.9, 0.9, 0.9, 0.0, 0.9, 0.9])
    assert batch.lived.tolist() == [1.0] * 6


def test_a_rollout_goes_over_the_end_of_the_ring(experience):
    walk(experience, [130], [None])
    batch = Rollouts(Recipe(batch_size=70), experience).draw(None)
    assert batch.observation[:, 0].tolist() == list(range(60, 130))


def test_steps_before_the_first_update_are_in_no_rollout(experience):
    recipe = Recipe(batch_size=4, random_steps=2, warmup_steps=1)
    feed, due = Rollouts(recipe, experience), []
    for _ in range(12):
        walk(experience, [1], [None])
        due.append(feed.due())
    assert due == [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"online_share": 0.0}, "online_share above 0"),
        ({"online_share": 1.5}, "online_share above 0"),
        ({"updates_per_step": 0.0}, "got updates_per_step = 0.0"),
        ({"warmup_steps": -1}, "got warmup_steps = -1"),
    ],
)
def test_what_no_run_could_mean_is_refused(settings, words):
    with pytest.raises(RecipeError, match=words):
        Recipe(**settings)
