"""A sweep's file says which runs there are, and nothing that cannot be meant."""

from pathlib import Path

import pytest

pytest.importorskip("torch")

from robostack.training import sweep, sweep_cases
from robostack.training.job import Job, plan
from robostack.training.journal import Options
from robostack.training.recipe import RecipeError
from robostack.training.scores import ScoreError

BASE = Job("", Path("runs"))


def expand(tmp_path, text, base=BASE, seeds=0):
    path = tmp_path / "sweep.toml"
    path.write_text(text)
    return sweep_cases.expand(sweep.read(path), base, seeds)


def folders(cases):
    return [str(job.folder) for case in cases for job in case.jobs]


def test_lists_are_choices_and_every_combination_is_a_run(tmp_path):
    cases = expand(
        tmp_path,
        """
        seeds = 2
        algorithm = ["iql", "bc"]
        dataset = ["data/a", "data/b"]
        """,
    )
    assert folders(cases) == [
        f"runs/{algorithm}/{data}/{seed}"
        for algorithm in ("iql", "bc")
        for data in ("a", "b")
        for seed in (0, 1)
    ]
    last = cases[-1].jobs[-1]
    assert (last.algorithm, last.dataset) == ("bc", Path("data/b"))
    assert last.options.seed == 1


def test_a_grid_is_part_of_the_name_and_changes_the_recipe(tmp_path):
    cases = expand(
        tmp_path,
        """
        algorithm = "iql"
        dataset = "d"
        set = { steps = 100 }
        [grid]
        expectile = [0.7, 0.9]
        hidden = [[32, 32], [64]]
        """,
    )
    assert [case.name for case in cases] == [
        "iql/d/expectile=0.7,hidden=32-32",
        "iql/d/expectile=0.7,hidden=64",
        "iql/d/expectile=0.9,hidden=32-32",
        "iql/d/expectile=0.9,hidden=64",
    ]
    made = plan(cases[-1].jobs[0])
    assert (made.steps, made.config) == (100, {"expectile": 0.9, "hidden": [64]})


def test_a_row_wins_over_the_file_and_the_file_over_the_flags(tmp_path):
    flags = Job(
        "iql",
        Path("runs"),
        dataset=Path("flag"),
        recipe="robot",
        changes=("gamma=0.5",),
        options=Options(world="sim:pendulum", task="flag"),
    )
    first, second = expand(
        tmp_path,
        """
        recipe = "antmaze"
        world = "sim:double_pendulum"
        set = { batch_size = 32, steps = 10 }
        [[runs]]
        dataset = "row"
        [[runs]]
        recipe = "locomotion"
        world = "sim:gym"
        set = { steps = 20 }
        """,
        flags,
    )
    one, two = first.jobs[0], second.jobs[0]
    assert (one.dataset, one.recipe) == (Path("row"), "antmaze")
    assert (one.options.world, one.options.task) == ("sim:double_pendulum", "flag")
    assert (two.dataset, two.recipe) == (Path("flag"), "locomotion")
    assert two.options.world == "sim:gym"
    plans = [plan(one), plan(two)]
    assert [(p.steps, p.batch_size, p.gamma) for p in plans] == [
        (10, 32, 0.5),
        (20, 32, 0.5),
    ]


def test_the_algorithm_of_the_command_line_picks_its_runs(tmp_path):
    text = 'algorithm = ["iql", "bc"]\ndataset = "d"\n'
    only = expand(tmp_path, text, Job("bc", Path("runs")))
    assert [case.name for case in only] == ["bc/d"]
    with pytest.raises(sweep.SweepError, match="expected runs of 'cql' in the sweep"):
        expand(tmp_path, text, Job("cql", Path("runs")))


def test_seeds_are_a_count_or_a_list_and_flags_say_what_the_file_does_not(tmp_path):
    text = 'algorithm = "bc"\ndataset = "d"\n'
    assert folders(expand(tmp_path, text)) == ["runs/bc/d/0"]
    assert folders(expand(tmp_path, text, seeds=2)) == ["runs/bc/d/0", "runs/bc/d/1"]
    listed = expand(tmp_path, text + "seeds = [3, 5]\n", seeds=9)
    assert folders(listed) == ["runs/bc/d/3", "runs/bc/d/5"]


def test_seeds_by_a_flag_begin_at_the_seed_that_is_asked_for():
    job = Job("bc", Path("run"), Path("d"), options=Options(seed=4))
    assert folders([sweep_cases.one_case(job, 2)]) == ["run/4", "run/5"]


def test_what_a_paper_reports_goes_with_the_name(tmp_path):
    text = 'algorithm = ["iql", "bc"]\ndataset = "d"\n'
    cases = expand(tmp_path, text + "[paper.bc]\nd = 0.0\n")
    assert [case.paper for case in cases] == [None, 0.0]
    cases = expand(tmp_path, text + "[paper]\n'bc/d' = 0.5\n", Job("bc", Path("r")))
    assert [case.paper for case in cases] == [0.5]


