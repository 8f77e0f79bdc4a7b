"""`robostack train`: from logs, or from acting, to one run or to many."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import tyro
from rich.table import Table
from tyro.conf import Positional

from .learn import progress_bar
from .verb import Verb, VerbError, console

if TYPE_CHECKING:
    from collections.abc import Callable

    from robostack.training.job import Job
    from robostack.training.journal import Progress
    from robostack.training.sweep_cases import Case
    from robostack.training.sweep_run import Share
    from robostack.training.turns import Ended

Source = Annotated[Path | None, tyro.conf.arg(name="from")]
INTERRUPTED = 130


class Train(msgspec.Struct, frozen=True, kw_only=True):
    """Train a policy from logs, by acting in a world, or by both.

    TensorBoard scalars and checkpoints go into the run. Ctrl-C leaves a checkpoint;
    --resume goes on as if never stopped, to the bit. --seeds and --sweep make many runs
    and a table of them; a run is what it would be alone. Seeds that learn from logs do
    so together where the algorithm can: a run is then what it would be alone but for
    rounding, also if killed and resumed; with --in-turn it is so to the bit.
    """

    algorithm: Positional[str] = ""  # of `robostack list algorithms`; or the sweep's
    run: Path  # folder of the run, or of the runs
    dataset: Path | None = None  # folder to learn from; online: beside what is lived
    online: str = ""  # learn by acting in a world; h2o: default: the dataset's own
    source: Source = None  # run to go on from online, its recipe `online` by default
    warmup_steps: int | None = None  # of the policy as it is; default: the recipe's
    recipe: str = ""  # one that comes with the algorithm, or a .toml file
    set: tuple[str, ...] = ()  # key=value: settings of the recipe or the algorithm
    labeller: str = ""  # whose rewards; default: the recipe's, or the only ones there
    steps: int = 0  # updates; 0: the recipe's
    seed: int = 0
    seeds: int = 0  # so many runs, from --seed on, at RUN/0, RUN/1, ...
    in_turn: bool = False  # seeds each by itself: slower, and to the bit as alone
    sweep: Path | None = None  # .toml file of many runs; by Ray where it is installed
    threads: int = 1  # of math libraries; OMP_NUM_THREADS has the last word
    stream: bool | None = None  # leave the data on disk; default: if memory is short
    precision: str = ""  # fp32, or bf16 for matrix products; default: the recipe's
    resume: bool = False  # go on with the run in that folder, or begin it
    world: str = ""  # evaluate on a schedule in; default: where it acts
    task: str = ""  # of the world; default: its first


def train(flags: Train) -> int:
    """Train, with a progress bar."""
    from robostack.training.process import prepare

    prepare(flags.threads)
    job = _job(flags)
    if flags.sweep:
        return _sweep(flags.sweep, job, flags.seeds)
    if not flags.algorithm:
        raise VerbError("expected an algorithm, one of `robostack list algorithms`")
    _require_possible(flags)
    if flags.seeds:
        from robostack.training.sweep_cases import one_case

        return _many([one_case(job, flags.seeds)], job)
    return _one(job)


def _job(flags: Train) -> Job:
    from robostack.training.job import Job
    from robostack.training.journal import Options

    return Job(
        algorithm=flags.algorithm,
        folder=flags.run,
        dataset=flags.dataset,
        online=flags.online,
        source=flags.source,
        recipe=flags.recipe,
        changes=_changes(flags),
        labeller=flags.labeller,
        options=Options(
            seed=flags.seed,
            threads=flags.threads,
            resume=flags.resume,
            world=flags.world,
            task=flags.task,
            stream=flags.stream,
            in_turn=flags.in_turn,
        ),
    )


def _changes(flags: Train) -> tuple[str, ...]:
    """Return what flags change in the recipe."""
    said = {"steps": flags.steps or None, "precision": flags.precision or None}
    said["warmup_steps"] = flags.warmup_steps
    return (*flags.set, *(f"{k}={v}" for k, v in said.items() if v is not None))


def _require_possible(flags: Train) -> None:
    if not flags.online and flags.dataset is None:
        raise VerbError(
            "expected --dataset FOLDER to learn from logs, or --online sim:WORLD to "
            "learn by acting, got neither"
        )
    if not flags.online and (flags.source or flags.warmup_steps is not None):
        raise VerbError("expected --online sim:WORLD beside --from or --warmup-steps")


def _one(job: Job) -> int:
    from robostack.training.job import perform

    with progress_bar("training") as show:
        outcome = perform(job, lambda progress: _show(show, progress))
    if not outcome.finished:
        console.print(
            f"stopped at update {outcome.step}; robostack train ... --resume goes on"
        )
        return INTERRUPTED
    console.print(f"{job.folder}: {outcome.step} updates")
    return 0


def _sweep(path: Path, job: Job, seeds: int) -> int:
    from robostack.training import sweep, sweep_cases
    from robostack.training.sweep_run import Share, has_ray

    if job.source:
        raise VerbError(
            "expected no --from beside --sweep, whose rows go on by a table `then`"
        )
    wanted = sweep.read(path)
    cases = sweep_cases.expand(wanted, job, seeds)
    share = Share(wanted.cpus, wanted.gpus) if has_ray() else None
    return _many(cases, job, share)


def _many(cases: list[Case], job: Job, share: Share | None = None) -> int:
    """Make many runs, and their table."""
    from robostack.training import sweep_table
    from robostack.training.sweep_run import Listener, do_cases

    count, done = sum(len(case.jobs) for case in cases), 0
    told: set[str] = set()
    with progress_bar(f"{count} runs") as show:

        def report(job: Job, progress: Progress) -> None:
            name = str(job.folder.relative_to(folder))
            _show(show, progress, f"{name}: ")

        def end(job: Job, ended: Ended) -> None:
            nonlocal done
            done += 1
            words = "finished" if ended.finished else ended.problem or "interrupted"
            if ended.problem not in told:  # those of one cause fail with one sentence
                console.print(f"  {job.folder}: {words}", highlight=False, markup=False)
            told.update({ended.problem} - {""})
            if share:
                show(done, count, "by Ray")

        folder = job.folder
        ended = do_cases(cases, Listener(report, end), share)
    lines = sweep_table.gather(cases, ended)
    sweep_table.write(folder, lines)
    table = Table(*sweep_table.HEAD)
    for line in lines:
        table.add_row(*sweep_table.cells(line))
    console.print(table, markup=False)
    console.print(f"{folder / 'table.md'}, {folder / 'table.json'}")
    if any(e.problem for e in ended.values()):
        return 1
    return 0 if all(e.finished for e in ended.values()) else INTERRUPTED


def _show(
    show: Callable[[int, int, str], None], progress: Progress, name: str = ""
) -> None:
    """Move the bar; print what is reported of an evaluation."""
    lived = progress.robot_steps
    steps = f" {lived} steps" if lived else ""
    show(progress.step, progress.steps, f"{name}{progress.updates_per_s:.0f}/s{steps}")
    shown = {k: v for k, v in progress.metrics.items() if "return" in k}
    if words := " ".join(f"{k} {v:.4g}" for k, v in shown.items()):
        console.print(f"  {name}update {progress.step}{steps and ','}{steps}: {words}")


VERBS = {"train": Verb(Train, train)}
