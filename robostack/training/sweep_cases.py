"""The runs that a sweep means, each a job of its own.

Algorithms, recipes, settings and tasks are checked here, so that nothing begins that
could not end. Datasets and worlds are not: where one is missing, the others go on.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from robostack import plugins
from robostack.training.job import Job, plan
from robostack.training.scores import reference
from robostack.training.sweep import Row, Sweep, SweepError, Then, Value


class Case(NamedTuple):
    """Runs that differ in their seed alone."""

    name: str  # folder of the runs, below that of the sweep
    algorithm: str  # of the first run, where one goes on from another
    jobs: tuple[Job, ...]  # by seed
    paper: float | None = None
    origin: str = ""  # of the dataset


def expand(sweep: Sweep, job: Job, seeds: int) -> list[Case]:
    """Return the runs of `sweep`; what it is silent about is as in `job`.

    Only those of the job's algorithm, if it names one.
    """
    rows = sweep.runs or [Row()]
    cases = [case for row in rows for case in _cases(_over(sweep, row), job, seeds)]
    names = [case.name for case in cases]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SweepError(
            f"expected runs that differ, got several of {', '.join(twice)}: give each "
            f"row a name"
        )
    papers = _flat(sweep.paper)
    for name in papers:
        if name not in names:
            raise SweepError(plugins.unknown("a name in paper", name, names))
    chosen = [case for case in cases if job.algorithm in ("", case.algorithm)]
    if not chosen:
        raise SweepError(f"expected runs of {job.algorithm!r} in the sweep, got none")
    _check([case.jobs[0] for case in chosen])
    return [case._replace(paper=papers.get(case.name)) for case in chosen]


def one_case(job: Job, seeds: int) -> Case:
    """Return the runs of `job` with `seeds` seeds, from its own on."""
    jobs = _by_seed(job, _numbers(seeds, job.options.seed))
    return Case(_name(Row(), job, {}), job.algorithm, jobs)


def _over(sweep: Sweep, row: Row) -> Row:
    """Return `row`, with what it is silent about as the file says."""
    silent, said = Row(), {}
    for name in Row.__struct_fields__:
        own = getattr(row, name)
        said[name] = getattr(sweep, name) if own == getattr(silent, name) else own
    said["set"], said["grid"] = sweep.set | row.set, sweep.grid | row.grid
    return Row(**said)


def _cases(row: Row, base: Job, seeds: int) -> Iterator[Case]:
    """Give every choice that the row leaves."""
    _require_sense(row, base)
    algorithms = _listed(row.algorithm) or [base.algorithm]
    datasets = _listed(row.dataset) or [str(base.dataset or "")]
    points = itertools.product(*row.grid.values())
    for algorithm, dataset, point in itertools.product(algorithms, datasets, points):
        settings = dict(zip(row.grid, point, strict=True))
        job = _job(row, base, settings, algorithm=algorithm, dataset=dataset)
        name = _name(row, job, settings)
        placed = msgspec.structs.replace(job, folder=base.folder / name)
        jobs = _by_seed(placed, _numbers(row.seeds or seeds or 1, base.options.seed))
        case = Case(name, algorithm, jobs, origin=row.origin)
        yield case
        if then := row.then:
            after = tuple(_after(job, then, base.changes) for job in jobs)
            yield case._replace(name=f"{name}/then", jobs=after)


def _after(job: Job, then: Then, changes: tuple[str, ...]) -> Job:
    """Return how `job` goes on."""
    return msgspec.structs.replace(
        job,
        algorithm=then.algorithm or job.algorithm,
        folder=job.folder.parent / "then" / job.folder.name,
        dataset=job.dataset if then.beside_data else None,
        online=then.online,
        source=job.folder,
        recipe=then.recipe,
        changes=(*_changes(then.set), *changes),
    )


def _require_sense(row: Row, base: Job) -> None:
    changed = {change.partition("=")[0] for change in base.changes}
    if twice := sorted(changed & row.grid.keys()):
        raise SweepError(
            f"expected {', '.join(twice)} in the grid or as a flag, got both"
        )
    if empty := [name for name, values in row.grid.items() if not values]:
        raise SweepError(f"expected values of {', '.join(empty)} in the grid, got none")
    if not (row.algorithm or base.algorithm):
        raise SweepError(
            "expected an algorithm in the sweep, or as the first word after train"
        )


def _job(
    row: Row, base: Job, settings: dict[str, Value], *, algorithm: str, dataset: str
) -> Job:
    """Return one choice; flags change the settings of every run."""
    own = _changes(row.set | settings)
    scored = row.d4rl_task
    task = Path(dataset).name if scored is True else scored
    said = {"world": row.world, "task": row.task, "d4rl_task": task}
    options = msgspec.structs.replace(
        base.options, **{name: value for name, value in said.items() if value}
    )
    return msgspec.structs.replace(
        base,
        algorithm=algorithm,
        dataset=Path(dataset) if dataset else None,
        online=row.online or base.online,
        recipe=row.recipe or base.recipe,
        labeller=row.labeller or base.labeller,
        changes=(*own, *base.changes),
        options=options,
    )


def _changes(settings: dict[str, Value]) -> tuple[str, ...]:
    return tuple(f"{k}={_text(v)}" for k, v in settings.items())


def _name(row: Row, job: Job, settings: dict[str, Value]) -> str:
    """Return the folder of the runs, below that of the sweep."""
    place = job.dataset.name if job.dataset else _plain(job.online.partition(":")[2])
    words = ",".join(f"{k}={_plain(_text(v))}" for k, v in settings.items())
    return "/".join(filter(None, (row.name, job.algorithm, place, words)))


def _numbers(seeds: int | list[int], first: int) -> list[int]:
    """Return the seeds that `seeds` means."""
    numbers = seeds if isinstance(seeds, list) else range(first, first + seeds)
    if not numbers or min(numbers) < 0 or len(set(numbers)) < len(numbers):
        raise SweepError(
            f"expected how many seeds there are, or different ones, got {seeds}"
        )
    return list(numbers)


def _by_seed(job: Job, seeds: list[int]) -> tuple[Job, ...]:
    return tuple(
        msgspec.structs.replace(
            job,
            folder=job.folder / str(seed),
            options=msgspec.structs.replace(job.options, seed=seed),
        )
        for seed in seeds
    )


def _check(jobs: list[Job]) -> None:
    """Raise if there is no such algorithm, recipe, setting or task of D4RL."""
    for algorithm, recipe, changes in {
        (j.algorithm, j.recipe, j.changes) for j in jobs
    }:
        plan(Job(algorithm, Path(), recipe=recipe, changes=changes))
    for task in {job.options.d4rl_task for job in jobs} - {""}:
        reference(task)


def _flat(paper: dict[str, float | dict[str, float]]) -> dict[str, float]:
    """Return what is reported, by the names of cases."""
    flat: dict[str, float] = {}
    for name, told in paper.items():
        below = told if isinstance(told, dict) else {"": told}
        flat |= {f"{name}/{rest}".rstrip("/"): value for rest, value in below.items()}
    return flat


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) and value else list(value)


def _text(value: Value) -> str:
    """Return `value` as TOML; what it may be, TOML writes as JSON does."""
    return json.dumps(value)


def _plain(text: str) -> str:
    """Return `text` without what names of folders had better lack."""
    return re.sub(r"[^\w.+-]+", "-", text).strip("-")
