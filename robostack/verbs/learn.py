"""`robostack evaluate` and `export`: from a run to a bundle."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
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
    "evaluate": Verb(Evaluate, evaluate),
    "export": Verb(Export, export),
}
