"""A run that stopped ends as if it never had; test_training_killed.py kills them."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from robostack.data.dataset import create, open_dataset
from robostack.data.episode import End, Episode
from robostack.learner import LearnerError
from robostack.spec import ArraySpec, RobotSpec, float32
from robostack.training import checkpoint, curves, offline, recipe
from robostack.training.run import CHECKPOINTS, RunError, load_run, read

SPEC = RobotSpec(
    name="two_joints",
    control_period_s=0.02,
    command_timeout_s=0.1,
    control="position",
    tracks="joint_position",
    observation={
        "joint_position": ArraySpec.uniform(("hip", "knee"), "rad", -3.0, 3.0),
        "joint_velocity": ArraySpec.uniform(("hip", "knee"), "rad/s", -9.0, 9.0),
    },
    cameras={},
    action=ArraySpec.uniform(("hip", "knee"), "rad", -2.0, 2.0),
    home=(0.0, 0.0),
    max_action_step=(0.1, 0.1),
    conventions={},
)
CHANGES = ["steps=300", "batch_size=16", "hidden=[16]", "dropout=0.1"]
OPTIONS = offline.Options(seed=4, checkpoint_every=40, report_every=20)


def episode(seed, steps=30):
    rng = np.random.default_rng(seed)
    position = float32(np.cumsum(rng.normal(0, 0.05, (steps + 1, 2)), axis=0))
    velocity = np.gradient(position, 0.02, axis=0).astype(np.float32)
    return Episode(
        observation={"joint_position": position, "joint_velocity": velocity},
        action=position[1:],
        requested=position[1:],
        time_s=np.arange(steps + 1) * 0.02,
        end=End.TERMINATED if seed % 2 else End.TRUNCATED,
        reward=float32(-np.abs(position[1:]).sum(1)),
        truth={},
        frames={},
        labels={},
    )


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    dataset = create(tmp_path_factory.mktemp("data") / "set", SPEC)
    dataset.append([episode(seed) for seed in range(8)], {"source": "a test"})
    return dataset


@pytest.fixture(params=["iql", pytest.param("bc", marks=pytest.mark.slow)])
def plan(request):
    return recipe.read(request.param, "", CHANGES)


def train(dataset, folder, plan, on_progress=lambda _: None, **changes):
    options = {name: getattr(OPTIONS, name) for name in OPTIONS.__struct_fields__}
    options = offline.Options(**options | changes)
    return offline.train(dataset, folder, plan, options, on_progress)


def final(folder):
    """Return everything that a run ended with."""
    newest = checkpoint.newest(folder / CHECKPOINTS)
    return newest, (folder / "metrics.jsonl").read_bytes()


class StopError(Exception):
    pass


def test_a_stopped_run_ends_as_if_it_never_had(dataset, plan, tmp_path):
    def stop(progress):
        if progress.step >= 130:
            raise StopError

    assert train(dataset, tmp_path / "straight", plan).finished
    with pytest.raises(StopError):
        train(dataset, tmp_path / "stopped", plan, stop)
    assert checkpoint.newest(tmp_path / "stopped" / CHECKPOINTS).step == 120
    outcome = train(dataset, tmp_path / "stopped", plan, resume=True)
    assert (outcome.step, outcome.finished) == (300, True)
    assert final(tmp_path / "straight") == final(tmp_path / "stopped")


SCRIPT = """
import sys
from pathlib import Path
from robostack.data.dataset import open_dataset
from robostack.training import offline, recipe

