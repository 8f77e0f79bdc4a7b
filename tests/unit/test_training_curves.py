import pytest

pytest.importorskip("tensorboard")

from robostack.training import curves
from robostack.training.curves import Curves


def scalars(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run)).Reload()
    tags = events.Tags()["scalars"]
    return {t: [(e.step, e.value) for e in events.Scalars(t)] for t in tags}


def test_metrics_go_to_a_line_each_and_to_tensorboard(tmp_path):
    with Curves(tmp_path, 0, 0) as out:
        out.write(10, {"loss/value": 0.5})
        out.write(20, {"loss/value": 0.25, "evaluation/return": 7.0})
    assert curves.read(tmp_path) == [
        {"step": 10, "loss/value": 0.5},
        {"step": 20, "loss/value": 0.25, "evaluation/return": 7.0},
    ]
    assert scalars(tmp_path) == {
        "loss/value": [(10, 0.5), (20, 0.25)],
        "evaluation/return": [(20, 7.0)],
    }


def test_resuming_takes_back_what_came_after_the_checkpoint(tmp_path):
    with Curves(tmp_path, 0, 0) as out:
        out.write(10, {"loss": 0.5})
        size = out.sync()
        out.write(20, {"loss": 99.0})
    with Curves(tmp_path, 10, size) as out:
        out.write(20, {"loss": 0.25})
    assert curves.read(tmp_path) == [
        {"step": 10, "loss": 0.5},
        {"step": 20, "loss": 0.25},
    ]
    assert scalars(tmp_path) == {"loss": [(10, 0.5), (20, 0.25)]}


def test_a_line_cut_short_by_a_kill_is_left_out(tmp_path):
    with Curves(tmp_path, 0, 0) as out:
        out.write(10, {"loss": 0.5})
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 20, "lo')
    assert curves.read(tmp_path) == [{"step": 10, "loss": 0.5}]


def test_without_a_file_there_are_no_lines(tmp_path):
    assert curves.read(tmp_path) == []
