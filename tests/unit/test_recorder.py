"""Facts about recordings: whole, readable by others, recovered from any cut."""

import base64
import errno
import itertools
import os

import msgspec
import numpy as np
import pytest
from data_examples import SPEC
from mcap.reader import make_reader

from robostack.data import jpeg, recording
from robostack.data.dataset import open_dataset
from robostack.data.episode import INCOMPLETE, End
from robostack.data.formats import FormatError
from robostack.data.ingest import Source, ingest
from robostack.data.recording_write import RecordingWriter
from robostack.data.repair import recover, repair
from robostack.messages import Closed, Event, Frame, Opened, Step, Tensor
from robostack.node.recorder import Session
from robostack.spec import float32

STEPS = 30


def opened(generation=1):
    return Opened(
        generation=generation,
        stamp_s=100.25,
        wall_ns=1_700_000_000_123_456_789,
        address="sim:arm",
        robot=SPEC,
        client="test",
        artefact="abc",
        seed=7,
        labels={"task": "push"},
    )


def step(seq, action=True, generation=1):
    rng = np.random.default_rng(seq)
    return Step(
        generation=generation,
        seq=seq,
        stamp_s=100.25 + 0.1 * seq,
        arrays={
            "position": Tensor.pack(float32(rng.normal(size=2))),
            "force": Tensor.pack(float32(rng.normal(size=1))),
        },
        truth={"cube": Tensor.pack(float32(rng.normal(size=3)))},
        requested=Tensor.pack(float32([seq, 2 * seq])) if action else None,
        applied=Tensor.pack(float32([seq, seq])) if action else None,
        clamped=("elbow",) if action else (),
        age_s=0.01,
        intervention=False,
        ages_s={"force": 0.01, "camera": 0.1},
    )


def frame(seq, generation=1):
    pixels = np.full((40, 48, 3), 3 * seq, np.uint8)
    return Frame(generation, seq, 100.25 + 0.1 * seq, "front", Tensor.pack(pixels))


def closed(terminated=True, generation=1):
    return Closed(generation, 105.0, terminated, "done", STEPS, 1, 2, {"stale": 3})


def messages(steps=STEPS, generation=1):
    yield opened(generation)
    for seq in range(steps):
        if seq % 10 == 0:
            yield frame(seq, generation)
        yield step(seq, generation=generation)
    yield Event(generation, 104.0, "state", "hold")
    yield step(steps, action=False, generation=generation)
    yield closed(generation=generation)


@pytest.fixture
def saved(tmp_path):
    """Return the path of one finished recording."""
    session = Session(tmp_path, lambda *_: None)
    for message in messages():
        session.take(message)
    (path,) = tmp_path.glob("*.mcap")
    return path


def test_a_recording_gives_the_episode_back_bit_for_bit(saved):
    spec, episode, notes = recording.load(saved)
    assert spec == SPEC
    assert notes == []
    assert episode.length == STEPS
    assert episode.end is End.TERMINATED
    for seq in range(STEPS + 1):
        sent = step(seq)
        position = sent.arrays["position"].unpack()
        np.testing.assert_array_equal(episode.observation["position"][seq], position)
        np.testing.assert_array_equal(
            episode.truth["cube"][seq], sent.truth["cube"].unpack()
        )
    np.testing.assert_array_equal(episode.action[:, 1], np.arange(STEPS))
    np.testing.assert_array_equal(episode.requested[:, 1], 2 * np.arange(STEPS))
    np.testing.assert_allclose(episode.time_s, 0.1 * np.arange(STEPS + 1), atol=1e-9)
    np.testing.assert_array_equal(episode.frames["front"].step, [0, 10, 20])
    image = jpeg.decode(episode.frames["front"].jpeg[1])
    assert np.abs(image.astype(int) - 30).max() <= 6
    assert episode.labels["task"] == "push"
    assert episode.labels["reason"] == "done"
    assert episode.labels["refused"] == '{"stale":3}'
    assert INCOMPLETE not in episode.labels