def test_the_name_of_a_dataset_can_be_the_task_of_its_scores(tmp_path):
    text = "algorithm = 'bc'\ndataset = ['x/hopper-medium-v2', 'x/pen-human-v1']\n"
    cases = expand(tmp_path, text + "d4rl_task = true\n")
    tasks = [case.jobs[0].options.d4rl_task for case in cases]
    assert tasks == ["hopper-medium-v2", "pen-human-v1"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("datset = 'd'", r"sweep\.toml, got 'datset'; did you mean 'dataset'"),
        ("[[runs]]\nalgoritm = 'bc'", "got 'algoritm'; did you mean 'algorithm'"),
        ("seeds = 'many'", "is not valid: expected `int | array`, got `str`"),
        ("runs = 3", "is not valid: expected `array`"),
        ("algorithm = ", "cannot be read"),
        ("dataset = 'd'", "expected an algorithm in the sweep"),
        ("algorithm = 'bc'\nseeds = -1", "how many seeds there are"),
        ("algorithm = 'bc'\nseeds = [1, 1]", "how many seeds there are"),
        (
            "algorithm = 'bc'\ndataset = 'd'\npaper = { 'bcc/d' = 1.0 }",
            "did you mean 'bc/d'",
        ),
        ("algorithm = 'bc'\n[[runs]]\n[[runs]]", "give each row a name"),
        ("then = { world = 'sim:gym' }", "as a key of .*sweep.toml, got 'world'"),
        ("then = { recipe = 'maze' }", "missing required field `online`"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_a_sentence(tmp_path, text, words):
    with pytest.raises(sweep.SweepError, match=words):
        expand(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("algorithm = 'iqll'", LookupError, "did you mean 'iql'"),
        ("recipe = 'maze'", RecipeError, "as iql recipe, got 'maze'"),
        ("grid = { expectil = [1] }", RecipeError, "did you mean 'expectile'"),
        ("set = { gamma = 2 }", RecipeError, "expected gamma between 0 and 1"),
        ("d4rl_task = 'hopper-v2'", ScoreError, "as a D4RL task"),
    ],
)
def test_a_run_that_could_not_end_is_refused_before_any_begins(
    tmp_path, text, error, words
):
    rows = '[[runs]]\nalgorithm = "bc"\ndataset = "d"\n[[runs]]\n'
    known = "" if "algorithm" in text else 'algorithm = "iql"\n'
    with pytest.raises(error, match=words):
        expand(tmp_path, rows + known + text)


def test_a_setting_is_in_the_grid_or_a_flag(tmp_path):
    text = 'algorithm = "iql"\ngrid = { expectile = [0.7] }\n'
    with pytest.raises(sweep.SweepError, match="expected expectile in the grid or as"):
        expand(tmp_path, text, Job("", Path("runs"), changes=("expectile=0.5",)))
    with pytest.raises(sweep.SweepError, match="expected values of expectile"):
        expand(tmp_path, 'algorithm = "iql"\ngrid = { expectile = [] }\n')


def test_two_rows_of_one_dataset_are_told_apart_by_a_name(tmp_path):
    rows = "[[runs]]\nname = 'slow'\n[[runs]]\nset = { learning_rate = 1e-3 }\n"
    cases = expand(tmp_path, f'algorithm = "bc"\ndataset = "d"\n{rows}')
    assert [case.name for case in cases] == ["slow/bc/d", "bc/d"]
    assert "learning_rate=0.001" in cases[1].jobs[0].changes


def test_without_a_dataset_the_world_names_the_runs(tmp_path):
    (case,) = expand(tmp_path, 'algorithm = "sac"\nonline = "sim:gym/Hopper-v5"\n')
    assert case.name == "sac/gym-Hopper-v5"


def test_runs_go_on_by_acting_each_from_its_own_end(tmp_path):
    cases = expand(
        tmp_path,
        """
        seeds = 2
        dataset = "d"
        algorithm = ["iql", "cal_ql"]
        world = "sim:pendulum"
        [then]
        online = "sim:gym"
        set = { steps = 7 }
        [paper.iql]
        d = 1.0
        "d/then" = 2.0
        """,
        Job("", Path("runs"), changes=("batch_size=8",)),
    )
    assert [(case.name, case.paper) for case in cases] == [
        ("iql/d", 1.0),
        ("iql/d/then", 2.0),
        ("cal_ql/d", None),
        ("cal_ql/d/then", None),
    ]
    before, after = cases[0].jobs[1], cases[1].jobs[1]
    assert after.folder == Path("runs/iql/d/then/1")
    assert (after.source, after.options) == (before.folder, before.options)
    assert (after.dataset, after.online) == (Path("d"), "sim:gym")
    assert after.changes == ("steps=7", "batch_size=8")


def test_what_goes_on_may_be_another_algorithm_without_the_data(tmp_path):
    then = "then = { online = 'sim:gym', algorithm = 'rlpd', recipe = 'wsrl',"
    text = f"algorithm = 'cal_ql'\ndataset = 'd'\n{then} beside_data = false }}\n"
    _, case = expand(tmp_path, text)
    job = case.jobs[0]
    assert (job.algorithm, job.recipe, job.dataset) == ("rlpd", "wsrl", None)
    assert job.source == Path("runs/cal_ql/d/0")
