"""Facts about D4RL-layout files: where episodes end, and why."""

import h5py
import numpy as np
import pytest

from robostack.data import d4rl
from robostack.data.dataset import create
from robostack.data.episode import INCOMPLETE, End
from robostack.data.formats import FormatError
from robostack.data.ingest import Source, ingest
from robostack.data.replay import Replay
from robostack.robot import Task
from robostack.spec import float32


def write(path, **changes):
    """Write 12 rows: 5 steps truncated, 3 steps terminated, 4 steps unfinished."""
    rng = np.random.default_rng(0)
    keys = {
        "observations": float32(rng.normal(size=(12, 3))),
        "actions": float32(rng.uniform(-1, 1, (12, 2))),
        "rewards": float32(np.arange(12)),
        "terminals": np.arange(12) == 7,
        "timeouts": np.arange(12) == 4,
        **changes,
    }
    with h5py.File(path, "w") as file:
        for name, value in keys.items():
            if value is not None:
                file[name] = value
    return path


def continued(observations, ends):
    """Return next observations that follow on, but for new ones at `ends`."""
    following = np.concatenate([observations[1:], observations[:1]])
    following[ends] = observations[ends] + 0.5
    return following


def read(path, **options):
    notes = []
    spec = d4rl.guess(path)
    return list(d4rl.read(path, spec, note=notes.append, **options)), notes


@pytest.fixture
def path(tmp_path):
    return tmp_path / "toy.hdf5"


def test_without_next_observations_a_truncated_episode_loses_its_last_transition(path):
    episodes, _ = read(write(path))
    assert [e.length for e in episodes] == [4, 3, 3]
    ends = [End.TRUNCATED, End.TERMINATED, End.TRUNCATED]
    assert [e.end for e in episodes] == ends
    assert [INCOMPLETE in e.labels for e in episodes] == [False, False, True]
    last = episodes[1].observation["state"]
    np.testing.assert_array_equal(last[-1], last[-2])
    np.testing.assert_array_equal(episodes[1].reward, [5, 6, 7])


def test_with_next_observations_every_transition_is_kept(path):
    write(path)
    with h5py.File(path, "a") as file:
        following = continued(file["observations"][:], [4, 7, 11])
        file["next_observations"] = following
    episodes, _ = read(path)
    assert [e.length for e in episodes] == [5, 3, 4]
    for episode, row in zip(episodes, (4, 7, 11), strict=True):
        np.testing.assert_array_equal(episode.observation["state"][-1], following[row])


def test_resets_that_no_flag_shows_are_found_by_the_next_observations(path):
    write(path, timeouts=None)
    with h5py.File(path, "a") as file:
        file["next_observations"] = continued(file["observations"][:], [4, 7, 11])
    episodes, notes = read(path)
    assert [e.length for e in episodes] == [5, 3, 4]
    assert any("1 episodes end, by the next observations" in note for note in notes)


def test_without_timeouts_the_time_limit_cuts(path):
    episodes, _ = read(write(path, timeouts=None), max_episode_steps=5)
    assert [e.length for e in episodes] == [4, 3, 3]
    _, notes = read(path)
    assert any("max_episode_steps=N gives the time limit" in note for note in notes)


def test_terminals_at_the_time_limit_are_made_truncations(path):
    flags = np.isin(np.arange(12), [5, 11])
    write(path, terminals=flags, timeouts=None)
    episodes, notes = read(path)
    assert [e.end for e in episodes] == [End.TRUNCATED] * 2
    assert any("after exactly 6 steps: that is a time limit" in n for n in notes)
    trusting, _ = read(path, trust_terminals=True)
    assert [e.end for e in trusting] == [End.TERMINATED] * 2


def test_terminals_after_different_lengths_are_believed(path):
    write(path, terminals=np.isin(np.arange(12), [4, 11]), timeouts=None)
    episodes, notes = read(path)
    assert [e.end for e in episodes] == [End.TERMINATED] * 2
    assert not any("time limit, so" in note for note in notes)


def test_a_task_that_never_terminates_overrules_the_flags(path):
    episodes, notes = read(write(path), never_terminates=True)
    assert {e.end for e in episodes} == {End.TRUNCATED}
    assert any("1 terminals are taken as time limits" in note for note in notes)


def test_the_task_is_asked_what_terminates(path):
    write(path)
    with h5py.File(path, "a") as file:
        file["next_observations"] = continued(file["observations"][:], [4, 7, 11])
        edge = file["next_observations"][4, 0]

    def reaches_edge(columns):
        return columns["state"][1:, 0] == edge

    task = Task("", 5, lambda c: c["action"][:, 0], reaches_edge, reaches_edge)
    episodes, notes = read(path, task=task)
    ends = [End.TERMINATED, End.TRUNCATED, End.TRUNCATED]
    assert [e.end for e in episodes] == ends
    assert any("1 of 1 episodes are flagged terminal where the" in n for n in notes)
    assert any("1 episodes end where the task terminates" in n for n in notes)


