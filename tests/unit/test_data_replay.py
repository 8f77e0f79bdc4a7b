"""Facts about replay: no transition leaps over an end, and discount is data."""

import os
import resource
from pathlib import Path

import numpy as np
import pytest
from data_examples import GOLDEN, SPEC, make_episode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from robostack.data import memory
from robostack.data import replay as replaying
from robostack.data.dataset import create
from robostack.data.episode import INCOMPLETE, End
from robostack.data.replay import Replay, ReplayError
from robostack.data.transitions import returns_to_go
from robostack.spec import float32


def make_dataset(path, *segments):
    dataset = create(path, SPEC)
    for i, episodes in enumerate(segments):
        dataset.append(episodes, {"number": str(i)})
    return dataset


@pytest.fixture
def dataset(tmp_path):
    return make_dataset(tmp_path / "data", GOLDEN, [make_episode(4, 2)])


def numbered(number, length, end, gaps):
    """Return an episode whose observations say episode and row."""
    rows = np.stack([np.full(length + 1, number), np.arange(length + 1)], axis=1)
    action = float32(rows[:-1])
    action[sorted(gaps)] = np.nan
    return make_episode(
        length,
        end=end,
        observation={"position": float32(rows), "force": float32(rows[:, :1])},
        action=action,
        frames={},
    )


shapes = st.lists(
    st.tuples(
        st.integers(1, 6), st.sampled_from(End), st.sets(st.integers(0, 5), max_size=2)
    ),
    min_size=1,
    max_size=6,
)


@settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(shapes=shapes, stream=st.booleans())
def test_every_transition_stays_in_its_episode(shapes, stream, tmp_path_factory):
    episodes = [
        numbered(i, length, end, {gap for gap in gaps if gap < length})
        for i, (length, end, gaps) in enumerate(shapes)
    ]
    expected = sum(int(np.isfinite(e.action[:, 0]).sum()) for e in episodes)
    half = len(episodes) // 2 or len(episodes)
    parts = [part for part in (episodes[:half], episodes[half:]) if part]
    dataset = make_dataset(tmp_path_factory.mktemp("data"), *parts)
    if not expected:
        with pytest.raises(ReplayError, match="expected at least one transition"):
            Replay.from_dataset(dataset, stream=stream)
        return
    replay = Replay.from_dataset(dataset, gamma=0.9, stream=stream)
    assert len(replay) == expected
    batch = replay.transitions()
    assert np.isfinite(batch.action).all()
    np.testing.assert_array_equal(batch.observation[:, :2], batch.action)
    number, row = batch.next_observation[:, 0], batch.next_observation[:, 1]
    np.testing.assert_array_equal(number, batch.observation[:, 0])
    np.testing.assert_array_equal(row, batch.observation[:, 1] + 1)
    for i, discount in enumerate(batch.discount):
        episode = episodes[int(number[i])]
        last = row[i] == episode.length
        stops = last and episode.end is End.TERMINATED
        assert discount == (0.0 if stops else np.float32(0.9))


def test_a_batch_is_float32_in_spec_order(dataset):
    *batch, lived = Replay.from_dataset(dataset).sample(np.random.default_rng(0), 32)
    assert lived is None  # a dataset does not know whose part of a mixture it is
    shapes = [array.shape for array in batch]
    assert shapes == [(32, 3), (32, 2), (32,), (32,), (32, 3), (32,)]
    assert all(array.dtype == np.float32 for array in batch)
    assert all(array.flags.c_contiguous for array in batch)


