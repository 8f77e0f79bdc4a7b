"""Learning by acting: what is drawn, when updates come, and runs that never stopped."""

import os
import signal

import numpy as np
import pytest
import toy_world
from toy_training import CHANGES, OPTIONS, episode, final, make_dataset, train

pytest.importorskip("torch")

from robostack.data.dataset import create
from robostack.data.experience import FILE
from robostack.export import export_run
from robostack.learner import LearnerError
from robostack.spec import float32
from robostack.training import checkpoint, curves, offline, online, recipe, run
from robostack.training.evaluate import Arena, EvaluationError
from robostack.training.recipe import RecipeError
from robostack.training.run import CHECKPOINTS, RunError, load_run
from robostack.training.setting import simulator

CASES = {  # algorithm -> (settings, with a dataset)
    "sac": (["random_steps=5", "updates_per_step=0.7"], False),
    "rlpd": (["critics=3", "policy_period=2", "updates_per_step=3"], True),
    "cal_ql": (["samples=2"], True),
    "h2o": (["variant=h2o_plus", "copies=2"], True),
    "td3_bc": (["online_share=uniform", "replay_capacity=20"], True),
}


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    """Let every address lead to the toy world."""
    monkeypatch.setattr(online, "open_arena", toy_world.open_arena)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("data") / "set")


def plan_of(algorithm, *changes):
    return recipe.read(algorithm, "", [*CHANGES, *CASES[algorithm][0], *changes])


@pytest.mark.parametrize(
    "algorithm",
    [  # that they resume after SIGKILL is held for all by test_training_killed.py
        pytest.param(name, marks=[] if name in ("sac", "h2o") else pytest.mark.slow)
        for name in CASES
    ],
)
def test_an_interrupted_run_ends_as_if_it_never_had_been(dataset, tmp_path, algorithm):
    """Ctrl-C leaves a checkpoint of that moment, in the middle of an episode or not."""
    plan, data = plan_of(algorithm), dataset if CASES[algorithm][1] else None
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    assert train(straight, plan, data).finished
    moments = []
    for step in (10, 30, 40):

        def interrupt(progress, step=step):
            if progress.step == step:
                os.kill(os.getpid(), signal.SIGINT)

        outcome = train(stopped, plan, data, interrupt, resume=True)
        assert (outcome.step, outcome.finished) == (step, False)
        newest = checkpoint.newest(stopped / CHECKPOINTS)
        assert newest.step == step
        moments.append(newest.experience.rows % toy_world.HORIZON)
    assert algorithm == "cal_ql" or any(moments)
    assert train(stopped, plan, data, resume=True).finished
    assert final(straight) == final(stopped)


def test_updates_per_step_are_those_asked_for(tmp_path):
    for ratio, steps in ((0.5, 5 + 120), (1.0, 5 + 60), (4.0, 5 + 15)):
        folder = tmp_path / str(ratio)
        train(folder, plan_of("sac", f"updates_per_step={ratio}"))
        assert final(folder)[0].experience.rows == steps


def test_a_warm_up_is_of_the_policy_as_it_is_and_without_updates(tmp_path):
    """WSRL: until the first update the learner is that of the parent."""
    parent = tmp_path / "parent"
    train(parent, plan_of("sac"))
    before, seen = load_run(parent), []
    before.begin(before.state())

    def look(progress):
        seen.append((progress.step, progress.robot_steps))
        os.kill(os.getpid(), signal.SIGINT)

    changes = ["random_steps=0", "warmup_steps=70", "updates_per_step=1"]
    plan = plan_of("sac", *changes)
    train(tmp_path / "run", plan, None, look, parent=parent)
    assert seen == [(0, 50)]
    assert load_run(tmp_path / "run").state() == before.state()
    assert train(tmp_path / "run", plan, parent=parent, resume=True).finished
    assert final(tmp_path / "run")[0].experience.rows == 70 + 60
    first = curves.read(tmp_path / "run")[0]
    assert first["step"] == 0
    last = curves.read(parent)[-1]
    assert first["evaluation/return"] == last["evaluation/return"]


def test_what_a_recipe_does_not_say_is_as_in_the_parent(dataset, tmp_path):
    first = recipe.read("cal_ql", "", [*CHANGES, "samples=2", "critics=3", "gap=0.8"])
    offline.train(dataset, tmp_path / "off", first, OPTIONS)
    there = run.read(tmp_path / "off")
    inherited = run.heritage(there, "rlpd")
    plan = recipe.read("rlpd", "wsrl", ["steps=20", "warmup_steps=9"], inherited)
    assert (plan.config["critics"], plan.batch_size) == (3, 16)
    assert train(tmp_path / "on", plan, parent=tmp_path / "off").finished
    about = run.read(tmp_path / "on")
    assert about.online.parent.algorithm == "cal_ql"
    assert not about.online.dataset
    assert about.data == there.data


def test_a_parent_with_other_networks_is_refused(tmp_path):
    train(tmp_path / "parent", plan_of("sac"))
    with pytest.raises(LearnerError, match="another algorithm or configuration"):
        train(tmp_path / "r", plan_of("sac", "hidden=[8]"), parent=tmp_path / "parent")
    assert not (tmp_path / "r").exists()


