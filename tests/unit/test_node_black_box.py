"""The last minute of a node: kept, written, read by our reader and by mcap."""

import contextlib

import numpy as np
import pytest
from mcap.reader import make_reader
from node_bench import Bench

from robostack.data import recording
from robostack.messages import Event, Opened, Step, Tensor, decode_watch
from robostack.node import black_box_writer
from robostack.node.black_box import About, BlackBox, default_folder
from robostack.node.black_box_writer import number, write


@pytest.fixture
def boxed(tmp_path):
    """Return a bench with a black box, and what the box says."""
    bench = Bench()
    said = []
    about = About("test:fake", bench.robot.spec)
    with contextlib.closing(BlackBox(about, tmp_path / "box", bench.clock)) as box:
        box.say = said.append
        bench.journal._box = box
        yield bench, box, said


def kept(box):
    return [decode_watch(frame) for frame in box._messages("test")]


def test_a_fault_is_written_and_both_readers_open_it(boxed, tmp_path):
    bench, box, said = boxed
    bench.begin()
    for i in range(5):
        bench.step([0.01 * i, 0.0])
    bench.say(bench.command([0.5, 0.0]))  # farther than one step: clamped
    bench.tick()
    bench.say(bench.command([0.0, 0.0], generation=99))
    bench.say(bench.command([np.nan, 0.0]))
    assert bench.machine.state == "fault"
    box.close()
    (path,) = (tmp_path / "box").glob("*.mcap")
    assert said == [f"black box written to {path}"]
    loaded = recording.load(path)
    assert loaded.spec == bench.robot.spec
    assert loaded.episode.length == 6
    assert loaded.episode.requested[5, 0] == np.float32(0.5)
    assert loaded.episode.action[5, 0] < 0.2
    assert loaded.episode.labels["black_box"].startswith("fault: bad command")
    with path.open("rb") as file:
        messages = make_reader(file, validate_crcs=True).iter_messages()
        events = [m.data.decode() for _, c, m in messages if c.topic == "/events"]
    for what in ("active", "generation", "fault: bad command", "not_finite"):
        assert any(what in event for event in events)


def test_nothing_is_written_while_all_is_well(boxed, tmp_path):
    bench, box, said = boxed
    bench.begin()
    bench.step()
    bench.end()
    box.close()
    assert said == []
    assert not (tmp_path / "box").exists()


def test_it_keeps_a_minute_and_no_more(boxed):
    bench, box, _ = boxed
    bench.begin()
    for _ in range(3100):
        bench.step()
    steps = [m for m in kept(box) if isinstance(m, Step)]
    assert len(steps) == 3000  # of 20 ms
    assert steps[-1].seq == 3099


def test_it_keeps_what_no_watcher_heard(boxed):
    bench, box, _ = boxed
    bench.watcher.watched = lambda: False
    bench.begin()
    for _ in range(3):
        bench.step()
    assert not bench.watcher.of(Step)
    assert len([m for m in kept(box) if isinstance(m, Step)]) == 3


def test_a_flood_of_refusals_drives_out_no_change_of_state(boxed):
    bench, box, _ = boxed
    bench.begin()
    for _ in range(20_000):
        bench.journal.refuse("replayed", "")
    events = [m for m in kept(box) if isinstance(m, Event)]
    assert "active: an episode is open" in [e.text for e in events]
    assert len(events) < 20_000


def test_readings_between_episodes_are_kept(boxed):
    bench, box, _ = boxed
    for _ in range(4):
        bench.pilot.look()
    assert [m.seq for m in kept(box) if isinstance(m, Step)] == [-1] * 4


def test_two_causes_at_once_are_one_file(boxed, tmp_path):
    bench, box, said = boxed
    bench.supervisor.leave("fault", "one")
    bench.supervisor.leave("estop", "two")
    box.close()
    assert len(said) == len(list((tmp_path / "box").glob("*.mcap"))) == 1


def test_a_folder_that_cannot_be_written_is_one_sentence_and_the_node_goes_on(
    boxed, tmp_path
):
    bench, box, said = boxed
    (tmp_path / "box").write_text("a file is in the way")
    bench.supervisor.leave("estop", "stopped")
    box.close()
    (sentence,) = said
    assert sentence.startswith("the black box was not written: cannot write into")
    assert "\n" not in sentence
    assert bench.supervisor.clear("looked")
    assert bench.begin().seq == 0


def a_step(generation, seq, last=False):
    one = Tensor.pack(np.float32([0.5, 0.5]))
    arrays = {"joint_position": one, "joint_velocity": one}
    action = None if last else one
    return Step(
        generation, seq, 0.02 * seq, arrays, {}, action, action, (), 0.0, False, {}
    )


def opened(spec):
    return Opened(0, 0.0, 10**18, "test:fake", spec, "", "", None, {"black_box": "x"})


def test_no_transition_leads_from_one_episode_to_the_next(tmp_path):
    idle = [a_step(3, -1, last=True)] * 3
    first = [a_step(1, i) for i in range(3)] + [a_step(1, 3, last=True)]
    second = [a_step(3, i) for i in range(2)] + [a_step(3, 2, last=True)]
    spec = Bench().robot.spec
    path = write(tmp_path, [opened(spec), *first, *second, *idle, *first])
    action = recording.load(path).episode.action
    moving = ~np.isnan(action[:, 0])
    assert moving.tolist() == [
        *(True, True, True, False),
        *(True, True, False),
        *(False, False, False),
        *(True, True, True),
    ]


def test_rows_are_numbered_and_an_event_tells_whose_they_are():
    messages = [a_step(1, 7), a_step(1, 8), a_step(1, 10), a_step(3, 0)]
    found = list(number(messages))
    assert [m.seq for m in found if isinstance(m, Step)] == [0, 1, 3, 5]
    assert [m.text for m in found if isinstance(m, Event)] == [
        "row 0 is step 7 of generation 1",
        "row 5 is step 0 of generation 3",
    ]


def test_the_newest_files_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(black_box_writer, "KEEP", 3)
    paths = [write(tmp_path, [opened(Bench().robot.spec)]) for _ in range(5)]
    assert len(list(tmp_path.iterdir())) == 3
    assert paths[-1].exists()


def test_a_full_disk_leaves_no_half_file(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(black_box_writer.RecordingWriter, "step", full)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path, [opened(Bench().robot.spec), a_step(1, 0)])
    assert list(tmp_path.iterdir()) == []


def test_the_default_folder_is_among_the_users_state(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "robostack" / "black-box"