@pytest.mark.parametrize("stream", [False, True])
def test_whoever_has_the_generator_draws_the_same_again(dataset, stream):
    replay = Replay.from_dataset(dataset, stream=stream)
    rng = np.random.default_rng(3)
    replay.sample(rng, 16)
    state = rng.bit_generator.state
    first = replay.sample(rng, 16)
    resumed = np.random.default_rng(0)
    resumed.bit_generator.state = state
    for a, b in zip(first, replay.sample(resumed, 16), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture
def many(tmp_path):
    """Episodes in three segments, with a gap, a label's rewards, and one to leave."""
    gap = make_episode(6, 7)
    gap.action[[0, 3]] = np.nan
    first = [*GOLDEN, gap._replace(reward=None)]
    ends = [make_episode(n, n, End.TERMINATED, frames={}) for n in (40, 1)]
    dataset = make_dataset(tmp_path / "many", first, [make_episode(4, 2)], ends)
    rewards = [float32(np.sin(np.arange(i.length))) for i in dataset.episodes]
    dataset.write_rewards("judge", rewards, {})
    return dataset


@pytest.mark.parametrize(
    "options",
    [
        {"labeller": "judge"},
        {"labeller": "judge", "reward_scale": "return_range", "reward_shift": -0.3},
        {"labeller": None},
        {"reward_scale": 2.5, "keep": [4, 0, 3]},
    ],
)
def test_what_is_streamed_is_what_memory_holds_to_the_bit(many, options):
    held, streamed = (
        Replay.from_dataset(many, stream=stream, **options) for stream in (False, True)
    )
    assert (held.streams, streamed.streams) == (False, True)
    for _ in range(5):
        rngs = np.random.default_rng(1), np.random.default_rng(1)
        pairs = held.sample(rngs[0], 50), streamed.sample(rngs[1], 50)
        for a, b in zip(*pairs, strict=True):
            assert (a is None and b is None) or a.tobytes() == b.tobytes()
        assert rngs[0].bit_generator.state == rngs[1].bit_generator.state
    for a, b in zip(held.statistics, streamed.statistics, strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
    np.testing.assert_equal(held.rewarding, streamed.rewarding)


def test_an_episode_with_gaps_is_sampled_between_them(many):
    batch = Replay.from_dataset(many, labeller="judge", keep=[2]).transitions()
    steps = [1, 2, 4, 5]
    np.testing.assert_array_equal(batch.reward, float32(np.sin(steps)))
    np.testing.assert_array_equal(batch.action, many.episode(2).action[steps])


def test_more_segments_than_files_are_granted_at_first_can_be_read(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    dataset = make_dataset(tmp_path / "many", *([make_episode(3, i)] for i in range(9)))
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")), hard))
    try:
        assert len(Replay.from_dataset(dataset, stream=True).transitions().reward) == 27
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_once_statistics_are_known_the_system_reads_no_more_than_rows(many):
    def advised():
        maps = Path("/proc/self/smaps").read_text().split("VmFlags:")
        flags = [m.partition("\n")[0].split() for m in maps[1:]]
        ours = [str(many.path) in m for m in maps[:-1]]
        return [("rr" in f) for f, our in zip(flags, ours, strict=True) if our]

    replay = Replay.from_dataset(many, labeller="judge", stream=True)
    assert not any(advised())
    assert replay.statistics
    assert sum(advised()) == 3 * 4  # segments; two observations, actions and rewards


def test_what_memory_does_not_hold_well_stays_on_disk(many, monkeypatch):
    rows = sum(item.length + 1 for item in many.episodes)
    size = rows * 6 * 4  # three observations, two actions and a reward
    for free, streams in ((2 * size, False), (2 * size - 1, True)):
        monkeypatch.setattr(memory, "available", lambda free=free: free)
        assert Replay.from_dataset(many, labeller="judge").streams is streams


def test_statistics_are_those_of_the_observations_that_are_sampled(dataset):
    replay = Replay.from_dataset(dataset)
    observation = replay.transitions().observation
    statistics = replay.statistics
    np.testing.assert_allclose(statistics.mean, observation.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(statistics.std, observation.std(axis=0), rtol=1e-5)
    sums = [float(e.reward.sum()) for e in dataset]
    assert statistics.return_low == pytest.approx(min(sums), rel=1e-6)
    assert statistics.return_high == pytest.approx(max(sums), rel=1e-6)


def test_statistics_of_many_pieces_are_those_of_the_whole(dataset, monkeypatch):
    whole = Replay.from_dataset(dataset).statistics
    monkeypatch.setattr(replaying, "BLOCK", 3)
    pieces = Replay.from_dataset(dataset).statistics
    np.testing.assert_allclose(pieces.mean, whole.mean, rtol=1e-6)
    np.testing.assert_allclose(pieces.std, whole.std, rtol=1e-6)


def test_return_range_scales_the_spread_of_returns_to_1000(tmp_path):
    rewards = [float32([1, 2]), float32([4, 4])]  # returns 3 and 8
    episodes = [make_episode(2, i, reward=r) for i, r in enumerate(rewards)]
    cut = make_episode(2, 5, reward=float32([0, 0]), labels={INCOMPLETE: "file ends"})
    dataset = make_dataset(tmp_path / "data", [*episodes, cut])
    replay = Replay.from_dataset(dataset, reward_scale="return_range")
    assert replay.rewarding.scale == pytest.approx(200.0)
    assert replay.rewarding.return_low == 3.0
    np.testing.assert_allclose(replay.transitions().reward[:2], [200.0, 400.0])
    assert replay.statistics.return_high == pytest.approx(1600.0)


def test_a_shift_is_added_to_every_reward(dataset):
    logged = Replay.from_dataset(dataset).transitions().reward
    shifted = Replay.from_dataset(dataset, reward_shift=-1.0)
    np.testing.assert_allclose(shifted.transitions().reward, logged - 1.0, rtol=1e-6)
    assert shifted.rewarding.shift == -1.0


def test_only_kept_episodes_are_sampled(dataset):
    replay = Replay.from_dataset(dataset, keep=[1])
    np.testing.assert_array_equal(replay.transitions().action, GOLDEN[1].action)


def test_rewards_of_a_labeller_replace_the_logged_ones(dataset):
    rewards = [np.full(i.length, n, np.float32) for n, i in enumerate(dataset.episodes)]
    dataset.write_rewards("judge", rewards, {})
    replay = Replay.from_dataset(dataset, labeller="judge")
    np.testing.assert_array_equal(replay.transitions().reward[:6], [0] * 5 + [1])


def test_episodes_without_rewards_are_refused_by_number(tmp_path):
    bare = make_episode(3, 4, reward=None)
    dataset = make_dataset(tmp_path / "data", [GOLDEN[0], bare])
    with pytest.raises(ReplayError, match=r"none for 1 of 2 episodes \(the first is 1"):
        Replay.from_dataset(dataset)
    assert np.isnan(Replay.from_dataset(dataset, labeller=None).transitions()[2]).all()


def test_an_empty_dataset_is_refused(tmp_path):
    with pytest.raises(ReplayError, match="expected episodes to learn from"):
        Replay.from_dataset(create(tmp_path / "data", SPEC))


def test_returns_to_go_are_discounted_sums():
    reward = float32([1.0, 2.0, 4.0, 8.0, 16.0])
    found = returns_to_go(reward, 0.5, End.TERMINATED)
    assert found.tolist() == pytest.approx([5.0, 8.0, 12.0, 16.0, 16.0])


def test_a_truncated_episode_is_taken_to_go_on_at_its_mean_reward():
    found = returns_to_go(float32([-1.0, -1.0, -1.0]), 0.9, End.TRUNCATED)
    assert found.tolist() == pytest.approx([-10.0] * 3)
    found = returns_to_go(float32([0.0, 3.0]), 0.5, End.TRUNCATED)
    assert found.tolist() == pytest.approx([2.25, 4.5])


def test_batches_carry_the_return_to_go_of_rewards_as_sampled(dataset):
    replay = Replay.from_dataset(dataset, gamma=0.9, reward_scale=2.0, reward_shift=-1)
    batch, episode = replay.transitions(), GOLDEN[1]  # which terminates
    first = GOLDEN[0].action.shape[0]
    reward = 2.0 * episode.reward - 1.0
    expected = reward[0] + 0.9 * reward[1] + 0.81 * reward[2]
    assert batch.mc_return[first] == pytest.approx(expected, rel=1e-5)
    assert len(batch.mc_return) == len(replay)