def test_the_stock_reader_opens_it_with_schemas_names_and_units(saved):
    with saved.open("rb") as file:
        reader = make_reader(file, validate_crcs=True)
        summary = reader.get_summary()
        topics = {c.topic: c for c in summary.channels.values()}
        assert set(topics) == {
            "/observation/position",
            "/observation/force",
            "/truth/cube",
            "/action",
            "/action/requested",
            "/ages",
            "/image/front",
            "/events",
        }
        assert topics["/action"].metadata["names"] == "shoulder, elbow"
        assert topics["/action"].metadata["units"] == "rad, rad"
        assert summary.statistics.message_count == 6 * STEPS + 4 + 3 + 1
        for schema, channel, message in reader.iter_messages():
            about = msgspec.json.decode(schema.data)
            content = msgspec.json.decode(message.data)
            assert schema.encoding == "jsonschema"
            assert about["type"] == "object"
            assert set(content) == set(about["properties"])
            if channel.topic == "/image/front":
                assert schema.name == "foxglove.CompressedImage"
                assert base64.b64decode(content["data"])[:2] == b"\xff\xd8"
        metadata = {m.name: m.metadata for m in reader.iter_metadata()}
    assert metadata["episode"]["spec_digest"] == SPEC.digest
    assert metadata["closed"]["terminated"] == "true"


def test_a_recording_cut_at_any_byte_gives_all_whole_chunks(tmp_path):
    session = Session(tmp_path, lambda *_: None)
    for i, message in enumerate(itertools.islice(messages(), STEPS + 2)):
        session.take(message)
        if i % 3 == 2:
            session.flush()
    session.flush()
    (partial,) = tmp_path.glob("*.partial")
    content = partial.read_bytes()
    steps = []
    for size in range(len(content), max(0, len(content) - 2000), -1):
        cut = tmp_path / "cut.mcap"
        cut.write_bytes(content[:size])
        try:
            episode = recording.load(cut).episode
        except FormatError:
            episode = None
        steps.append(0 if episode is None else episode.length)
    assert steps == sorted(steps, reverse=True)
    assert steps[0] == 27  # 28 steps, the last of which has no next observation
    assert len(set(steps)) > 2
    assert steps[-1] > 0
    session.abandon()


def test_a_finished_file_cut_at_any_of_its_last_bytes_gives_every_step(saved):
    content = saved.read_bytes()
    start = content.index(b"closed")
    for size in range(start, len(content), 7):
        cut = saved.with_name("cut.mcap")
        cut.write_bytes(content[:size])
        episode = recording.load(cut).episode
        assert episode.length == STEPS
        known = size >= start + len("closed") + 200
        assert (episode.end is End.TERMINATED) or not known
        assert (INCOMPLETE in episode.labels) == (episode.end is End.TRUNCATED)


def test_steps_that_never_came_make_a_gap_that_nothing_leaps_over(tmp_path):
    session = Session(tmp_path, lambda *_: None)
    for message in messages():
        if not (isinstance(message, Step) and message.seq in (10, 11)):
            session.take(message)
    (path,) = tmp_path.glob("*.mcap")
    _, episode, notes = recording.load(path)
    assert notes == [f"{path.name}: steps are missing at 1 places"]
    assert episode.labels["missed"] == "2"
    assert np.isnan(episode.action[9]).all()
    assert np.isfinite(np.delete(episode.action, 9, axis=0)).all()
    result = ingest(Source(tmp_path), tmp_path / "data")
    assert result.dataset.episodes[0].transitions.sum() == STEPS - 3


@pytest.mark.parametrize("place", [60, -6])  # in the content; in its checksum
def test_a_damaged_chunk_is_left_out_and_said(saved, place):
    content = bytearray(saved.read_bytes())
    content[content.index(b"zstd") + place] ^= 0xFF
    saved.write_bytes(content)
    _, episode, notes = recording.load(saved)
    assert episode is None or episode.length < STEPS
    assert any("1 chunks are damaged" in note for note in notes)


