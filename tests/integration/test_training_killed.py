"""SIGKILL at any moment: every algorithm that there is ends as if it never had been.

The processes are `robostack train`, killed four times each: on beginning, and in every
third of the run. What they end with is compared to the bit: learner, optimizers, random
states, metrics, and what the robot lived through.
"""

import shutil
import zlib

import msgspec
import numpy as np
import pytest
from killing import Nursery, final, newest_step

pytest.importorskip("torch")
pytest.importorskip("mujoco")

from robostack import plugins
from robostack.data.dataset import create
from robostack.data.episode import End, Episode
from robostack.spec import float32
from robostack.training.fitting import has

WORLD = "sim:gym/InvertedPendulum-v5"  # it falls, and falls soon: many episodes
STEPS = 45  # updates
SMALL = {  # settings of any algorithm that has them
    "hidden": "[16]",
    "dropout": 0.1,
    "critics": 3,
    "least_of": 2,
    "samples": 2,
    "copies": 2,
    "cloning_share": 0.3,
    "improvement_share": 0.35,  # so that a kill comes in each phase of uni_o4
    "gate_period": 5,
    "horizon": 5,
    "starts": 20,
    "policy_period": 2,
    "cloning_steps": 20,
    "epochs": 2,
    "minibatch": 4,
}
GENERAL = {"batch_size": 8, "evaluate_episodes": 1, "evaluate_every": 5}
ACTING = {"random_steps": 30, "updates_per_step": 0.3, "replay_capacity": 1000}
ALONE = {"sac", "ro2o"}  # online without a dataset, though one could be had
QUICK = {("iql", "offline")}
BEGINNING_S = 0.3  # the first checkpoint may be there by then, or not even the folder
TRIES = 5


def _cases():
    for name in plugins.names("policies"):
        phases = ["offline"] * (not has(name, "ONLINE"))
        phases += ["online"] * has(name, "NEEDS_REWARD", default=True)
        for phase in phases:
            marks = [] if (name, phase) in QUICK else [pytest.mark.slow]
            yield pytest.param(name, phase, marks=marks, id=f"{name}-{phase}")


def _acting():
    return [name for name in plugins.names("policies") if has(name, "ONLINE")]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Return logs of its robot."""
    folder = tmp_path_factory.mktemp("data") / "set"
    spec = plugins.load("sim", "gym").spec("InvertedPendulum-v5")
    episodes = [episode(spec, seed) for seed in range(6)]
    create(folder, spec).append(episodes, {"robot": WORLD})
    return folder


def episode(spec, seed, steps=20):
    rng = np.random.default_rng(seed)
    action = float32(rng.uniform(-1, 1, (steps, spec.action.size)))
    return Episode(
        observation={
            name: float32(rng.uniform(-1, 1, (steps + 1, array.size)))
            for name, array in spec.observation.items()
        },
        action=action,
        requested=action,
        time_s=np.arange(steps + 1) * spec.control_period_s,
        end=End.TERMINATED if seed % 2 else End.TRUNCATED,
        reward=float32(rng.uniform(-1, 1, steps)),
        truth={},
        frames={},
        labels={},
    )


@pytest.fixture(scope="module")
def nursery(tmp_path_factory, dataset):
    run = tmp_path_factory.mktemp("warm") / "run"
    nursery = Nursery(["train", *offline("iql", dataset), "--steps=1", f"--run={run}"])
    yield nursery
    nursery.close()


@pytest.fixture(scope="module")
def parents(tmp_path_factory, dataset, nursery):
    """Return a function that gives the finished offline run of an algorithm."""
    made = {}

    def parent(algorithm):
        if algorithm not in made:
            made[algorithm] = tmp_path_factory.mktemp(algorithm)
            nursery.run(made[algorithm], offline(algorithm, dataset))
        return made[algorithm]

    return parent


def offline(algorithm, dataset):
    """Return the words of training from logs."""
    changes = _changes(algorithm, GENERAL)
    return [algorithm, "--dataset", str(dataset), "--seed", "4", *changes]


def online(algorithm, dataset, parent):
    """Return the words of learning by acting: on from `parent`, or from nothing."""
    words = [algorithm, "--seed", "5", *_changes(algorithm, GENERAL | ACTING)]
    if parent or not has(algorithm, "HYBRID"):  # else: in the world of the dataset
        words += ["--online", WORLD]
    if not (has(algorithm, "ON_POLICY") or algorithm in ALONE):
        words += ["--dataset", str(dataset)]
    return words + (["--from", str(parent / "run")] if parent else [])


def _changes(algorithm, general):
    config = plugins.load("policies", algorithm).Config
    known = {field.name for field in msgspec.structs.fields(config)}
    changes = general | {k: v for k, v in SMALL.items() if k in known}
    return ["--set", f"steps={STEPS}", *(f"{k}={v}" for k, v in changes.items())]


def kill_often(nursery, folder, words, rng):
    """Kill the run at random moments; return whether all kills came in time."""
    nursery.kill(folder, words, -1, rng.uniform(0.0, BEGINNING_S))
    for third in range(3):
        step = int(STEPS * (third + rng.uniform(0.0, 0.6)) / 3)
        if not nursery.kill(folder, words, max(step, 1), rng.uniform(0.0, 0.01)):
            return False
    return newest_step(folder / "run") < STEPS


@pytest.mark.parametrize(("algorithm", "phase"), list(_cases()))
def test_a_killed_run_ends_as_if_it_never_had_been(
    tmp_path, dataset, nursery, parents, algorithm, phase
):
    if phase == "offline":
        straight, words = parents(algorithm), offline(algorithm, dataset)
    else:
        parent = None if has(algorithm, "ONLINE") else parents(algorithm)
        straight, words = tmp_path / "straight", online(algorithm, dataset, parent)
        nursery.run(straight, words)
    rng = np.random.default_rng(zlib.crc32(f"{algorithm} {phase}".encode()))
    killed = tmp_path / "killed"
    for _ in range(TRIES):  # a busy computer may let it finish before it is killed
        if kill_often(nursery, killed, words, rng):
            break
        shutil.rmtree(killed)
    else:
        pytest.fail(f"the run ended {TRIES} times before it was killed")
    nursery.run(killed, words)
    assert final(killed) == final(straight)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", _acting())
def test_what_learns_by_acting_goes_on_from_a_run_of_its_own(
    tmp_path, dataset, nursery, algorithm
):
    parent = None
    for name in ("first", "second"):
        nursery.run(tmp_path / name, online(algorithm, dataset, parent))
        parent = tmp_path / name
    first, second = (final(tmp_path / name)[0] for name in ("first", "second"))
    assert second.step == STEPS
    assert second.learner != first.learner
