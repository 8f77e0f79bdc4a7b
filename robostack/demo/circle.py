"""The whole circle on an embedded twin, on the real parts, ending in a report.

    scripted operator -> logs/ -> IQL -> run/ -> policy.onnx
    a node in a process of its own <- ZMQ -> policy -> recordings/
    recordings/ -> recorded/, a dataset again -> report.html

Nothing here is special to the demo but the operator: every step is what the command of
the same name does.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from robostack import plugins
from robostack.bundle import Bundle
from robostack.data import dataset as datasets
from robostack.data.collect import collect
from robostack.data.dataset import Dataset
from robostack.data.episode import columns
from robostack.data.ingest import Source, ingest
from robostack.demo import page
from robostack.demo.page import Live, Results, Score
from robostack.export import export_run
from robostack.link.client import Client
from robostack.link.errors import LeftError
from robostack.node.embedded import subprocess_node
from robostack.node.recorder_process import RecorderProcess
from robostack.robot import Task, World
from robostack.runtime.loop import Job, Outcome, run_episode
from robostack.runtime.session import Session
from robostack.training import offline, recipe

WORLD, ALGORITHM, RECIPE = "so101_table", "iql", "so101_table"
_SKILL = 0.5  # of the operator: about half of the logs succeed
_TRIAL_SEED = 1_000_000  # apart from the seeds of the logs
_REAL_TIME_EPISODES = 3
_EVALUATIONS = 5  # on the way
_MOST_HELD = 5  # episodes that the watchdog may end, before we give up
_START_S = 30.0  # for the recorder to hear the node


class DemoError(RuntimeError):
    """The demo cannot go on."""


class Plan(NamedTuple):
    """How large a circle."""

    directory: Path
    task: str
    episodes: int  # logs to collect
    updates: int
    trials: int  # episodes that judge the policy
    seed: int

    @property
    def address(self) -> str:
        """The world, started so that there is something to do for the task."""
        return f"sim:{WORLD}/{self.task}"


def run(plan: Plan, console: Console) -> int:
    """Run the circle; return 0 if the policy beats its logs."""
    folder = plan.directory
    if folder.exists() and any(folder.iterdir()):
        raise DemoError(f"expected a new or empty folder for the demo, got {folder}")
    folder.mkdir(parents=True, exist_ok=True)
    task = _task(plan)
    watch = _Watch(console)
    with watch("1/6 collecting logs with an imperfect operator"):
        logs = _collect(plan, task, console)
    before = score(logs, task)
    console.print(f"    {_words(before)}")
    with watch(f"2/6 training {ALGORITHM} on them"):
        _train(plan, logs, console)
    with watch("3/6 exporting, with proof"):
        policy, proof = export_run(folder / "run", folder / "policy.onnx")
    console.print(f"    within {proof.action_error:.2g} of the trained policy")
    with watch(f"4/6 judging it over ZMQ, {plan.trials} episodes in lockstep"):
        trials = _trials(plan, policy, task)
    after = Score(
        np.array([o.returns for o in trials]), np.array([o.success for o in trials])
    )
    console.print(f"    {_words(after)}")
    with watch("5/6 driving the twin in real time, recorded"):
        live = _live(plan, policy, task)
    with watch("6/6 reading the recordings back, writing the report"):
        recorded = _read_back(folder)
        results = Results(before, after, proof, trials, live, recorded, watch.seconds)
        page.make(folder, plan.address, results).write(folder / "report.html")
    better = after.rate > before.rate
    console.print(
        f"[bold]{'the policy beats its logs' if better else 'no better than the logs'}"
        f"[/bold]: success {before.rate:.0%} -> {after.rate:.0%}, mean return "
        f"{before.returns.mean():.3g} -> {after.returns.mean():.3g}"
    )
    console.print(f"report: {(folder / 'report.html').resolve()}")
    return 0 if better else 1


def score(dataset: Dataset, task: Task) -> Score:
    """Return the returns and successes of logs, judged by the task's referee."""
    returns, success = [], []
    for episode in dataset:
        seen = columns(episode)
        returns.append(float(task.reward(seen).sum()))
        success.append(bool(task.success(seen)[-1]))
    return Score(np.array(returns), np.array(success))


