"""Facts about reading ahead: nobody can tell it from drawing one by one."""

import threading
import time

import numpy as np
import pytest
from data_examples import SPEC, make_episode

from robostack.data.dataset import create
from robostack.data.replay import Replay
from robostack.training.prefetch import AHEAD, batches


@pytest.fixture
def replay(tmp_path):
    dataset = create(tmp_path / "data", SPEC)
    dataset.append([make_episode(50, seed) for seed in range(4)], {})
    return Replay.from_dataset(dataset, stream=True)


def alive():
    return [t for t in threading.enumerate() if t.name.startswith("prefetch")]


def same(a, b):
    return all(
        x is y is None or x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True)
    )


def test_batches_come_in_the_order_they_would_have_been_drawn(replay, monkeypatch):
    gather, delay = replay.gather, np.random.default_rng(0)

    def slow(drawn):
        time.sleep(delay.uniform(0.0, 0.01))
        return gather(drawn)

    plain = np.random.default_rng(3)
    expected = [replay.sample(plain, 8) for _ in range(20)]
    monkeypatch.setattr(replay, "gather", slow)
    with batches(replay, np.random.default_rng(3), 8) as draw:
        assert all(same(draw(), batch) for batch in expected)
    assert not alive()


def test_the_generator_is_where_the_batches_handed_out_left_it(replay):
    rng, plain = np.random.default_rng(3), np.random.default_rng(3)
    with batches(replay, rng, 8) as draw:
        for _ in range(2 * AHEAD):
            assert rng.bit_generator.state == plain.bit_generator.state
            draw()
            replay.sample(plain, 8)
    assert rng.bit_generator.state == plain.bit_generator.state


def test_what_a_thread_cannot_read_is_raised_where_it_is_asked_for(replay, monkeypatch):
    gather, count = replay.gather, iter(range(99))

    def failing(drawn):
        if next(count) == 5:
            raise OSError("the disk is gone")
        return gather(drawn)

    monkeypatch.setattr(replay, "gather", failing)

    def read():
        with batches(replay, np.random.default_rng(0), 8) as draw:
            for _ in range(2 * AHEAD):
                draw()

    with pytest.raises(OSError, match="the disk is gone"):
        read()
    assert not alive()


def test_the_threads_end_whatever_happens(replay):
    def interrupted():
        with batches(replay, np.random.default_rng(0), 8) as draw:
            draw()
            assert len(alive()) in range(1, AHEAD + 1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not alive()


def test_data_in_memory_needs_no_threads(tmp_path):
    dataset = create(tmp_path / "data", SPEC)
    dataset.append([make_episode(50)], {})
    replay = Replay.from_dataset(dataset, stream=False)
    with batches(replay, np.random.default_rng(0), 8) as draw:
        assert same(draw(), replay.sample(np.random.default_rng(0), 8))
        assert not alive()
