"""Facts about datasets: bit-exact, whole at every moment, never written over."""

import errno
import os
import weakref
from pathlib import Path

import msgspec
import numpy as np
import pytest
from data_examples import GOLDEN, SPEC, assert_same, make_episode

from robostack.data import atomic
from robostack.data.dataset import DatasetError, create, open_dataset
from robostack.data.episode import Frames
from robostack.data.formats import FormatError
from robostack.data.repair import repair
from robostack.spec import ArraySpec, float32


@pytest.fixture
def dataset(tmp_path):
    made = create(tmp_path / "data", SPEC)
    made.append(GOLDEN, {"source": "test"})
    return made


def test_episodes_come_back_bit_for_bit(dataset):
    reopened = open_dataset(dataset.path)
    assert reopened.spec == SPEC
    for i, episode in enumerate(GOLDEN):
        assert_same(reopened.episode(i), episode)


def test_episodes_that_lack_columns_come_back_without_them(dataset):
    bare = make_episode(4, 2, reward=None, truth={}, frames={})
    rich = make_episode(4, 3, truth={"drawer": float32(np.ones((5, 1)))})
    gap = make_episode(4, 4)
    gap.action[1] = np.nan
    dataset.append([bare, rich, gap], {})
    for i, episode in enumerate([bare, rich, gap]):
        assert_same(open_dataset(dataset.path).episode(2 + i), episode)


def test_episodes_stay_in_the_order_of_arrival(dataset):
    for seed in range(2, 14):
        dataset.append([make_episode(2, seed)], {})
    seeds = [item.labels["seed"] for item in open_dataset(dataset.path).episodes]
    assert seeds == [str(seed) for seed in range(14)]


def test_adding_the_same_segment_twice_changes_nothing(dataset):
    before = dataset.digest
    dataset.append(GOLDEN, {"source": "test"})
    assert open_dataset(dataset.path).digest == before
    assert len(dataset) == 2


def test_the_digest_follows_from_the_content(dataset, tmp_path):
    other = create(tmp_path / "other", SPEC)
    other.append(GOLDEN, {"source": "test"})
    assert other.digest == dataset.digest
    other.append([make_episode(seed=9)], {})
    assert other.digest != dataset.digest


def test_another_robot_is_refused_with_the_difference(dataset):
    renamed = ArraySpec.uniform(["shoulder", "wrist"], "rad", -3.0, 3.0)
    other = msgspec.structs.replace(SPEC, action=renamed)
    with pytest.raises(DatasetError, match="element 1 is 'elbow' here and 'wrist'"):
        create(dataset.path, other)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"action": float32(np.zeros((5, 3)))}, "expected action of shape"),
        ({"action": np.zeros((5, 2))}, "expected action as float32, got float64"),
        ({"time_s": np.zeros(6)}, "expected time_s to grow"),
        ({"observation": {"position": float32(np.zeros((6, 2)))}}, "expected the obs"),
        ({"reward": float32(np.zeros(6))}, "expected reward of shape"),
        ({"frames": {"back": Frames(np.array([0]), (b"",))}}, "expected frames of"),
        ({"frames": {"front": Frames(np.array([6]), (b"",))}}, "expected steps in ord"),
    ],
)
def test_an_episode_that_contradicts_the_spec_is_refused(dataset, change, sentence):
    with pytest.raises(DatasetError, match=sentence):
        dataset.append([GOLDEN[0], make_episode(**change)], {})
    assert len(open_dataset(dataset.path)) == 2


def test_episodes_of_a_generator_are_let_go_as_they_are_written(tmp_path):
    alive = []

    def generate():
        for seed in range(6):
            episode = make_episode(4, seed)
            alive.append(weakref.ref(episode.action))
            yield episode
            del episode
            assert sum(ref() is not None for ref in alive) <= 1

    streamed = create(tmp_path / "streamed", SPEC).append(generate(), {})
    whole = [make_episode(4, seed) for seed in range(6)]
    assert streamed == create(tmp_path / "whole", SPEC).append(whole, {})


def test_columns_that_begin_late_are_filled_up(tmp_path):
    bare = make_episode(3, 1, reward=None, truth={}, frames={})
    dataset = create(tmp_path / "data", SPEC)
    dataset.append([bare, GOLDEN[0], bare], {})
    assert dataset.verify() == []
    reward = dataset.segments[0].column("next.reward")
    assert np.isnan(reward[[0, 1, 2, 3, 9, 10, 11, 12, 13]]).all()
    for ours, theirs in zip(dataset, [bare, GOLDEN[0], bare], strict=True):
        assert_same(ours, theirs)


def test_a_source_that_fails_half_way_adds_nothing(dataset):
    def generate():
        yield make_episode(5, 8)
        raise FormatError("cut short")

    before = dataset.digest
    with pytest.raises(FormatError, match="cut short"):
        dataset.append(generate(), {})
    assert dataset.leftovers() == []
    assert open_dataset(dataset.path).digest == before


def test_not_a_number_is_refused_and_nothing_written(dataset):
    broken = make_episode(seed=5)
    broken.observation["force"][3, 0] = np.nan
    with pytest.raises(DatasetError, match="force is not finite at row 3"):
        dataset.append([broken], {})
    half = make_episode(seed=5)
    half.action[2, 1] = np.inf
    with pytest.raises(DatasetError, match="action is not finite at row 2"):
        dataset.append([half], {})
    assert dataset.leftovers() == []


