"""Many runs by one command: each is what it would be alone, and none costs another.

Several seeds are that to the bit where they learn in turn, and but for rounding where
they learn together.
"""

import io
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
import pytest

pytest.importorskip("torch")

from data_examples import SPEC, make_episode

from robostack import cli
from robostack.data.dataset import create
from robostack.plugins import spec as spec_of
from robostack.policies._together import TogetherLearner
from robostack.spec import float32
from robostack.training import checkpoint, curves, offline, sweep_cases
from robostack.training.job import Job, perform
from robostack.training.journal import Options
from robostack.training.run import CHECKPOINTS, RunError, read
from robostack.training.sweep_run import Listener, do_cases, has_ray

SMALL = ("steps=60", "batch_size=16", "hidden=[16]", "evaluate_episodes=1")
OPTIONS = Options(report_every=10, checkpoint_every=25)
WORLD = "sim:pendulum"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Return the folder of a small dataset of an arm."""
    path = tmp_path_factory.mktemp("data") / "arm"
    episodes = [make_episode(20, seed)._replace(frames={}) for seed in range(4)]
    create(path, msgspec.structs.replace(SPEC, cameras={})).append(episodes, {})
    return path


@pytest.fixture
def together(monkeypatch):
    """Return how many runs each update that several took was of."""
    sizes, join = [], TogetherLearner.join

    def joined(first, others):
        whole = join(first, others)
        update = whole.update

        def counted(batches):
            metrics = update(batches)
            sizes.append(len(batches))
            return metrics

        whole.update = counted
        return whole

    monkeypatch.setattr(TogetherLearner, "join", joined)
    return sizes


@pytest.fixture(scope="module")
def swings(tmp_path_factory):
    """Return the folder of a small dataset of a world that can be evaluated in."""
    spec, path = spec_of(WORLD), tmp_path_factory.mktemp("data") / "swings"
    rng, episode = np.random.default_rng(0), make_episode(30)
    action = float32(rng.uniform(-1, 1, (30, spec.action.size)))
    observation = {
        name: float32(rng.uniform(-1, 1, (31, array.size)))
        for name, array in spec.observation.items()
    }
    episode = episode._replace(
        observation=observation,
        action=action,
        requested=action,
        time_s=np.arange(31) * spec.control_period_s,
        truth={},
        frames={},
    )
    create(path, spec).append([episode], {})
    return path


def final(folder):
    """Return everything that a run ended with."""
    newest = checkpoint.newest(folder / CHECKPOINTS)
    return newest, (folder / "metrics.jsonl").read_bytes()


def job(folder, data, algorithm="iql", changes=(), **options):
    own = msgspec.structs.replace(OPTIONS, **options)
    folder, data = Path(folder), Path(data)
    return Job(algorithm, folder, data, changes=(*SMALL, *changes), options=own)


def assert_close(one, other):
    """Compare what two runs ended with, but for rounding."""
    import torch

    ours, theirs = (final(folder)[0] for folder in (one, other))
    assert (ours.step, ours.sampler) == (theirs.step, theirs.sampler)
    ours, theirs = (torch.load(io.BytesIO(x.learner)) for x in (ours, theirs))
    assert ours["updates"] == theirs["updates"]
    assert torch.equal(ours["rng"], theirs["rng"])
    for name, value in theirs["nets"].items():
        size = max(float(value.abs().max()), 1e-3)
        assert (ours["nets"][name] - value).abs().max() <= 1e-3 * size, name
    for line, expected in zip(curves.read(one), curves.read(other), strict=True):
        assert line == pytest.approx(expected, rel=1e-2, abs=1e-4)


def do(asked, seeds, listener=None, share=None):
    case = sweep_cases.one_case(asked, seeds)
    ended = do_cases([case], listener or Listener(), share)
    return [ended[job] for job in case.jobs]


SLOW = [pytest.param(a, marks=pytest.mark.slow) for a in ("cql", "famo2o", "uni_o4")]


@pytest.mark.parametrize("algorithm", ["iql", *SLOW])
def test_each_of_several_seeds_in_turn_is_what_it_is_alone_to_the_bit(
    data, tmp_path, algorithm
):
    ended = do(job(tmp_path / "many", data, algorithm, in_turn=True), 3)
    assert all(e.finished for e in ended)
    for seed in range(3):
        perform(job(tmp_path / f"alone{seed}", data, algorithm, seed=seed))
        assert final(tmp_path / "many" / str(seed)) == final(tmp_path / f"alone{seed}")
    states = {final(tmp_path / f"alone{seed}")[0].learner for seed in range(3)}
    assert len(states) == 3


@pytest.mark.parametrize(
    "algorithm", ["td3_bc", pytest.param("famo2o", marks=pytest.mark.slow)]
)
def test_each_of_several_seeds_together_is_what_it_is_alone_but_for_rounding(
    data, tmp_path, algorithm, together
):
    ended = do(job(tmp_path / "many", data, algorithm), 3)
    assert all(e.finished for e in ended)
    assert together == [3] * 60
    for seed in range(3):
        perform(job(tmp_path / f"alone{seed}", data, algorithm, seed=seed))
        assert_close(tmp_path / "many" / str(seed), tmp_path / f"alone{seed}")


@pytest.mark.slow
def test_an_algorithm_that_cannot_learn_together_does_so_in_turn(
    data, tmp_path, together
):
    do(job(tmp_path / "many", data, "cql"), 2)
    perform(job(tmp_path / "alone", data, "cql", seed=1))
    assert final(tmp_path / "many" / "1") == final(tmp_path / "alone")
    assert together == []


@pytest.mark.parametrize("in_turn", [True, False])
def test_several_seeds_go_on_side_by_side_on_transitions_loaded_once(
    data, tmp_path, monkeypatch, in_turn
):
    loads, order, load = [], [], offline.load_replay
    monkeypatch.setattr(
        offline, "load_replay", lambda *given: loads.append(1) or load(*given)
    )
    listener = Listener(lambda job, p: order.append((p.step, job.options.seed)))
    do(job(tmp_path, data, in_turn=in_turn), 2, listener)
    assert loads == [1]
    reports = [o for o in order if o[0] % 10 == 0]
    assert reports == [(step, seed) for step in range(10, 61, 10) for seed in (0, 1)]


@pytest.mark.parametrize(
    ("in_turn", "expected"), [(True, [50, 50, 40]), (False, [50, 50, 50])]
)
def test_ctrl_c_leaves_all_with_a_checkpoint_and_resuming_ends_as_if_it_never_had(
    data, tmp_path, in_turn, expected
):
    def interrupt(job, progress):
        if (job.options.seed, progress.step) == (1, 50):
            os.kill(os.getpid(), signal.SIGINT)

    def again(folder, listener=None, **options):
        return do(job(folder, data, in_turn=in_turn, **options), 3, listener)

    again(tmp_path / "straight")
    ended = again(tmp_path / "stopped", Listener(interrupt))
    assert [(e.finished, e.problem) for e in ended] == [(False, "")] * 3
    runs = [tmp_path / "stopped" / str(seed) for seed in range(3)]
    steps = [checkpoint.newest(run / CHECKPOINTS).step for run in runs]
    assert steps == expected
    with pytest.raises(RunError, match="3 of 3 are there already"):
        again(tmp_path / "stopped")
    ended = again(tmp_path / "stopped", resume=True)
    assert all(e.finished for e in ended)
    for seed, run in enumerate(runs):
        assert final(run) == final(tmp_path / "straight" / str(seed))


def test_runs_killed_while_they_saved_catch_up_and_go_on_together(
    data, tmp_path, together
):
    def interrupt(job, progress):
        if (job.options.seed, progress.step) == (3, 50):
            os.kill(os.getpid(), signal.SIGINT)

    do(job(tmp_path / "straight", data), 4)
    do(job(tmp_path / "killed", data), 4, Listener(interrupt))
    runs = [tmp_path / "killed" / str(seed) for seed in range(4)]
    for behind in (runs[1], runs[3]):
        (behind / CHECKPOINTS / f"{50:012d}.ckpt").unlink()
    together.clear()
    ended = do(job(tmp_path / "killed", data, resume=True), 4)
    assert all(e.finished for e in ended)
    assert together == [2] * 25 + [4] * 10  # from 25 to 50, and to the end
    for seed, run in enumerate(runs):
        assert_close(run, tmp_path / "straight" / str(seed))


def test_a_batch_that_cannot_be_used_ends_its_own_run_alone(
    data, tmp_path, monkeypatch, together
):
    drawing = offline.Course.drawing

    @contextmanager
    def spoiled(course):
        with drawing(course) as draw:
            yield lambda: _spoil(draw(), course)

    def _spoil(batch, course):
        if course.step == 12 and course._journal._options.seed == 1:
            batch.action[3, 0] = np.nan
        return batch

    do(job(tmp_path / "sound", data), 3)
    together.clear()
    monkeypatch.setattr(offline.Course, "drawing", spoiled)
    ended = do(job(tmp_path / "spoiled", data), 3)
    assert [e.finished for e in ended] == [True, False, True]
    assert "not finite in a batch: action" in ended[1].problem
    assert together == [3] * 12 + [2] * 47  # the 13th alone
    for seed in (0, 2):
        assert_close(tmp_path / "spoiled" / str(seed), tmp_path / "sound" / str(seed))


def test_together_on_data_that_is_left_on_disk_they_become_the_same(data, tmp_path):
    for stream in (True, False):
        do(job(tmp_path / str(stream), data, stream=stream), 2)
    for seed in "01":
        left = final(tmp_path / "True" / seed)
        assert left == final(tmp_path / "False" / seed)


def test_one_that_cannot_report_stops_there_and_the_others_go_on_together(
    data, tmp_path, monkeypatch, together
):
    report = offline.Course.report

    def failing(course, *given):
        if course.step == 25 and course._journal._options.seed == 1:
            raise OSError("no space left")
        report(course, *given)

    monkeypatch.setattr(offline.Course, "report", failing)
    ended = do(job(tmp_path, data), 3)
    assert [e.finished for e in ended] == [True, False, True]
    assert "no space left" in ended[1].problem
    assert together == [3] * 25 + [2] * 35


def test_what_is_finished_is_left_alone_and_other_settings_are_refused(data, tmp_path):
    do(job(tmp_path, data), 2)
    before = [path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("*"))]
    assert all(e.finished for e in do(job(tmp_path, data, resume=True), 2))
    after = [path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("*"))]
    assert after == before
    other = job(tmp_path, data, changes=["expectile=0.9"], resume=True)
    problems = [e.problem for e in do(other, 2)]
    assert all("config.expectile was 0.7, now 0.9" in p for p in problems)


def test_a_run_that_fails_costs_the_others_nothing(data, tmp_path):
    cases = [
        sweep_cases.one_case(
            job(tmp_path / "bad", data, changes=["learning_rate=1e30"]), 2
        ),
        sweep_cases.one_case(job(tmp_path / "none", tmp_path / "nowhere"), 1),
        sweep_cases.one_case(job(tmp_path / "good", data), 1),
    ]
    ended = list(do_cases(cases, Listener()).values())
    assert [e.finished for e in ended] == [False, False, False, True]
    assert all("training diverged by step 10" in e.problem for e in ended[:2])
    assert "expected a dataset at" in ended[2].problem


def test_one_seed_that_cannot_begin_leaves_the_others(data, tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "run.json").write_text("{")
    ended = do(job(tmp_path, data, resume=True), 3)
    assert [e.finished for e in ended] == [True, False, True]
    assert "run.json cannot be read" in ended[1].problem


@pytest.mark.slow
def test_seeds_that_learn_by_acting_come_one_after_another(tmp_path):
    changes = ("random_steps=20", "steps=30", "batch_size=16", "hidden=[16]")
    changes += ("evaluate_episodes=1",)
    asked = Job("sac", tmp_path / "many", online=WORLD, changes=changes)
    assert all(e.finished for e in do(asked, 2))
    alone = msgspec.structs.replace(
        asked, folder=tmp_path / "alone", options=Options(seed=1)
    )
    perform(alone)
    assert final(tmp_path / "many" / "1") == final(tmp_path / "alone")


FILE = """
seeds = 2
algorithm = ["iql", "bc"]
world = "sim:pendulum"
set = {{ steps = 40, batch_size = 16, hidden = [16], evaluate_episodes = 1 }}
[[runs]]
dataset = "{data}"
[[runs]]
dataset = "{missing}"
algorithm = "bc"
origin = "somewhere"
[paper.iql]
swings = 12.5
"""


@pytest.fixture
def file(tmp_path, swings):
    path = tmp_path / "sweep.toml"
    path.write_text(FILE.format(data=swings, missing=tmp_path / "missing"))
    return path


def command(file, folder, *more):
    return cli.main(["train", "--sweep", str(file), "--run", str(folder), *more])


def without_ray(monkeypatch):
    monkeypatch.setattr("robostack.training.sweep_run.has_ray", lambda: False)


def test_a_sweep_ends_in_one_table_with_what_failed(file, tmp_path, monkeypatch):
    without_ray(monkeypatch)
    assert command(file, tmp_path / "runs") == 1
    table = msgspec.json.decode((tmp_path / "runs" / "table.json").read_bytes())
    names = [line["name"] for line in table]
    assert names == ["iql/swings", "bc/swings", "bc/missing"]
    iql, bc, missing = table
    returns = [
        curves.read(tmp_path / "runs" / "iql" / "swings" / str(seed))[-1]
        for seed in (0, 1)
    ]
    returns = [line["evaluation/return"] for line in returns]
    assert [s["evaluation"]["evaluation/return"] for s in iql["seeds"]] == returns
    assert iql["mean"] == pytest.approx(np.mean(returns))
    assert iql["std"] == pytest.approx(np.std(returns, ddof=1))
    assert (iql["paper"], bc["paper"]) == (12.5, None)
    assert missing["mean"] is None
    assert "expected a dataset at" in missing["missing"]
    assert "its files: somewhere" in missing["missing"]
    text = (tmp_path / "runs" / "table.md").read_text()
    assert all(name in text for name in names)
    assert "12.5" in text


@pytest.mark.slow
def test_a_run_of_a_sweep_is_an_ordinary_run(file, tmp_path, monkeypatch, swings):
    without_ray(monkeypatch)
    command(file, tmp_path / "runs", "--in-turn")
    run = tmp_path / "runs" / "bc" / "swings" / "1"
    flags = ["--seed", "1", "--steps", "40", "--world", WORLD, "--dataset", str(swings)]
    flags += ["--set", "batch_size=16", "hidden=[16]", "evaluate_episodes=1"]
    cli.main(["train", "bc", "--run", str(tmp_path / "alone"), *flags])
    assert final(run) == final(tmp_path / "alone")
    words = ["evaluate", str(run), "--world", WORLD, "--episodes", "1"]
    assert cli.main(words) == 0
    assert cli.main(["export", str(run), str(tmp_path / "policy.onnx")]) == 0


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--sweep", "s.toml", "--from", "run"], "no --from beside --sweep"),
        (["--dataset", "d"], "expected an algorithm"),
        (["iql", "--seeds", "2"], "expected --dataset FOLDER to learn from logs"),
        (["iql", "--dataset", "d", "--seeds", "-1"], "how many seeds"),
    ],
)
def test_flags_that_do_not_go_together_are_a_sentence(tmp_path, capsys, flags, words):
    assert cli.main(["train", "--run", str(tmp_path), *flags]) == 1
    assert words in " ".join(capsys.readouterr().err.split())


def test_runs_that_go_on_wait_for_the_one_before(tmp_path, swings, monkeypatch):
    """The online run begins with the learner of the offline one, or not at all."""
    without_ray(monkeypatch)
    path = tmp_path / "sweep.toml"
    path.write_text(
        f"""
        dataset = "{swings}"
        set = {{ steps = 20, batch_size = 16, hidden = [16], evaluate_episodes = 1 }}
        [[runs]]
        algorithm = "awac"
        then = {{ online = "{WORLD}", set = {{ steps = 10 }} }}
        [[runs]]
        name = "bad"
        algorithm = "awac"
        set = {{ learning_rate = 1e30 }}
        then = {{ online = "{WORLD}", set = {{ steps = 10 }} }}
        """
    )
    assert command(path, tmp_path / "runs") == 1
    table = msgspec.json.decode((tmp_path / "runs" / "table.json").read_bytes())
    first, after, bad, never = table
    assert (first["name"], after["name"]) == ("awac/swings", "awac/swings/then")
    ended = tmp_path / "runs" / "awac" / "swings" / "0"
    parent = read(tmp_path / "runs" / "awac" / "swings" / "then" / "0").online.parent
    assert (parent.path, parent.step) == (str(ended.resolve()), 20)
    assert after["seeds"][0]["finished"]
    assert "diverged" in bad["missing"]
    assert "runs/bad/awac/swings/0 to be finished first" in never["missing"]
    assert not (tmp_path / "runs" / "bad" / "then").exists()


NEEDS_RAY = pytest.mark.skipif(
    not has_ray(), reason="needs ray: pip install 'robostack[sweep]'"
)


SCRIPT = """
import sys
from robostack.training import sweep_cases
from robostack.training.sweep_run import Listener, Share, do_cases
from test_training_many import job

