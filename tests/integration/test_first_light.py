"""The verbs, one after another, on real logs: from CSV files to a recorded twin."""

from __future__ import annotations

import subprocess
import sys

import pytest

from robostack import bundle, cli
from robostack.data.dataset import open_dataset

pytestmark = [pytest.mark.alone, pytest.mark.timeout(240)]
WORLD = "sim:double_pendulum"


def robostack(*words):
    """Run one command in this process; return its exit code."""
    return cli.main([str(word) for word in words])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("acrobot")


@pytest.fixture(scope="module")
def logs(shared_data, folder):
    source = shared_data / "dfki_acrobot" / "ilqr_tvlqr_lqr"
    assert (
        robostack("data", "import", source, "--dataset", folder / "d", "--robot", WORLD)
        == 0
    )
    assert robostack("data", "label", folder / "d", "--task", WORLD, "swing_up") == 0
    return folder / "d"


@pytest.fixture(scope="module")
def policy(logs, folder):
    words = ["--dataset", logs, "--run", folder / "r", "--recipe", "robot"]
    assert robostack("train", "iql", *words, "--steps", 60) == 0
    assert robostack("export", folder / "r", folder / "p.onnx") == 0
    return folder / "p.onnx"


@pytest.fixture
def endpoint(folder, policy):
    where = f"ipc://{folder}/node"
    command = [sys.executable, "-m", "robostack.cli", "serve", WORLD, "--bind", where]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as node:
        yield where
        node.terminate()
        assert node.wait(20) == 0


def test_ten_real_runs_become_a_labelled_dataset(logs, capsys):
    dataset = open_dataset(logs)
    assert len(dataset) == 10
    assert dataset.labellers() == ["double_pendulum/swing_up"]
    assert robostack("data", "inspect", logs, "--verify") == 0
    assert "10 (0 terminated, 10 truncated" in " ".join(capsys.readouterr().out.split())


def test_rewards_are_not_written_over_by_accident(logs, capsys):
    assert robostack("data", "label", logs, "--task", WORLD, "swing_up") == 1
    assert "error:" in capsys.readouterr().err


def test_the_bundle_carries_where_it_came_from(policy, logs):
    made = bundle.read(policy).manifest.provenance
    assert made.dataset_digest == open_dataset(logs).digest
    assert (made.algorithm, made.steps, made.seed) == ("iql", 60, 0)


def test_verify_names_what_differs_on_another_robot(policy, capsys):
    assert robostack("bundle", "verify", policy, "--robot", WORLD) == 0
    assert robostack("bundle", "verify", policy, "--robot", f"{WORLD}/pendubot") == 1
    words = " ".join(capsys.readouterr().out.split())
    assert "'elbow' here and 'shoulder' there" in words


def test_it_drives_the_twin_over_zmq_and_the_recording_is_a_dataset_again(
    policy, endpoint, folder, capsys
):
    words = ["--robot", endpoint, "--wait", 30, "--task", "swing_up", "--steps", 40]
    recordings = folder / "recordings"
    assert robostack("run", policy, *words, "--record", recordings) == 0
    assert "40 steps" in capsys.readouterr().out
    assert robostack("data", "import", recordings, "--dataset", folder / "d2") == 0
    recorded = open_dataset(folder / "d2")
    assert [item.length for item in recorded.episodes] == [40]
    assert recorded.spec == open_dataset(folder / "d").spec
    assert recorded.episodes[0].labels["task"] == "swing_up"


def test_a_node_refuses_a_bundle_of_another_robot_with_the_difference(
    policy, tmp_path, capsys
):
    where = f"ipc://{tmp_path}/node"
    other = f"{WORLD}/pendubot"
    command = [sys.executable, "-m", "robostack.cli", "serve", other, "--bind", where]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as node:
        try:
            assert robostack("run", policy, "--robot", where, "--wait", 30) == 1
        finally:
            node.terminate()
    words = " ".join(capsys.readouterr().err.split())
    assert "action: element 0 is 'elbow' here and 'shoulder' there" in words


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["data", "inspect", "nowhere"], "expected a dataset at nowhere"),
        (["data", "import", "nowhere", "--dataset", "d"], "found no nowhere"),
        (["export", "nowhere", "p.onnx"], "expected a run at nowhere"),
        (["bundle", "show", "nowhere.onnx"], "could not read nowhere.onnx"),
        (["serve", "sim:pendulm"], "did you mean 'pendulum'"),
        (["serve", "pendulum"], "expected sim:WORLD or hardware:ROBOT"),
        (["serve", "hardware:fake", "--bind", "tcp://0.0.0.0:5599"], "keys"),
        (["stop", "ipc:///nowhere/at/all"], "NOT STOPPED"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_1(
    words, sentence, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert robostack(*words) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert sentence in said
    assert "Traceback" not in said
    assert not list(tmp_path.iterdir())
