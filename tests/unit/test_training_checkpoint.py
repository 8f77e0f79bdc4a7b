import errno

import numpy as np
import pytest

from robostack.training import checkpoint
from robostack.training.checkpoint import Checkpoint, CheckpointError


def make(step):
    return Checkpoint(step=step, learner=b"weights", sampler="{}", metrics_size=9)


def test_what_is_saved_is_read(tmp_path):
    checkpoint.save(tmp_path, make(5), keep=2)
    assert checkpoint.newest(tmp_path) == make(5)


def test_the_newest_are_kept(tmp_path):
    for step in (5, 10, 100, 20_000):
        checkpoint.save(tmp_path, make(step), keep=2)
    steps = [checkpoint.read(path).step for path in checkpoint.listed(tmp_path)]
    assert steps == [20_000, 100]


def test_without_any_there_is_none(tmp_path):
    assert checkpoint.newest(tmp_path) is None


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_a_damaged_one_is_passed_over_for_the_one_before(tmp_path, damage, caplog):
    checkpoint.save(tmp_path, make(5), keep=2)
    checkpoint.save(tmp_path, make(10), keep=2)
    path = checkpoint.listed(tmp_path)[0]
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
    path.write_bytes({"cut": content[:-9], "flip": content, "empty": b""}[damage])
    assert checkpoint.newest(tmp_path).step == 5
    assert "damaged" in caplog.text


def test_only_damaged_ones_are_an_error_not_a_fresh_start(tmp_path):
    checkpoint.save(tmp_path, make(5), keep=2)
    checkpoint.listed(tmp_path)[0].write_bytes(b"")
    with pytest.raises(CheckpointError, match="all 1 are damaged"):
        checkpoint.newest(tmp_path)


def test_a_full_disk_leaves_the_one_before_and_no_rubbish(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, make(5), keep=2)

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(CheckpointError, match=r"No space left.*000000000005"):
        checkpoint.save(tmp_path, make(10), keep=2)
    assert [path.name for path in tmp_path.iterdir()] == ["000000000005.ckpt"]


def test_what_a_killed_writer_left_is_cleaned_up(tmp_path):
    (tmp_path / ".partial-x").write_bytes(b"half")
    checkpoint.save(tmp_path, make(5), keep=2)
    assert [path.name for path in tmp_path.iterdir()] == ["000000000005.ckpt"]


def test_a_generator_goes_on_where_it_was():
    rng = np.random.default_rng(3)
    rng.integers(10, size=7)
    again = checkpoint.unpack_generator(checkpoint.pack_generator(rng))
    assert again.integers(1000, size=5).tolist() == rng.integers(1000, size=5).tolist()