def _task(plan: Plan) -> Task:
    task: Task = plugins.load("sim", WORLD).tasks(plan.task)[plan.task]
    return task


def _collect(plan: Plan, task: Task, console: Console) -> Dataset:
    module = plugins.load("sim", WORLD)
    world: World = module.make(plan.task)
    world.connect()
    with _bar(console, plan.episodes) as advance:
        try:
            episodes = collect(
                world,
                task,
                lambda seed: module.operator(plan.task, seed, _SKILL),
                seeds=range(plan.seed * 10_000, plan.seed * 10_000 + plan.episodes),
                labels={"task": plan.task, "policy": f"operator, skill {_SKILL}"},
                progress=advance,
            )
        finally:
            world.close()
    dataset = datasets.create(plan.directory / "logs", world.spec)
    dataset.append(episodes, {"source": "scripted operator", "world": plan.address})
    return dataset


def _train(plan: Plan, logs: Dataset, console: Console) -> None:
    every = max(1, plan.updates // _EVALUATIONS)
    changes = [f"steps={plan.updates}", f"evaluate_every={every}"]
    options = offline.Options(seed=plan.seed, world=plan.address, task=plan.task)
    with _bar(console, plan.updates) as advance:
        outcome = offline.train(
            logs,
            plan.directory / "run",
            recipe.read(ALGORITHM, RECIPE, changes),
            options,
            lambda progress: advance(progress.step),
        )
    if not outcome.finished:
        raise KeyboardInterrupt


def _trials(plan: Plan, policy: Bundle, task: Task) -> list[Outcome]:
    with subprocess_node(plan.address, lockstep=True) as node:
        return _drive(plan, node.endpoint, policy, task, plan.trials).outcomes


def _live(plan: Plan, policy: Bundle, task: Task) -> Live:
    recordings = plan.directory / "recordings"
    recordings.mkdir()
    with (
        subprocess_node(plan.address) as node,
        RecorderProcess(node.endpoint, recordings) as recorder,
    ):
        recorder.wait_ready(_START_S)
        return _drive(plan, node.endpoint, policy, task, _REAL_TIME_EPISODES)


def _drive(
    plan: Plan, endpoint: str, policy: Bundle, task: Task, episodes: int
) -> Live:
    """Run episodes; one that the watchdog ends, on a busy computer, is run again."""
    session = Session(policy)
    outcomes: list[Outcome] = []
    held: list[str] = []
    with Client(endpoint, name="robostack demo") as client:
        welcome = client.hello(policy.manifest.robot, policy.sha256)
        while len(outcomes) < episodes:
            labels = {"task": plan.task, "policy": policy.sha256}
            seed = _TRIAL_SEED + len(outcomes)
            session.reset()
            try:
                job = Job(task.horizon, task, seed, labels)
                outcomes.append(run_episode(client, welcome, session.act, job))
            except LeftError as error:
                held.append(str(error))
                if len(held) > _MOST_HELD:
                    raise
    return Live(outcomes, held)


def _read_back(folder: Path) -> Dataset:
    """Make a dataset of the recordings, as `robostack data import` does."""
    return ingest(Source(folder / "recordings"), folder / "recorded").dataset


def _words(result: Score) -> str:
    return (
        f"success {result.rate:.0%} of {len(result.success)} episodes, "
        f"mean return {result.returns.mean():.3g}"
    )


@contextlib.contextmanager
def _bar(console: Console, total: int) -> Iterator[Callable[[int], None]]:
    bar = (TextColumn("   "), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*bar, console=console, transient=True) as progress:
        task = progress.add_task("", total=total)
        yield lambda done: progress.update(task, completed=done)


class _Watch:
    """Says what is going on, and keeps how long it took."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        """Time one step."""
        self._console.print(f"[cyan]{step}[/cyan]", highlight=False)
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[step] = time.perf_counter() - start
