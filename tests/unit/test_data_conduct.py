"""Who acted, what was clamped and how old commands were, kept with the episodes."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from data_examples import SPEC, make_episode

from robostack.data.dataset import create, open_dataset
from robostack.data.episode import Conduct, EpisodeError, check
from robostack.data.segment import INDEX


def conduct(steps, size, seed=0):
    rng = np.random.default_rng(seed)
    return Conduct(
        rng.random(steps) > 0.5,
        rng.random((steps, size)) > 0.5,
        rng.random(steps).astype(np.float32),
    )


def test_conduct_comes_back_beside_episodes_without_any(tmp_path):
    plain = make_episode(5)
    size = SPEC.action.size
    known = make_episode(7)._replace(conduct=conduct(7, size))
    create(tmp_path / "d", SPEC).append([plain, known], {})
    first, second = open_dataset(tmp_path / "d")
    assert first.conduct is None
    for found, expected in zip(second.conduct, known.conduct, strict=True):
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == expected.dtype


def test_a_segment_of_the_layout_before_is_still_read(tmp_path):
    create(tmp_path / "d", SPEC).append([make_episode(5)], {})
    (index,) = (tmp_path / "d").rglob(INDEX)
    content = msgspec.json.decode(index.read_bytes())
    content["version"] = 1
    for entry in content["episodes"]:
        del entry["conducted"]
    index.write_bytes(msgspec.json.encode(content))
    (episode,) = open_dataset(tmp_path / "d")
    assert episode.conduct is None
    assert episode.length == 5


def test_conduct_of_another_length_is_refused():
    wrong = make_episode(5)._replace(conduct=conduct(4, SPEC.action.size))
    with pytest.raises(EpisodeError, match="expected intervention of shape"):
        check(wrong, SPEC)
