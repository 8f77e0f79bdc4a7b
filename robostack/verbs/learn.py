"""`robostack train`, `evaluate` and `export`: from logs to a bundle."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import numpy as np
import tyro
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from tyro.conf import Positional

from .verb import Verb, VerbError, console, print_json

if TYPE_CHECKING:
    from robostack.training.recipe import Recipe


Source = Annotated[Path | None, tyro.conf.arg(name="from")]


class Train(msgspec.Struct, frozen=True):
    """Train a policy from logs, by acting in a world, or by both.

    TensorBoard scalars and checkpoints go into the run. Ctrl-C leaves a checkpoint;
    --resume goes on as if never stopped, to the bit.
    """

    algorithm: Positional[str]  # one of `robostack list algorithms`
    run: Path  # folder of the run
    dataset: Path | None = None  # folder to learn from; online: beside what is lived
    online: str = ""  # learn by acting in a world, for example sim:gym/Hopper-v5
    source: Source = None  # run to go on from online, its recipe `online` by default
    warmup_steps: int | None = None  # of the policy as it is; default: the recipe's
    recipe: str = ""  # one that comes with the algorithm, or a .toml file
    set: tuple[str, ...] = ()  # key=value: settings of the recipe or the algorithm
    labeller: str = ""  # whose rewards; default: the recipe's, or the only ones there
    steps: int = 0  # updates; 0: the recipe's
    seed: int = 0
    threads: int = 1  # of math libraries; OMP_NUM_THREADS has the last word
    resume: bool = False  # go on with the run in that folder, or begin it
    world: str = ""  # evaluate on a schedule in; default: where it acts
    task: str = ""  # of the world; default: its first


class Evaluate(msgspec.Struct, frozen=True):
    """Judge a run or a bundle in a world, in this process, or from logs alone.

    --ope tells from --dataset what policies would earn that never acted: fqe learns
    their critics, several at once; wis reweighs what was logged; am_q is a score from
    a learned model, to rank policies by, and no return.
    """

    policy: Positional[tuple[Path, ...]]  # run or .onnx file; with --ope any number
    world: str = ""  # sim:WORLD[/ARGUMENT]
    task: str = ""  # of the world; default: its first
    episodes: int = 20
    seed: int = 0
    d4rl_task: str = ""  # also the normalized score, if the world is that very task
    ope: str = ""  # estimators, with commas between: fqe,wis,am_q
    dataset: Path | None = None  # folder of the logs to tell from
    labeller: str = ""  # whose rewards; default: the only ones there
    gamma: float = 0.99  # discount per step of what is estimated
    seeds: int = 4  # fits, where an estimator fits anything
    draw: bool = False  # judge drawn actions; wis always does
    json: bool = False  # as JSON


class Export(msgspec.Struct, frozen=True):
    """Write a trained policy as one ONNX file, proved against it or not at all."""

    run: Positional[Path]  # folder that `robostack train` wrote
    bundle: Positional[Path]  # file to write, for example policy.onnx
    tolerance: float = 1e-5  # largest difference from the trained policy [action unit]


def train(flags: Train) -> int:
    """Train, with a progress bar."""
    from robostack.data.dataset import open_dataset
    from robostack.training import offline, online
    from robostack.training.process import prepare
    from robostack.training.setting import Setting

    prepare(flags.threads)
    _require_possible(flags)
    dataset = open_dataset(flags.dataset) if flags.dataset else None
    plan = _recipe(flags, [] if dataset is None else dataset.labellers())
    options = offline.Options(
        seed=flags.seed,
        threads=flags.threads,
        resume=flags.resume,
        world=flags.world,
        task=flags.task,
    )
    with progress_bar("training") as show:

        def report(progress: offline.Progress) -> None:
            words = _words(progress.metrics)
            lived = progress.robot_steps
            steps = f" {lived} steps" if lived else ""
            rate = f"{progress.updates_per_s:.0f}/s{steps}"
            show(progress.step, progress.steps, rate)
            if words:
                console.print(
                    f"  update {progress.step}{steps and ','}{steps}: {words}"
                )

        if flags.online:
            setting = Setting(flags.online, flags.task, dataset, flags.source)
            outcome = online.train(setting, flags.run, plan, options, report)
        else:
            assert dataset is not None
            outcome = offline.train(dataset, flags.run, plan, options, report)
    if not outcome.finished:
        console.print(
            f"stopped at update {outcome.step}; robostack train ... --resume goes on"
        )
        return 130
    console.print(f"{flags.run}: {outcome.step} updates")
    return 0


def _require_possible(flags: Train) -> None:
    if not flags.online and flags.dataset is None:
        raise VerbError(
            "expected --dataset FOLDER to learn from logs, or --online sim:WORLD to "
            "learn by acting, got neither"
        )
    if not flags.online and (flags.source or flags.warmup_steps is not None):
        raise VerbError("expected --online sim:WORLD beside --from or --warmup-steps")


def _recipe(flags: Train, labellers: list[str]) -> Recipe:
    """Return the recipe that the flags ask for."""
    from robostack.training import recipe, run

    changes = list(flags.set)
    if flags.steps:
        changes.append(f"steps={flags.steps}")
    if flags.warmup_steps is not None:
        changes.append(f"warmup_steps={flags.warmup_steps}")
    if labeller := flags.labeller or only(labellers):
        changes.append(f"labeller={labeller}")
    if not flags.source:
        return recipe.read(flags.algorithm, flags.recipe, changes)
    own = "online" if "online" in recipe.names(flags.algorithm) else ""
    inherited = run.heritage(run.read(flags.source), flags.algorithm)
    return recipe.read(flags.algorithm, flags.recipe or own, changes, inherited)


def _words(metrics: dict[str, float]) -> str:
    """Return what is printed of a report."""
    shown = {name: value for name, value in metrics.items() if "return" in name}
    return " ".join(f"{name} {value:.4g}" for name, value in shown.items())


def evaluate(flags: Evaluate) -> int:
    """Judge policies."""
    if bool(flags.ope) == bool(flags.world):
        raise VerbError("expected either --world, or --ope with --dataset")
    return _tell(flags) if flags.ope else _try(flags)


def _tell(flags: Evaluate) -> int:
    """Judge policies from logs."""
    from .ope import Question, judge

    if flags.dataset is None:
        raise VerbError("expected --dataset, the logs that --ope tells from")
    question = Question(
        policies=flags.policy,
        dataset=flags.dataset,
        estimators=tuple(flags.ope.split(",")),
        labeller=flags.labeller,
        gamma=flags.gamma,
        seeds=flags.seeds,
        seed=flags.seed,
        draw=flags.draw,
    )
    with progress_bar("off-policy evaluation") as show:
        estimates = judge(question, show)
    if flags.json:
        print_json(estimates)
        return 0
    table = Table(
        "policy", "estimator", "value", "interval, 95 %", "effective episodes"
    )
    for row in estimates:
        ess = "" if row.ess is None else f"{row.ess:.1f}"
        ends = f"{row.low:.4g} to {row.high:.4g}"
        table.add_row(row.policy, row.estimator, f"{row.value:.4g}", ends, ess)
    console.print(table)
    return 0


def _try(flags: Evaluate) -> int:
    """Judge a policy in a world."""
    from robostack.training import evaluate as evaluating
    from robostack.training import scores

    if len(flags.policy) != 1:
        raise VerbError(f"expected one policy to try, got {len(flags.policy)}")
    arena = evaluating.open_arena(flags.world, flags.task)
    try:
        policy = _policy(flags.policy[0], arena, flags.world)
        with console.status(f"{flags.episodes} episodes in {flags.world}"):
            result = evaluating.evaluate(
                policy, arena, episodes=flags.episodes, seed=flags.seed
            )
    finally:
        arena.world.close()
    metrics = result.metrics()
    if flags.d4rl_task:
        score = scores.normalized(flags.d4rl_task, metrics["evaluation/return"])
        metrics["evaluation/d4rl_score"] = score
    if flags.json:
        print_json(metrics | {"returns": result.returns.tolist()})
        return 0
    for name, value in metrics.items():
        console.print(f"{name.removeprefix('evaluation/')}: {value:.4g}")
    return 0


def export(flags: Export) -> int:
    """Export a run."""
    from robostack.export import export_run

    policy, proof = export_run(flags.run, flags.bundle, tolerance=flags.tolerance)
    size = flags.bundle.stat().st_size / 1e3
    console.print(
        f"wrote {flags.bundle} ({size:.0f} kB, sha256 {policy.sha256[:16]}): within "
        f"{max(proof.action_error, proof.sample_error):.2g} of the trained policy on "
        f"{proof.rows} observations in batches of {proof.batch_sizes}"
    )
    return 0


def only(labellers: list[str]) -> str:
    """Return the labeller if there is one alone, else "": the recipe decides."""
    return labellers[0] if len(labellers) == 1 else ""


@contextlib.contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int, str], None]]:
    """Give a function (done, total, words) that draws a bar."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[words]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=None, words="")

        def show(done: int, total: int, words: str = "") -> None:
            bar.update(task, completed=done, total=total, words=words)

        yield show


def _policy(path: Path, arena: object, world: str) -> Callable[..., np.ndarray]:
    from robostack.training import evaluate as evaluating

    assert isinstance(arena, evaluating.Arena)
    if path.is_dir():
        from robostack.training.run import load_run

        learner = load_run(path)
        evaluating.require(arena, learner.spec, world)
        return evaluating.deterministic(learner)
    from robostack import bundle
    from robostack.runtime.session import Session

    policy = bundle.read(path)
    evaluating.require(arena, policy.manifest.robot, world)
    return Session(policy).act


VERBS = {
    "train": Verb(Train, train),
    "evaluate": Verb(Evaluate, evaluate),
    "export": Verb(Export, export),
}
