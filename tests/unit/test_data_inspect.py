"""Facts about inspection and labels."""

import io

import numpy as np
import pytest
from data_examples import GOLDEN, SPEC, make_episode
from rich.console import Console

from robostack import plugins
from robostack.data import inspect
from robostack.data.dataset import DatasetError, create
from robostack.data.episode import INCOMPLETE, End, Episode
from robostack.data.label import label
from robostack.spec import float32


@pytest.fixture
def dataset(tmp_path):
    made = create(tmp_path / "data", SPEC)
    made.append(GOLDEN, {"source": "test"})
    return made


def element(report, array, name):
    (found,) = (e for e in report.elements if (e.array, e.name) == (array, name))
    return found


def test_the_report_counts_episodes_steps_and_ends(dataset):
    cut = make_episode(4, 3, labels={INCOMPLETE: "the file ends"})
    dataset.append([cut], {})
    report = inspect.inspect(dataset)
    assert (report.episodes, report.steps) == (3, 12)
    assert report.ends == {"terminated": 1, "truncated": 2, "incomplete": 1}
    assert (report.lengths.low, report.lengths.median) == (3.0, 4.0)


def test_returns_are_those_of_complete_episodes(dataset):
    cut = make_episode(2, 3, reward=float32([1e6, 0]), labels={INCOMPLETE: "cut"})
    dataset.append([cut], {})
    logged = inspect.inspect(dataset).returns["logged"]
    assert logged.high == pytest.approx(max(float(e.reward.sum()) for e in GOLDEN))


def test_values_beyond_the_bounds_are_counted_and_said(dataset):
    far = make_episode(4, 3)
    far.observation["force"][1:3, 0] = 11.0
    dataset.append([far], {})
    report = inspect.inspect(dataset)
    assert element(report, "force", "tip").outside == 2
    assert any("2 values are outside -10 .. 10 N" in p for p in report.problems)


def test_constant_elements_and_late_periods_and_gaps_are_said(tmp_path):
    made = create(tmp_path / "data", SPEC)
    still = make_episode(4, 3, time_s=np.array([0.0, 0.1, 0.2, 0.5, 0.6]))
    still.observation["force"][:] = 2.0
    still.action[1] = np.nan
    made.append([still], {})
    report = inspect.inspect(made)
    assert (report.late, report.gaps) == (1, 1)
    assert "force tip never changes: it is always 2" in report.problems


def test_rows_that_are_not_finite_are_counted_by_column(tmp_path):
    made = create(tmp_path / "data", SPEC)
    episode = make_episode(4, 3, reward=None)
    episode.requested[1:3] = np.nan
    episode.truth["cube"][-1] = np.nan  # unknown after the last step: as it should be
    made.append([episode, make_episode(4, 4)], {})
    assert inspect.inspect(made).nan == {"action.requested": 2, "next.reward": 4}


def test_labels_show_the_first_ten_values(tmp_path):
    made = create(tmp_path / "data", SPEC)
    made.append([make_episode(2, seed) for seed in range(12)], {})
    values = inspect.inspect(made).labels["seed"]
    assert values == (*map(str, range(10)), "and 2 more")


def test_the_table_shows_every_element_in_eighty_columns(dataset):
    file = io.StringIO()
    Console(file=file, width=80).print(inspect.render(inspect.inspect(dataset)))
    for word in ("shoulder", "elbow", "tip", "rad", "-10 .. 10", dataset.digest):
        assert word in file.getvalue()


def test_an_empty_dataset_has_a_report_too(tmp_path):
    made = create(tmp_path / "data", SPEC)
    report = inspect.inspect(made)
    assert "there are no episodes" in report.problems
    inspect.render(report)
    inspect.plot(made, tmp_path / "empty.png")


def test_the_plot_is_a_png(dataset, tmp_path):
    inspect.plot(dataset, tmp_path / "data.png")
    assert (tmp_path / "data.png").read_bytes()[:4] == b"\x89PNG"


def hanging(spec, steps):
    """Return an episode of a pendulum that hangs still, without rewards."""
    return Episode(
        observation={n: np.zeros((steps + 1, 1), np.float32) for n in spec.observation},
        action=np.zeros((steps, 1), np.float32),
        requested=np.zeros((steps, 1), np.float32),
        time_s=np.arange(steps + 1) * spec.control_period_s,
        end=End.TRUNCATED,
        reward=None,
        truth={},
        frames={},
        labels={},
    )


def test_a_task_writes_its_rewards_beside_logs_that_have_none(tmp_path):
    world = plugins.load("sim", "pendulum")
    spec, task = world.spec(""), world.tasks("")["swing_up"]
    made = create(tmp_path / "data", spec)
    gap = hanging(spec, 6)
    gap.action[2] = np.nan
    made.append([hanging(spec, 4), gap], {})
    told = []
    name = label(made, "sim:pendulum", "swing_up", tell=lambda *n: told.append(n))
    assert name == "pendulum/swing_up"
    assert told == [(1, 2), (2, 2)]
    first, second = made.rewards(name)
    expected = task.reward({**made.episode(0).observation, "action": np.zeros((4, 1))})
    np.testing.assert_array_equal(first, float32(expected))
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(second)), [2])
    with pytest.raises(DatasetError, match="are there already"):
        label(made, "sim:pendulum", "swing_up")


def test_a_task_that_needs_other_columns_is_refused(dataset):
    with pytest.raises(DatasetError, match=r"needs the column .* which episode 0 lac"):
        label(dataset, "sim:pendulum", "swing_up")


def test_an_unknown_task_is_refused_with_the_nearest(dataset):
    with pytest.raises(DatasetError, match="did you mean 'swing_up'"):
        label(dataset, "sim:pendulum", "swingup")
