"""Facts about Minari datasets, which Minari itself writes here."""

import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest

minari = pytest.importorskip("minari")

from gymnasium import spaces  # noqa: E402
from minari.data_collector import EpisodeBuffer  # noqa: E402

from robostack.data import formats  # noqa: E402
from robostack.data.dataset import open_dataset  # noqa: E402
from robostack.data.episode import INCOMPLETE, End  # noqa: E402
from robostack.data.formats import FormatError  # noqa: E402
from robostack.data.ingest import Source, ingest  # noqa: E402

PLAIN = spaces.Box(-np.inf, np.inf, (3,))
MOVES = spaces.Box(-2.0, 2.0, (2,))


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    """Keep Minari's own folder here."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "root"))
    return tmp_path / "root"


def write(buffers, space=PLAIN, actions=MOVES, name="toy/arm-v0"):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        minari.create_dataset_from_buffers(
            name, buffer=buffers, observation_space=space, action_space=actions
        )


def episode(number, steps, end, observe=None, **changes):
    """Return `steps` steps that end by "terminations", "truncations" or neither."""
    rng = np.random.default_rng(number)
    flags = {flag: np.zeros(steps, bool) for flag in ("terminations", "truncations")}
    if end:
        flags[end][-1] = True
    columns = {
        "observations": (observe or (lambda n: rng.normal(size=(n, 3))))(steps + 1),
        "actions": np.float32(rng.uniform(-1, 1, (steps, 2))),
        "rewards": np.arange(steps, dtype=np.float64),
    }
    return EpisodeBuffer(id=number, infos=None, **columns | flags | changes)


def imported(tmp_path, source="minari:toy/arm-v0", **options):
    notes = []
    result = ingest(
        Source(Path(source), options=options), tmp_path / "data", note=notes.append
    )
    return list(open_dataset(result.dataset.path)), result.dataset, notes


def test_an_id_is_found_in_minaris_own_folder_and_ends_are_kept(tmp_path):
    ends = ("terminations", "truncations", "")
    buffers = [episode(i, 4 + i, end) for i, end in enumerate(ends)]
    write(buffers)
    episodes, dataset, notes = imported(tmp_path)
    assert [e.length for e in episodes] == [4, 5, 6]
    assert [e.end for e in episodes] == [End.TERMINATED, End.TRUNCATED, End.TRUNCATED]
    assert [INCOMPLETE in e.labels for e in episodes] == [False, False, True]
    for ours, theirs in zip(episodes, buffers, strict=True):
        found = ours.observation["state"]
        np.testing.assert_array_equal(found, np.float32(theirs.observations))
        np.testing.assert_array_equal(ours.action, theirs.actions)
        assert ours.reward.tolist() == theirs.rewards.tolist()
    assert dataset.spec.action.high == (2.0, 2.0)
    assert dataset.spec.name == "toy/arm-v0"
    assert any("control_period_s" in note for note in notes)


def test_the_folder_itself_is_recognized_and_imports_the_same(tmp_path, root):
    write([episode(0, 5, "truncations")])
    folder = root / "toy" / "arm-v0"
    assert formats.sniff(folder) == "minari"
    (ours,), *_ = imported(tmp_path, folder, control_period_s="0.1")
    assert ours.time_s[1] == pytest.approx(0.1)


def test_a_dictionary_becomes_arrays_and_images_are_left_out_with_a_note(tmp_path):
    space = spaces.Dict(
        {
            "observation": PLAIN,
            "desired_goal": spaces.Box(-1.0, 1.0, (2,)),
            "camera": spaces.Box(0, 255, (40, 40, 3), np.uint8),
        }
    )

    def observe(rows):
        return {
            "observation": np.ones((rows, 3)),
            "desired_goal": np.zeros((rows, 2)),
            "camera": np.zeros((rows, 40, 40, 3), np.uint8),
        }

    write([episode(0, 3, "truncations", observe)], space)
    (ours,), _, notes = imported(tmp_path)
    sizes = {name: array.shape for name, array in ours.observation.items()}
    assert sizes == {"desired_goal": (4, 2), "observation": (4, 3)}
    assert any("camera" in note for note in notes)


def test_a_tuple_becomes_numbered_arrays(tmp_path):
    space = spaces.Tuple((PLAIN, spaces.Box(-1.0, 1.0, (3,))))

    def observe(rows):
        return (np.ones((rows, 3)), np.zeros((rows, 3)))

    write([episode(0, 3, "truncations", observe)], space)
    (ours,), *_ = imported(tmp_path)
    assert {n: a.shape for n, a in ours.observation.items()} == {
        "0": (4, 3),
        "1": (4, 3),
    }


def test_numbers_that_are_not_finite_are_refused_by_name(tmp_path):
    rewards = np.array([0.0, np.nan, 0.0])
    write([episode(0, 3, "truncations", rewards=rewards)])
    with pytest.raises(FormatError, match="finite rewards, in episode 0"):
        imported(tmp_path)
    assert not (tmp_path / "data").exists()


def test_an_import_takes_memory_for_a_few_episodes_not_for_all(tmp_path):
    write([episode(i, 20_000, "truncations") for i in range(16)])
    one = 20_000 * (3 * 8 + 2 * 4 + 8 + 2)  # of float64, float32 and flags [byte]
    tracemalloc.start()
    try:
        ingest(Source(Path("minari:toy/arm-v0")), tmp_path / "data")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 6 * one


def test_a_damaged_end_leaves_no_dataset_behind(tmp_path):
    ends = [{}, {}, {"rewards": np.array([0.0, np.inf, 0.0])}]
    write([episode(i, 3, "truncations", **end) for i, end in enumerate(ends)])
    with pytest.raises(FormatError, match="finite rewards, in episode 2"):
        imported(tmp_path)
    assert not (tmp_path / "data").exists()


def test_choices_are_refused_in_words(tmp_path):
    buffer = episode(0, 3, "truncations", actions=np.zeros(3, np.int64))
    write([buffer], actions=spaces.Discrete(4))
    with pytest.raises(FormatError, match="real numbers, found choices"):
        imported(tmp_path)


def test_another_robot_is_refused_with_both_shapes(tmp_path):
    write([episode(0, 3, "truncations")])
    source = Source(Path("minari:toy/arm-v0"), robot="hardware:fake")
    with pytest.raises(FormatError, match=r"joint_position.*found \{'state': 3\}"):
        ingest(source, tmp_path / "data")


def test_a_file_cut_short_is_refused_in_one_sentence(tmp_path, root):
    write([episode(i, 500, "truncations") for i in range(4)])
    file = root / "toy" / "arm-v0" / "data" / "main_data.hdf5"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(FormatError, match="toy/arm-v0") as error:
        imported(tmp_path)
    assert "\n" not in str(error.value)


def test_what_is_not_there_and_cannot_be_fetched_is_refused(tmp_path, monkeypatch):
    def unreachable(*_args, **_options):
        raise OSError("Name or service not known")

    monkeypatch.setattr(minari, "load_dataset", unreachable)
    with pytest.raises(FormatError, match="or can be downloaded, got OSError"):
        imported(tmp_path, "minari:D4RL/pen/human-v2")