def test_rewards_of_shape_n_1_are_squeezed(path):
    episodes, _ = read(write(path, rewards=np.arange(12.0)[:, None]))
    np.testing.assert_array_equal(episodes[1].reward, [5, 6, 7])


def test_big_files_in_virtual_parts_are_put_together(path, tmp_path):
    write(path)
    parts = tmp_path / "parts.hdf5"
    with h5py.File(path) as whole, h5py.File(parts, "w") as file:
        for i, rows in enumerate((slice(0, 10), slice(10, 12))):
            for name, array in whole.items():
                file[f"virtual/{i}/{name}"] = array[rows]
    ours, theirs = read(path)[0], read(parts)[0]
    np.testing.assert_array_equal(ours[2].action, theirs[2].action)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"rewards": None}, "found no rewards among actions"),
        ({"actions": np.zeros((11, 2))}, "expected as many rows of everything"),
        ({"observations": np.full((12, 3), np.nan)}, "finite observations, 12 of 12"),
        ({"rewards": np.zeros((12, 2))}, r"expected rewards of shape \(N,\)"),
        ({"actions": np.full((12, 2), 1e300)}, "expected finite actions"),
    ],
)
def test_a_bad_file_is_one_sentence_and_nothing_is_written(
    path, tmp_path, changes, sentence
):
    write(path, **changes)
    with pytest.raises(FormatError, match=sentence):
        ingest(Source(path), tmp_path / "data")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("kept", [20, 500, 2000])
def test_a_cut_file_is_one_sentence(path, kept):
    content = write(path).read_bytes()
    path.write_bytes(content[:kept])
    with pytest.raises(FormatError, match="cannot be read as HDF5, it may be cut"):
        d4rl.load(path)


def test_a_spec_of_other_sizes_is_refused(path, tmp_path):
    spec = d4rl.guess(write(path))
    write(tmp_path / "other.hdf5", observations=float32(np.zeros((12, 4))))
    with pytest.raises(FormatError, match="expected 3 observations and 2 actions"):
        d4rl.read(tmp_path / "other.hdf5", spec)


def test_hopper_medium_is_what_its_readme_says(shared_data):
    path = shared_data / "gym_rollouts" / "hopper-medium-like.hdf5"
    episodes, _ = read(path)
    complete = [e for e in episodes if INCOMPLETE not in e.labels]
    assert len(complete) == 282
    assert len(episodes) == 283
    assert sum(e.end is End.TERMINATED for e in episodes) == 281
    assert sum(e.length for e in episodes) == 100_000
    assert round(float(np.mean([e.reward.sum() for e in complete]))) == 1276
    assert episodes[0].truth["qpos"].shape == (episodes[0].length + 1, 6)


def test_half_cheetah_never_terminates(shared_data):
    path = shared_data / "cs285_halfcheetah_expert" / "halfcheetah-expert.hdf5"
    episodes, notes = read(path)
    assert [e.end for e in episodes] == [End.TRUNCATED] * 2
    assert any("time limit" in note for note in notes)


def test_actions_beyond_the_bounds_are_kept_and_counted(shared_data, tmp_path):
    path = shared_data / "dapg_door_human" / "door-human.hdf5"
    notes = []
    result = ingest(Source(path), tmp_path / "data", note=notes.append)
    assert any("10595 of 188412 action values" in note for note in notes)
    batch = Replay.from_dataset(result.dataset).transitions()
    assert len(batch.action) == 6729 - 25
    assert np.abs(batch.action).max() == pytest.approx(1.3662, abs=1e-4)


def test_importing_again_adds_nothing(path, tmp_path):
    first = ingest(Source(write(path)), tmp_path / "data")
    again = ingest(Source(path), tmp_path / "data")
    assert not first.already
    assert again.already
    assert again.segment == first.segment
    assert len(create(tmp_path / "data", first.dataset.spec)) == 3


def test_options_are_typed_and_unknown_ones_refused(path, tmp_path):
    write(path, timeouts=None)
    options = {"max_episode_steps": "5", "control_period_s": "0.1"}
    result = ingest(Source(path, options=options), tmp_path / "data")
    assert [item.length for item in result.dataset.episodes] == [4, 3, 3]
    assert result.dataset.spec.control_period_s == 0.1
    with pytest.raises(FormatError, match="did you mean 'max_episode_steps'"):
        ingest(Source(path, options={"max_episodes_steps": "5"}), tmp_path / "data")
    with pytest.raises(FormatError, match="max_episode_steps=many"):
        ingest(Source(path, options={"max_episode_steps": "many"}), tmp_path / "data")