def test_a_run_goes_on_in_its_own_world_and_from_its_own_parent_only(tmp_path):
    for name in ("one", "other"):
        train(tmp_path / name, plan_of("sac"), seed=len(name))
    train(tmp_path / "run", plan_of("sac"), parent=tmp_path / "one")
    other = tmp_path / "other"
    with pytest.raises(RunError, match=r"online\.parent was"):
        train(tmp_path / "run", plan_of("sac"), parent=other, resume=True)
    with pytest.raises(RunError, match=r"online\.dataset was|online\.parent was"):
        train(tmp_path / "run", plan_of("sac"), resume=True)


def test_the_first_steps_are_by_chance_and_updates_come_after_them(tmp_path):
    plan = plan_of("sac", "random_steps=40", "steps=1", "updates_per_step=1")
    train(tmp_path, plan)
    rows = np.fromfile(tmp_path / FILE, np.float32).reshape(-1, 7)
    assert len(rows) == 41
    jumps = np.abs(rows[:, 2] - rows[:, 0])
    assert np.unique(np.sign(rows[:, 2] - rows[:, 0])).tolist() == [-1.0, 1.0]
    assert jumps.max() <= 0.2 + 1e-6  # as a node limits them


def test_episodes_of_the_robot_end_as_its_task_says(tmp_path):
    train(tmp_path, plan_of("sac", "random_steps=200", "steps=1"))
    rows = np.fromfile(tmp_path / FILE, np.float32).reshape(-1, 7)
    ends = np.flatnonzero(rows[:, -1])
    lengths = np.diff([-1, *ends])
    assert lengths.max() == toy_world.HORIZON
    fell = np.abs(rows[:, 3]) > 1.5
    assert np.array_equal(rows[:, -1] == 1, fell)
    assert (rows[ends, -1] == 2).sum() == (lengths == toy_world.HORIZON).sum() - (
        fell[ends] & (lengths == toy_world.HORIZON)
    ).sum()


def test_every_episode_and_every_run_begins_with_a_seed_of_its_own(tmp_path):
    goals = []
    for seed in (0, 1):
        plan = plan_of("sac", "random_steps=300", "steps=1")
        train(tmp_path / str(seed), plan, seed=seed)
        rows = np.fromfile(tmp_path / str(seed) / FILE, np.float32).reshape(-1, 7)
        ends = np.flatnonzero(rows[:, -1])
        goals.append(rows[ends, 1].tolist())
        assert set(goals[-1]) == {-1.0, 1.0}
    assert goals[0] != goals[1]


def test_a_world_that_does_not_repeat_itself_is_no_place_to_resume(
    tmp_path, monkeypatch
):
    def interrupt(progress):
        os.kill(os.getpid(), signal.SIGINT)

    plan = plan_of("sac")
    train(tmp_path, plan, None, interrupt)
    assert checkpoint.newest(tmp_path / CHECKPOINTS).experience.rows % 15

    class Other(toy_world.World):
        def reset(self):
            super().reset()
            self._position = float32([0.01])

    monkeypatch.setattr(
        online, "open_arena", lambda *_: Arena(Other(), toy_world.task())
    )
    with pytest.raises(EvaluationError, match="expected the world to repeat step 0"):
        train(tmp_path, plan, resume=True)


@pytest.mark.parametrize(
    ("algorithm", "changes", "error", "words"),
    [
        ("bc", [], RecipeError, "learns from rewards to learn by acting"),
        ("h2o", [], RecipeError, "the real data that h2o learns from"),
        ("sac", ["replay_capacity=14"], RecipeError, "at least one episode, 15"),
        ("sac", ["reward_scale=return_range"], RecipeError, "without a dataset"),
    ],
)
def test_what_cannot_be_is_a_sentence(tmp_path, algorithm, changes, error, words):
    plan = recipe.read(algorithm, "", [*CHANGES, *changes])
    with pytest.raises(error, match=words):
        train(tmp_path / "run", plan)


def test_the_simulator_is_the_one_world_that_the_data_is_of(dataset, tmp_path):
    ours = create(tmp_path / "set", toy_world.SPEC)
    ours.append([episode(7)], {"robot": "sim:toy"})
    ours.append([episode(8)], {"source": "by hand", "world": "sim:toy"})
    assert simulator(ours) == "sim:toy"
    ours.append([episode(9)], {"robot": "sim:toy/other"})
    for several in (ours, dataset):
        with pytest.raises(RecipeError, match="expected --online sim:WORLD"):
            simulator(several)


def test_a_dataset_of_another_robot_is_refused(tmp_path, robot):
    other = create(tmp_path / "set", robot)
    with pytest.raises(EvaluationError, match="expected a world of the data's robot"):
        train(tmp_path / "run", plan_of("rlpd"), other)
    assert not (tmp_path / "run").exists()


def test_an_online_run_is_exported_without_a_dataset(tmp_path):
    train(tmp_path / "run", plan_of("sac"))
    policy, proof = export_run(tmp_path / "run", tmp_path / "policy.onnx")
    assert proof.action_error <= 1e-5
    assert policy.manifest.provenance.dataset_digest == ""


def test_sac_learns_a_toy_by_acting(tmp_path):
    changes = ["steps=350", "batch_size=64", "hidden=[32]", "gamma=0.9"]
    changes += ["random_steps=100", "temperature=0.1", "evaluate_every=350"]
    changes += ["learning_rate=3e-3", "policy_learning_rate=3e-3"]
    plan = recipe.read("sac", "", [*changes, "evaluate_episodes=10"])
    outcome = train(tmp_path, plan)
    start = toy_world.HORIZON * 1.0  # who stays where it begins is 1 m away all along
    assert outcome.evaluation["evaluation/return"] > -0.4 * start