def test_an_episode_whose_last_step_is_missing_did_not_terminate(tmp_path):
    session = Session(tmp_path, lambda *_: None)
    for message in messages():
        if not (isinstance(message, Step) and message.applied is None):
            session.take(message)
    (path,) = tmp_path.glob("*.mcap")
    episode = recording.load(path).episode
    assert episode.length == STEPS - 1
    assert episode.end is End.TRUNCATED
    assert episode.labels[INCOMPLETE] == "the last steps never came"


def test_an_episode_opened_over_another_closes_it_as_incomplete(tmp_path):
    session = Session(tmp_path, lambda *_: None)
    for message in itertools.islice(messages(), 10):
        session.take(message)
    for message in messages(generation=3):
        session.take(message)
    first, second = sorted(tmp_path.glob("*.mcap"))
    assert INCOMPLETE in recording.load(first).episode.labels
    assert recording.load(second).episode.length == STEPS


def test_messages_of_no_open_episode_are_counted_and_not_recorded(tmp_path):
    session = Session(tmp_path, lambda *_: None)
    for message in itertools.islice(messages(), 1, None):
        session.take(message)
    assert session.unclaimed == STEPS + 1
    assert list(tmp_path.iterdir()) == []


def test_repair_makes_a_recording_of_a_partial_one(tmp_path):
    session = Session(tmp_path, lambda *_: None)
    for message in itertools.islice(messages(), 20):
        session.take(message)
    session.flush()
    (partial,) = tmp_path.glob("*.partial")
    notes = []
    assert not recover(partial, notes.append)  # the recorder lives
    assert "left alone" in notes[0]
    session.abandon()
    assert repair(tmp_path, note=notes.append) == 1
    (path,) = tmp_path.glob("*.mcap")
    episode = recording.load(path).episode
    assert episode.length == 16  # 17 steps had come
    assert episode.labels[INCOMPLETE] == "the recorder died"
    with path.open("rb") as file:
        assert make_reader(file).get_summary().statistics.message_count > 0
    assert len(list(tmp_path.glob("*.recovered"))) == 1
    assert repair(tmp_path) == 0


def test_a_partial_recording_without_a_step_is_set_aside_too(tmp_path):
    session = Session(tmp_path, lambda *_: None)
    session.take(opened())
    session.abandon()
    assert repair(tmp_path) == 1
    assert [p.suffix for p in tmp_path.iterdir()] == [".recovered"]


def test_recordings_become_a_segment(saved, tmp_path):
    notes = []
    result = ingest(Source(saved.parent), tmp_path / "data", note=notes.append)
    assert notes == []
    dataset = open_dataset(tmp_path / "data")
    assert dataset.spec == SPEC
    assert [item.length for item in dataset.episodes] == [STEPS]
    assert result.episodes == 1
    assert dataset.episode(0).frames["front"].jpeg[0][:2] == b"\xff\xd8"
    assert dataset.episode(0).reward is None


def test_what_is_no_recording_is_one_sentence(tmp_path):
    bad = tmp_path / "bad.mcap"
    bad.write_bytes(b"\x89MCAP0\r\n" + bytes(100))
    with pytest.raises(FormatError, match="found no record of an episode"):
        recording.load(bad)
    (tmp_path / "bad.txt").write_text("hello")
    with pytest.raises(FormatError, match="cannot tell which"):
        ingest(Source(tmp_path / "bad.txt"), tmp_path / "data")


def test_two_episodes_of_one_moment_get_two_files(tmp_path):
    writers = [RecordingWriter(tmp_path, opened()) for _ in range(2)]
    assert len({writer.close(closed()) for writer in writers}) == 2


def test_a_full_disk_leaves_a_partial_recording(tmp_path, monkeypatch):
    session = Session(tmp_path, lambda *_: None)
    session.take(opened())
    session.take(step(0))
    session.take(step(1))
    session.flush()

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    session.take(step(2))
    with pytest.raises(OSError, match="No space left"):
        session.flush()
    session.abandon()
    monkeypatch.undo()
    assert repair(tmp_path) == 1
    (path,) = tmp_path.glob("*.mcap")
    assert recording.load(path).episode.length >= 1