def test_one_flipped_byte_is_found_by_verify(dataset):
    assert dataset.verify() == []
    files = [p for p in dataset.segments[0].folder.iterdir() if p.stat().st_size]
    assert len(files) > 8
    for path in files:
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        assert any(path.name in problem for problem in dataset.verify()), path.name
        content[-1] ^= 1
        path.write_bytes(content)
    assert dataset.verify() == []


def test_a_cut_column_is_found_on_opening_and_set_aside_by_repair(dataset):
    dataset.append([make_episode(seed=7)], {})
    column = dataset.segments[0].folder / "action.npy"
    os.truncate(column, column.stat().st_size - 4)
    with pytest.raises(DatasetError, match=r"action\.npy: expected .* bytes, found"):
        open_dataset(dataset.path)
    assert repair(dataset.path) == 1
    assert_same(open_dataset(dataset.path).episode(0), make_episode(seed=7))
    assert list((dataset.path / "set-aside").iterdir())


def test_what_a_dead_writer_left_is_ignored_and_set_aside(dataset):
    left = dataset.path / "segments" / ".partial-dead"
    left.mkdir()
    (left / "action.npy").write_bytes(b"half")
    assert len(open_dataset(dataset.path)) == 2
    assert repair(dataset.path) == 1
    assert not left.exists()
    kept = dataset.path / "set-aside" / ".partial-dead" / "action.npy"
    assert kept.read_bytes() == b"half"
    assert repair(dataset.path) == 0


def test_repair_leaves_a_living_writer_alone(dataset):
    with atomic.new_folder(dataset.path / "segments") as folder:
        assert repair(dataset.path) == 0
        assert folder.exists()


class Death(BaseException):
    """What nothing catches."""


def test_a_writer_that_dies_at_any_call_leaves_all_or_nothing(dataset, monkeypatch):
    monkeypatch.setattr(atomic, "remove", lambda _: None)  # the dead do not clean up
    outcomes = []
    for fatal in range(40):
        calls = iter(range(fatal + 1))

        def dying(function, calls=calls):
            def call(*arguments):
                if next(calls, None) is None:
                    raise Death
                return function(*arguments)

            return call

        before = len(open_dataset(dataset.path))
        with monkeypatch.context() as patch:
            for name in ("fsync", "rename", "replace", "open"):
                patch.setattr(os, name, dying(getattr(os, name)))
            try:
                dataset.append([make_episode(seed=fatal)], {})
            except Death:
                outcomes.append(len(open_dataset(dataset.path)) - before)
            else:
                break
        assert open_dataset(dataset.path).verify() == []
    assert len(outcomes) > 10
    assert outcomes == sorted(outcomes)
    assert set(outcomes) == {0, 1}


def test_a_full_disk_leaves_the_dataset_whole(dataset, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DatasetError, match="No space left on device; nothing was add"):
        dataset.append([make_episode(seed=5)], {})
    monkeypatch.undo()
    assert len(open_dataset(dataset.path)) == 2
    assert dataset.leftovers() == []


def test_rewards_lie_beside_and_are_never_written_over(dataset):
    before = dataset.digest
    rewards = [float32([1, 2, 3, 4, 5]), float32([6, 7, 8])]
    dataset.write_rewards("arm/push", rewards, {"by": "test"})
    assert dataset.labellers() == ["logged", "arm/push"]
    for ours, theirs in zip(dataset.rewards("arm/push"), rewards, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(DatasetError, match="are there already"):
        dataset.write_rewards("arm/push", rewards, {})
    dataset.write_rewards("arm/push", rewards[::1], {}, overwrite=True)
    np.testing.assert_array_equal(dataset.rewards("logged")[0], GOLDEN[0].reward)
    assert dataset.digest == before
    assert dataset.verify() == []


def test_rewards_of_the_wrong_length_are_refused(dataset):
    with pytest.raises(DatasetError, match="expected 3 rewards for episode 1"):
        dataset.write_rewards("judge", [float32([1] * 5), float32([1] * 4)], {})
    with pytest.raises(DatasetError, match="expected rewards of 2 episodes, got 1"):
        dataset.write_rewards("judge", [float32([1] * 5)], {})


def test_rewards_by_nobody_are_an_error_that_says_by_whom_there_are(dataset):
    with pytest.raises(DatasetError, match=r"rewards by 'judge' .* those of logged"):
        dataset.rewards("judge")


def test_episodes_added_after_labelling_have_no_rewards_by_that_labeller(dataset):
    dataset.write_rewards("judge", [float32([1] * 5), float32([1] * 3)], {})
    dataset.append([make_episode(seed=5)], {})
    assert dataset.rewards("judge")[2] is None


def test_a_flipped_byte_in_rewards_is_found(dataset):
    dataset.write_rewards("judge", [float32([1] * 5), float32([1] * 3)], {})
    path = next(Path(dataset.path, "rewards").rglob("*.npy"))
    content = bytearray(path.read_bytes())
    content[-20] ^= 4
    path.write_bytes(content)
    assert any("label again" in problem for problem in dataset.verify())


def test_a_folder_with_other_things_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(DatasetError, match="holds other things"):
        create(tmp_path, SPEC)
    with pytest.raises(DatasetError, match="expected a dataset at"):
        open_dataset(tmp_path)
