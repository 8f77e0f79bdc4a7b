"""`robostack run` and `record` as they are typed."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from author_bench import linear_bundle
from robot_examples import LockstepFake
from test_permutation import MANY, Many, elementwise, gains, shuffled

from robostack.cli import main
from robostack.hardware.fake.driver import FakeRobot
from robostack.hardware.fake.joints import SPEC
from robostack.node.embedded import embedded

pytestmark = pytest.mark.alone


def test_run_reports_every_cycle(tmp_path, capsys):
    linear_bundle(SPEC, tmp_path / "p.onnx")
    timing = tmp_path / "t.json"
    words = ["run", str(tmp_path / "p.onnx"), "--episodes", "2", "--steps", "20"]
    with embedded(LockstepFake(), lockstep=True) as node:
        words += ["--robot", node.endpoint, "--json", "--timing", str(timing)]
        assert main(words) == 0
    printed = msgspec.json.decode(capsys.readouterr().out)
    written = msgspec.json.decode(timing.read_bytes())
    assert printed == written["summary"]
    assert printed["steps"] == [20, 20]
    assert printed["held"] == ["", ""]
    for name in ("period_s", "inference_s", "age_s", "reply_s"):
        spread = printed[name]
        assert spread["count"] == 40
        assert sum(spread["histogram"]["counts"]) == 40
        assert spread["p50"] <= spread["p99"] <= spread["max"]
        assert [len(e[name]) for e in written["episodes"]] == [20, 20]


def test_run_says_what_it_adapted(tmp_path, capsys):
    other = shuffled(MANY, np.random.default_rng(0))
    elementwise(other, tmp_path / "p.onnx", gains(MANY))
    with embedded(Many(), lockstep=True) as node:
        words = [str(tmp_path / "p.onnx"), "--robot", node.endpoint, "--steps", "5"]
        assert main(["run", *words]) == 0
    assert "adapted to the node's order: action: the same names" in " ".join(
        capsys.readouterr().out.split()
    )


def test_a_run_whose_episode_the_node_ended_says_so_and_fails(tmp_path, capsys):
    linear_bundle(SPEC, tmp_path / "p.onnx")
    words = ["run", str(tmp_path / "p.onnx"), "--steps", "200"]
    with embedded(FakeRobot()) as node:  # nothing is ever in time
        words += ["--robot", node.endpoint, "--deadline", "1e-9"]
        assert main(words) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "readings without an action" in out
    assert "the node went to hold: no fresh command" in out


def test_record_wants_a_node_in_real_time(capsys):
    with embedded(LockstepFake(), lockstep=True) as node:
        assert main(["record", node.endpoint]) == 1
    assert "expected a node in real time" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("who", ["keyboard", "joystick"])
def test_an_operator_that_is_not_there_is_one_sentence(who, capsys, tmp_path):
    linear_bundle(SPEC, tmp_path / "p.onnx")
    words = ["run", str(tmp_path / "p.onnx"), "--intervene", who]
    with embedded(LockstepFake(), lockstep=True) as node:
        assert main([*words, "--robot", node.endpoint]) == 1
    assert "error: expected" in capsys.readouterr().err
