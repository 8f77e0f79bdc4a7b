"""The keys at a node's terminal: what each does, and that no pipe has them."""

import os

import pytest
from node_bench import Bench

from robostack.messages import Event, Reading, Refusal
from robostack.node.keyboard import keyboard
from robostack.node.loops import Node
from robostack.node.terminal import Desk


class AtDesk(Bench):
    """A bench with somebody at its terminal."""

    def __init__(self) -> None:
        super().__init__()
        node = Node(self.supervisor, self.pilot, self.service, self.journal)
        self.said, self.ended = [], []
        self.desk = Desk(node, lambda: self.ended.append(True), self.said.append)

    def press(self, keys):
        for key in keys:
            self.desk.press(key)
        return self.machine.state


@pytest.fixture
def bench():
    return AtDesk()


@pytest.mark.parametrize("key", [" ", "s"])
def test_a_key_stops_an_episode_and_latches(bench, key):
    bench.begin()
    assert bench.press(key) == "estop"
    assert "at the node's terminal" in bench.machine.cause
    assert bench.begin().code == "state"


def test_clearing_shows_the_cause_and_asks(bench):
    bench.supervisor.leave("fault", "no answer from servo 3")
    assert bench.press("c") == "fault"
    assert "fault: no answer from servo 3" in bench.said[-1]
    assert bench.press("y") == "hold"
    assert isinstance(bench.begin(), Reading)


@pytest.mark.parametrize("keys", ["cn", "cc", "c\n", "y", "cqy", "cdy"])
def test_nothing_but_an_acknowledgement_clears(bench, keys):
    bench.supervisor.leave("fault", "no answer from servo 3")
    assert bench.press(keys) == "fault"
    assert bench.ended == []


def test_what_happens_after_the_question_is_not_acknowledged(bench):
    bench.supervisor.leave("fault", "no answer from servo 3")
    bench.press("c")
    bench.supervisor.leave("estop", "stopped by 'me'")
    assert bench.press("y") == "estop"
    assert "something else happened" in bench.said[-1]


@pytest.mark.parametrize("key", [" ", "s"])
def test_a_stop_is_a_stop_in_the_middle_of_a_question(bench, key):
    bench.supervisor.leave("fault", "no answer from servo 3")
    assert bench.press("c" + key) == "estop"


def test_who_cleared_what_is_in_the_journal(bench):
    bench.supervisor.leave("fault", "no answer from servo 3")
    bench.press("cy")
    (event,) = [e for e in bench.watcher.of(Event) if e.kind == "cleared"]
    assert event.text.startswith("fault: no answer from servo 3; acknowledged by ")
    assert event.text.endswith("at the node's terminal")


def test_without_a_latch_there_is_nothing_to_clear(bench):
    assert bench.press("cy") == "hold"
    assert "nothing to clear" in bench.said[0]


def test_a_disabled_node_opens_no_episode_until_it_is_enabled_here(bench):
    bench.begin()
    assert bench.press("d") == "disabled"
    refusal = bench.begin()
    assert isinstance(refusal, Refusal)
    assert "disabled by" in refusal.sentence
    assert bench.press("d") == "hold"
    assert isinstance(bench.begin(), Reading)


def test_disabling_clears_no_latch(bench):
    bench.supervisor.leave("estop", "stopped")
    assert bench.press("dd") == "estop"


def test_q_ends_and_other_keys_help(bench):
    bench.press("x")
    assert "SPACE" in bench.said[-1]
    bench.press("q")
    assert bench.ended == [True]


def test_a_pipe_has_no_keys():
    reader, writer = os.pipe()
    with keyboard(reader) as keys:
        assert keys is None
    with keyboard(-1) as keys:
        assert keys is None
    os.close(reader)
    os.close(writer)


def test_keys_come_without_a_line_and_the_terminal_is_as_before():
    import termios

    ours, theirs = os.openpty()
    before = termios.tcgetattr(theirs)
    with keyboard(theirs) as keys:
        assert keys(0.0) == ""
        os.write(ours, b"s")
        assert keys(5.0) == "s"
    assert termios.tcgetattr(theirs) == before
    os.close(ours)
    os.close(theirs)