in_turn = sys.argv[3] != "together"
asked = job(sys.argv[1], sys.argv[2], "iql", LONG, resume=True, in_turn=in_turn)
case = sweep_cases.one_case(asked, 2)
do_cases([case], Listener(), Share() if sys.argv[3] == "ray" else None)
"""
LONG = ("steps=1000",)


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(600)
@pytest.mark.parametrize("way", ["in_turn", pytest.param("ray", marks=NEEDS_RAY)])
def test_killed_at_any_moment_it_resumes_to_what_each_is_alone(data, tmp_path, way):
    _kill_and_resume(tmp_path / "runs", data, way)
    for seed in (0, 1):
        alone = tmp_path / f"alone{seed}"
        perform(job(alone, data, changes=LONG, seed=seed))
        assert final(tmp_path / "runs" / str(seed)) == final(alone)


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(600)
def test_killed_together_at_the_same_update_they_resume_as_if_they_never_had(
    data, tmp_path
):
    for _ in range(5):
        if len(set(_kill_and_resume(tmp_path / "runs", data, "together"))) == 1:
            break
        shutil.rmtree(tmp_path / "runs")  # killed while they saved
    do(job(tmp_path / "straight", data, changes=LONG), 2)
    for seed in "01":
        assert final(tmp_path / "runs" / seed) == final(tmp_path / "straight" / seed)


def _kill_and_resume(runs, data, way):
    """Return the updates at which two runs stood when they were killed."""
    script = SCRIPT.replace("LONG", repr(LONG))
    words = [sys.executable, "-c", script, str(runs), str(data), way]
    paths = os.pathsep.join(
        map(str, [Path(__file__).parent, Path(__file__).parents[1]])
    )
    environment = os.environ | {"PYTHONPATH": paths}
    process = subprocess.Popen(words, env=environment)
    until = time.monotonic() + 100
    while time.monotonic() < until and not _saved(runs):
        time.sleep(0.05)
    time.sleep(np.random.default_rng().uniform(0, 1))
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 0 < max(_saved(runs)) < 1000
    stood = [max(_saved(runs / seed), default=0) for seed in "01"]
    assert subprocess.run(words, env=environment, check=False).returncode == 0
    return stood


def _saved(runs):
    """Return the steps of all checkpoints."""
    return [int(path.stem) for path in runs.rglob("*.ckpt")]


@pytest.mark.slow
@pytest.mark.alone
@NEEDS_RAY
def test_ray_gives_the_same_to_the_bit(file, tmp_path, monkeypatch):
    assert command(file, tmp_path / "by_ray") == 1
    without_ray(monkeypatch)
    assert command(file, tmp_path / "here", "--in-turn") == 1
    runs = sorted(p.parent for p in (tmp_path / "here").rglob("run.json"))
    assert len(runs) == 4
    for run in runs:
        there = tmp_path / "by_ray" / run.relative_to(tmp_path / "here")
        assert final(run) == final(there)
    tables = [(tmp_path / n / "table.json").read_text() for n in ("by_ray", "here")]
    assert tables[0].replace("by_ray", "here") == tables[1]
