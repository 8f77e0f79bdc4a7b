"""benchmarks/d4rl.toml names what is there, and its rows can be done."""

import functools
from pathlib import Path

import msgspec
import pytest

pytest.importorskip("torch")
pytest.importorskip("gymnasium")

from robostack import cli, plugins
from robostack.training import recipe, scores, sweep, sweep_cases
from robostack.training.job import Job

FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "d4rl.toml"


@pytest.fixture(scope="module")
def cases():
    return sweep_cases.expand(sweep.read(FILE), Job("", Path("runs")), 0)


def test_every_algorithm_recipe_and_task_exists(cases):
    algorithms, tasks = plugins.names("policies"), set()
    for case in cases:
        for job in case.jobs:
            assert job.algorithm in algorithms
            assert not job.recipe or job.recipe in recipe.names(job.algorithm)
            if job.dataset is None:  # what goes on, and leaves it behind
                assert job.source
                assert job.algorithm in {"ro2o", "uni_o4"}
            else:
                assert job.dataset.name == job.options.d4rl_task
            tasks.add(job.options.d4rl_task)
    assert all(scores.reference(task) for task in tasks)
    assert len(tasks) == 9 + 2 * 6 + 3 + 4 * (2 + 3) + 3


def test_every_world_has_the_shape_of_an_address(cases):
    worlds = {w for c in cases for j in c.jobs for w in (j.options.world, j.online)}
    for world in worlds - {""}:
        assert plugins.parse(world).name == "gym"


def test_runs_take_as_long_as_those_of_the_papers(cases):
    usual = functools.cache(lambda *names: recipe.read(*names).steps)
    for case in cases:
        job = case.jobs[0]
        told = [c.removeprefix("steps=") for c in job.changes if c.startswith("steps=")]
        steps = int(told[-1]) if told else usual(job.algorithm, job.recipe)
        assert job.source or steps in (500_000, 1_000_000, 2_000_000, 2_500_000)
        assert len(case.jobs) >= 5


def test_cloning_and_improvement_of_uni_o4_are_as_long_as_the_papers(cases):
    """However long the critics' phase is; sizes are those of its sheet, section 3."""
    improved = {"kitchen": 1_000, "door-human-v1": 5_000}
    for case in cases:
        job = case.jobs[0]
        if job.algorithm != "uni_o4" or job.source:
            continue
        told = recipe.read("uni_o4", job.recipe, job.changes)
        config = recipe.configure(told)
        task = job.dataset.name
        expected = improved.get(task, improved.get(job.recipe, 10_000))
        assert config.cloning_share * told.steps == pytest.approx(400_000)
        assert config.improvement_share * told.steps == pytest.approx(expected)
        settled = {"kitchen-partial-v0", "kitchen-mixed-v0"} | {
            f"hammer-{kind}-v1" for kind in ("human", "cloned", "expert")
        }
        assert config.normalize == (job.recipe == "locomotion" or task in settled)


def test_numbers_of_the_table_of_results_are_beside_their_rows(cases):
    paper = {case.name: case.paper for case in cases}
    assert paper["iql/hopper-medium-v2"] == 66.3
    assert paper["iql/hopper-medium-v2/then"] == 65.4
    assert paper["famo2o/walker2d-medium-v2/base=awac/then"] == 80.0
    assert paper["bc/antmaze-medium-play-v0"] == 0.0
    assert paper["iql/antmaze-umaze-v2"] == 77.0
    assert paper["iql/pen-cloned-v1/then"] == 102.02
    assert paper["ro2o/hopper-medium-v2"] is None


@pytest.mark.slow
def test_a_row_is_done_where_its_data_is_and_the_others_say_that_theirs_is_not(
    shared_data, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("robostack.training.sweep_run.has_ray", lambda: False)
    monkeypatch.chdir(tmp_path)
    logs = shared_data / "gym_rollouts" / "hopper-medium-like.hdf5"
    there = ["--dataset", "d4rl/hopper-medium-v2", "--robot", "sim:gym/Hopper-v4"]
    assert cli.main(["data", "import", str(logs), *there]) == 0
    small = ["--steps", "5", "--set", "evaluate_episodes=1", "hidden=[8]"]
    words = ["train", "td3_bc", "--sweep", str(FILE), "--run", "runs", *small]
    assert cli.main(words) == 1
    lines = msgspec.json.decode(Path("runs/table.json").read_bytes())
    table = {line["name"]: line for line in lines}
    done = table.pop("td3_bc/hopper-medium-v2")
    assert (done["measure"], done["paper"], done["missing"]) == ("score", 59.3, "")
    returns = [s["evaluation"]["evaluation/return"] for s in done["seeds"]]
    ours = [scores.normalized("hopper-medium-v2", value) for value in returns]
    assert done["mean"] == pytest.approx(sum(ours) / 5)
    assert all(line["mean"] is None for line in table.values())
    for line in table.values():
        assert "make one with robostack data import" in line["missing"]
        assert "its files: rail.eecs.berkeley.edu" in line["missing"]