folder, data, algorithm, stream, *changes = sys.argv[1:]
options = offline.Options(
    seed=4, checkpoint_every=40, report_every=20, resume=True, stream=stream == "True"
)
plan = recipe.read(algorithm, "", changes)
print("go", flush=True)
offline.train(open_dataset(data), Path(folder), plan, options)
"""


def start(dataset, folder, algorithm, stream="False"):
    about = [folder, dataset.path, algorithm, stream]
    command = [sys.executable, "-c", SCRIPT, *about, *CHANGES]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"go\n"
    process.stdout.close()
    return process


@pytest.mark.slow
def test_streaming_ends_with_the_weights_of_memory_killed_or_not(dataset, tmp_path):
    plan = recipe.read("iql", "", CHANGES)
    train(dataset, tmp_path / "held", plan, stream=False)
    folder = tmp_path / "killed"
    process = start(dataset, folder, "iql", stream="True")
    while checkpoint.newest(folder / CHECKPOINTS) is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()

    def interrupt(progress):
        if progress.step == 200:
            os.kill(os.getpid(), signal.SIGINT)

    train(dataset, folder, plan, interrupt, resume=True, stream=True)
    assert train(dataset, folder, plan, resume=True, stream=True).finished
    assert final(tmp_path / "held") == final(folder)
    assert not [t for t in threading.enumerate() if t.name.startswith("prefetch")]


def test_ctrl_c_leaves_a_checkpoint_of_that_moment(dataset, plan, tmp_path):
    def interrupt(progress):
        if progress.step == 50:
            os.kill(os.getpid(), signal.SIGINT)

    outcome = train(dataset, tmp_path / "run", plan, interrupt)
    assert (outcome.step, outcome.finished) == (50, False)
    newest = checkpoint.newest(tmp_path / "run" / CHECKPOINTS)
    assert newest.step == outcome.step
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    train(dataset, tmp_path / "straight", plan)
    train(dataset, tmp_path / "run", plan, resume=True)
    assert final(tmp_path / "straight") == final(tmp_path / "run")


def test_a_run_says_what_it_follows_from(dataset, tmp_path):
    plan = recipe.read("iql", "locomotion", CHANGES)
    train(dataset, tmp_path, plan)
    run = read(tmp_path)
    assert run.recipe == plan
    assert run.config["dropout"] == 0.1
    assert run.config["expectile"] == 0.7
    assert run.data.digest == dataset.digest
    assert run.robot == SPEC
    assert run.seed == 4
    returns = [e.reward.sum(dtype=np.float64) for e in dataset]
    scale = 1000.0 / (max(returns) - min(returns))
    assert run.data.reward_scale == pytest.approx(scale)
    assert run.data.return_high - run.data.return_low == pytest.approx(1000.0, rel=1e-5)
    assert run.versions["torch"]


def test_load_run_gives_the_policy_of_the_last_checkpoint(dataset, plan, tmp_path):
    train(dataset, tmp_path, plan)
    learner = load_run(tmp_path)
    assert learner.state() == checkpoint.newest(tmp_path / CHECKPOINTS).learner


def test_what_is_logged_are_numbers_at_the_steps_asked_for(dataset, plan, tmp_path):
    train(dataset, tmp_path, plan)
    lines = curves.read(tmp_path)
    assert [line["step"] for line in lines] == list(range(20, 301, 20))
    assert all(np.isfinite(list(line.values())).all() for line in lines)


def test_progress_reaches_the_end(dataset, plan, tmp_path):
    seen = []
    train(dataset, tmp_path, plan, seen.append)
    assert (seen[-1].step, seen[-1].steps) == (300, 300)
    assert seen[-1].updates_per_s > 0


def test_a_run_is_not_written_over(dataset, plan, tmp_path):
    train(dataset, tmp_path, plan)
    before = final(tmp_path)
    with pytest.raises(RunError, match="resume"):
        train(dataset, tmp_path, plan)
    assert final(tmp_path) == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("steps=400", "recipe.steps was 300, now 400"),
        ("dropout=0.2", "config.dropout was 0.1, now 0.2"),
        ("gamma=0.9", "recipe.gamma was 0.99, now 0.9"),
    ],
)
def test_a_run_resumes_with_its_own_settings_only(dataset, tmp_path, change, words):
    train(dataset, tmp_path, recipe.read("iql", "", CHANGES))
    other = recipe.read("iql", "", [*CHANGES, change])
    with pytest.raises(RunError, match=words):
        train(dataset, tmp_path, other, resume=True)


def test_a_run_resumes_with_its_own_data_only(dataset, plan, tmp_path):
    train(dataset, tmp_path / "run", plan)
    grown = create(tmp_path / "grown", SPEC)
    grown.append([episode(seed) for seed in range(9)], {"source": "a test"})
    with pytest.raises(RunError, match=r"data\.digest was"):
        train(grown, tmp_path / "run", plan, resume=True)


def test_resuming_what_is_finished_changes_nothing(dataset, plan, tmp_path):
    train(dataset, tmp_path, plan)
    before = final(tmp_path)
    assert train(dataset, tmp_path, plan, resume=True).finished
    assert final(tmp_path) == before


def test_divergence_is_an_error_and_the_checkpoint_before_stays(dataset, tmp_path):
    plan = recipe.read("iql", "", [*CHANGES, "learning_rate=1e30"])
    with pytest.raises(LearnerError, match="diverged by step 20"):
        train(dataset, tmp_path, plan)
    with pytest.raises(RunError, match="found none yet"):
        load_run(tmp_path)


def test_cloning_needs_no_rewards(tmp_path):
    bare = create(tmp_path / "set", SPEC)
    bare.append([episode(0)._replace(reward=None)], {"source": "a test"})
    train(bare, tmp_path / "bc", recipe.read("bc", "", CHANGES))
    with pytest.raises(ValueError, match="expected rewards by 'logged'"):
        train(bare, tmp_path / "iql", recipe.read("iql", "", CHANGES))


@pytest.mark.parametrize("content", ["", "{", json.dumps({"version": 1})])
def test_a_damaged_description_is_refused(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(RunError, match=r"run\.json cannot be read"):
        load_run(tmp_path)


def test_a_folder_without_a_run_is_refused():
    with pytest.raises(RunError, match="expected a run at nowhere"):
        load_run(Path("nowhere"))


def test_evaluation_is_on_schedule_and_changes_nothing(tmp_path):
    """Training with evaluations ends with the weights of training without."""
    spec = __import__("robostack.plugins").plugins.load("sim", "pendulum").spec("")
    rng = np.random.default_rng(0)
    steps = 40
    dataset = create(tmp_path / "set", spec)
    observation = {
        name: float32(rng.uniform(-1, 1, (steps + 1, array.size)))
        for name, array in spec.observation.items()
    }
    action = float32(rng.uniform(-1, 1, (steps, spec.action.size)))
    dataset.append(
        [
            Episode(
                observation,
                action,
                action,
                np.arange(steps + 1) * spec.control_period_s,
                End.TRUNCATED,
                float32(np.ones(steps)),
                {},
                {},
                {},
            )
        ],
        {"source": "a test"},
    )
    changes = ["steps=60", "hidden=[16]", "evaluate_every=40", "evaluate_episodes=1"]
    plan = recipe.read("iql", "", changes)
    train(dataset, tmp_path / "without", plan)
    outcome = train(dataset, tmp_path / "with", plan, world="sim:pendulum")
    evaluated = [
        line["step"]
        for line in curves.read(tmp_path / "with")
        if "evaluation/return" in line
    ]
    assert evaluated == [40, 60]
    assert np.isfinite(outcome.evaluation["evaluation/return"])
    states = [load_run(tmp_path / name).state() for name in ("with", "without")]
    assert states[0] == states[1]


def test_a_world_of_another_robot_is_refused_before_anything_is_made(dataset, tmp_path):
    plan = recipe.read("iql", "", CHANGES)
    with pytest.raises(ValueError, match="expected a world of the data's robot"):
        train(dataset, tmp_path / "run", plan, world="sim:pendulum")
    assert not (tmp_path / "run").exists()


def test_the_dataset_can_be_opened_again_meanwhile(dataset, plan, tmp_path):
    train(open_dataset(dataset.path), tmp_path, plan)
    assert read(tmp_path).data.digest == dataset.digest
