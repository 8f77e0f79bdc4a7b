"""Whoever is killed, all finished episodes are there."""

import os
import queue
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import zmq
from data_examples import SPEC, assert_same, make_episode

from robostack.data import recording
from robostack.data.dataset import create, open_dataset
from robostack.data.repair import repair
from robostack.messages import Closed, Opened, Step, Tensor, encode
from robostack.node.recorder import record
from robostack.node.recorder_process import RecorderDiedError, RecorderProcess
from robostack.spec import float32

pytestmark = pytest.mark.alone

WRITER = """
import itertools, sys
sys.path.insert(0, sys.argv[2])
from data_examples import make_episode
from robostack.data.dataset import open_dataset
dataset = open_dataset(sys.argv[1])
for seed in itertools.count(len(dataset)):
    dataset.append([make_episode(300, seed, frames={})], {})
    print(seed, flush=True)
"""


def start_writer(path):
    here = str(__file__).rpartition("/integration/")[0]
    command = [sys.executable, "-c", WRITER, str(path), here]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_writer_killed_at_any_moment_loses_no_finished_episode(tmp_path):
    path = create(tmp_path / "data", SPEC).path
    moments = random.Random(0)
    for _ in range(6):
        writer = start_writer(path)
        last = int(writer.stdout.readline())
        time.sleep(moments.uniform(0.0, 0.08))
        writer.send_signal(signal.SIGKILL)
        rest = writer.stdout.read().split()
        writer.stdout.close()
        writer.wait()
        last = int(rest[-1]) if rest else last
        dataset = open_dataset(path)
        assert len(dataset) in (last + 1, last + 2)  # renamed, and not yet said
        assert dataset.verify() == []
    for i, episode in enumerate(dataset):
        assert_same(episode, make_episode(300, i, frames={}))
    repair(path)
    assert open_dataset(path).leftovers() == []
    assert len(open_dataset(path)) == len(dataset)


FULL = """
import resource, signal, sys
sys.path.insert(0, sys.argv[2])
from data_examples import make_episode
from robostack.data.dataset import DatasetError, open_dataset
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
try:
    open_dataset(sys.argv[1]).append([make_episode(5000, 1)], {})
except DatasetError as error:
    sys.exit(str(error))
"""


def test_a_write_that_the_system_refuses_leaves_the_dataset_whole(tmp_path):
    dataset = create(tmp_path / "data", SPEC)
    dataset.append([make_episode()], {})
    here = str(__file__).rpartition("/integration/")[0]
    command = [sys.executable, "-c", FULL, str(dataset.path), here]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "nothing was added" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(open_dataset(dataset.path)) == 1
    assert open_dataset(dataset.path).leftovers() == []


class FakeNode:
    """Publishes episodes as a node would, one step every millisecond."""

    def __init__(self, folder):
        self.endpoint = f"ipc://{folder}/node"
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PUB)
        self._socket.setsockopt(zmq.SNDHWM, 0)
        self._socket.setsockopt(zmq.HEARTBEAT_IVL, 1000)
        self._socket.bind(f"{self.endpoint}.watch")
        self.generation = 0

    def send(self, message):
        self._socket.send(encode(message))

    def begin(self):
        self.generation += 1
        labels = {"number": str(self.generation)}
        fields = ("sim:arm", SPEC, "test", "", None, labels)
        self.send(Opened(self.generation, 0.0, time.time_ns(), *fields))

    def step(self, seq, *, last=False):
        arrays = {
            "position": Tensor.pack(float32([seq, 1])),
            "force": Tensor.pack(float32([2])),
        }
        action = None if last else Tensor.pack(float32([seq, -seq]))
        happened = (arrays, {}, action, action, (), 0.0, False)
        self.send(Step(self.generation, seq, 0.1 * seq, *happened, {}))

    def end(self, steps):
        self.step(steps, last=True)
        self.send(Closed(self.generation, 0.1 * steps, True, "done", steps, 0, 0, {}))

    def episode(self, steps=50):
        self.begin()
        for seq in range(steps):
            self.step(seq)
            time.sleep(0.001)
        self.end(steps)

    def close(self):
        self._socket.close(0)
        self._context.term()


@pytest.fixture
def node(tmp_path):
    fake = FakeNode(tmp_path)
    yield fake
    fake.close()


def test_the_recorder_misses_no_message_once_it_is_ready(node, tmp_path):
    with RecorderProcess(node.endpoint, tmp_path / "r") as recorder:
        recorder.wait_ready(20.0)
        for _ in range(3):
            node.episode()
            episode = recording.load(recorder.wait_saved(10.0)).episode
            assert episode.length == 50
            assert episode.labels["missed"] == "0"
            assert episode.labels["number"] == str(node.generation)
    assert len(recorder.saved) == 3


def test_sigterm_closes_the_open_recording_properly(node, tmp_path):
    with RecorderProcess(node.endpoint, tmp_path / "r") as recorder:
        recorder.wait_ready(20.0)
        node.begin()
        for seq in range(20):
            node.step(seq)
        time.sleep(0.2)  # for the messages to arrive
    assert recorder.stop() == 0
    (path,) = recorder.saved
    episode = recording.load(path).episode
    assert episode.length == 19
    assert episode.labels["incomplete"] == "the recorder was stopped"


def test_the_end_of_an_episode_that_comes_after_sigterm_is_recorded(node, tmp_path):
    with RecorderProcess(node.endpoint, tmp_path / "r") as recorder:
        recorder.wait_ready(20.0)
        os.kill(recorder.pid, signal.SIGTERM)
        time.sleep(0.1)  # on a busy computer, messages are that late
        node.begin()
        for seq in range(20):
            node.step(seq)
        time.sleep(0.1)
        node.end(20)
    (path,) = recorder.saved
    episode = recording.load(path).episode
    assert episode.length == 20
    assert "incomplete" not in episode.labels


def test_a_recorder_told_to_stop_does_not_wait_for_an_episode_that_goes_on(
    node, tmp_path
):
    with RecorderProcess(node.endpoint, tmp_path / "r") as recorder:
        recorder.wait_ready(20.0)
        node.begin()
        os.kill(recorder.pid, signal.SIGTERM)
        deadline = time.monotonic() + 10
        for seq in range(1000):
            node.step(seq)
            time.sleep(0.01)
            assert time.monotonic() < deadline
            if not recorder.alive:
                break
    (path,) = recorder.saved
    assert recording.load(path).episode.labels["incomplete"]


def test_a_killed_recorder_loses_no_finished_episode_and_a_moment_of_the_open(
    node, tmp_path
):
    folder = tmp_path / "r"
    with RecorderProcess(node.endpoint, folder) as recorder:
        recorder.wait_ready(20.0)
        node.episode()
        recorder.wait_saved(10.0)
        node.begin()
        for seq in range(60):  # far less than fills a chunk
            node.step(seq)
            time.sleep(0.02)
        recorder._process.kill()
        with pytest.raises(RecorderDiedError, match="exited with status -9"):
            recorder.wait_saved(10.0)
        assert not recorder.alive
    assert repair(folder) == 1
    whole, rescued = (recording.load(p).episode for p in sorted(folder.glob("*.mcap")))
    assert whole.length == 50
    assert whole.end.value == "terminated"
    assert rescued.length > 20
    assert rescued.labels["incomplete"] == "the recorder died"


def test_a_recorder_that_cannot_write_says_so_and_exits_with_1(node, tmp_path):
    (tmp_path / "file").write_text("")
    with RecorderProcess(node.endpoint, tmp_path / "file" / "r") as recorder:
        with pytest.raises(RecorderDiedError, match="status 1: cannot record into"):
            recorder.wait_ready(20.0)
        assert recorder.stop() == 1


def test_a_full_disk_stops_the_recorder_with_one_sentence(node, tmp_path):
    def small():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))

    command = [sys.executable, "-m", "robostack.node.recorder", node.endpoint]
    process = subprocess.Popen(
        [*command, str(tmp_path / "r")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=small,  # noqa: PLW1509 (no threads here)
    )
    assert process.stdout.readline() == "ready\n"
    node.begin()
    deadline = time.monotonic() + 20.0
    seq = 0
    while process.poll() is None and time.monotonic() < deadline:
        node.step(seq)
        seq += 1
        time.sleep(0.0005)
    _, said = process.communicate(timeout=10.0)
    assert process.returncode == 1
    assert said.startswith("cannot record into")
    assert said.count("\n") == 1
    assert repair(tmp_path / "r") == 1
    (path,) = (tmp_path / "r").glob("*.mcap")
    assert recording.load(path).episode.length > 10


@pytest.mark.slow
def test_a_disk_that_stalls_for_longer_than_a_heartbeat_loses_nothing(
    node, tmp_path, monkeypatch
):
    sync, stalls = os.fsync, [4.5]

    def slow(descriptor):
        time.sleep(stalls.pop() if stalls else 0.0)
        sync(descriptor)

    said = queue.SimpleQueue()
    done = threading.Event()
    recorder = threading.Thread(
        target=record,
        args=(node.endpoint, tmp_path / "r"),
        kwargs={"say": lambda *words: said.put(words), "stopped": done.is_set},
    )
    recorder.start()
    assert said.get(timeout=10.0)[0] == "ready"
    monkeypatch.setattr(os, "fsync", slow)
    node.episode(5000)
    assert said.get(timeout=10.0)[0] == "recording"
    path = Path(said.get(timeout=30.0)[1])
    done.set()
    recorder.join()
    assert recording.load(path).episode.length == 5000
