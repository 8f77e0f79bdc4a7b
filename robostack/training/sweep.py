"""Many runs out of one TOML file: seeds, algorithms, datasets, settings.

    seeds = 3                             sweep.toml: 0, 1 and 2; or a list of them
    algorithm = ["iql", "td3_bc"]
    recipe = "locomotion"
    world = "sim:gym/Hopper-v5"
    [grid]                                every combination
    inverse_temperature = [1.0, 3.0]
    [[runs]]                              each of these, with each of the above
    dataset = "hopper-medium"
    [[runs]]
    dataset = "hopper-expert"
    set = { steps = 500_000 }             settings for these alone

Keys mean what the flags of `robostack train` do. A list is a choice of several; what a
row of `runs` is silent about, the file says, and else the flags. A run lies at

    ALGORITHM/DATASET[/SETTING=VALUE,...]/SEED

below the folder of the sweep, or at NAME[/SETTING=VALUE,...]/SEED for a row that has a
`name`. What was learned by acting alone has the world in place of the dataset.
"""

from __future__ import annotations

import itertools
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from robostack import plugins
from robostack.training.job import Job, plan
from robostack.training.scores import reference

Value = bool | int | float | str | list[bool | int | float | str]


class SweepError(ValueError):
    """A sweep that cannot be meant."""


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Runs that differ in seed, algorithm, dataset or a setting of the grid."""

    name: str = ""  # in place of ALGORITHM/DATASET
    algorithm: str | list[str] = ""
    dataset: str | list[str] = ""  # folder
    recipe: str = ""
    seeds: int | list[int] = 0  # how many, from 0 on, or which; 0: as the flags say
    labeller: str = ""
    online: str = ""  # world to act in
    world: str = ""  # to evaluate in
    task: str = ""  # of the world
    d4rl_task: str = ""  # whose normalized score is reported
    set: dict[str, Value] = {}
    grid: dict[str, list[Value]] = {}
    paper: float | dict[str, float] | None = None  # reported elsewhere; by algorithm
    source: str = ""  # of the dataset, told to whoever lacks it


class Sweep(Row, frozen=True, forbid_unknown_fields=True):
    """What the file holds."""

    runs: list[Row] = []
    cpus: float = 1  # that one run takes, where Ray places it
    gpus: float = 0  # likewise; may be a fraction


class Case(NamedTuple):
    """Runs that differ in their seed alone."""

    name: str  # folder of the runs, below that of the sweep
    jobs: tuple[Job, ...]  # by seed
    paper: float | None = None
    source: str = ""  # of the dataset


def read(path: Path) -> Sweep:
    """Return the sweep in the TOML file `path`."""
    try:
        table = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SweepError(f"the sweep {path} cannot be read: {error}") from error
    for part, kind in [(table, Sweep), *((row, Row) for row in _rows(table))]:
        known = list(kind.__struct_fields__)
        for key in part:
            if key not in known:
                raise SweepError(plugins.unknown(f"a key of {path}", key, known))
    try:
        return msgspec.convert(table, Sweep)
    except msgspec.ValidationError as error:
        text = str(error)
        raise SweepError(
            f"the sweep {path} is not valid: {text[:1].lower()}{text[1:]}"
        ) from error


def _rows(table: dict[str, Any]) -> list[dict[str, Any]]:
    rows = table.get("runs", [])
    return [r for r in rows if isinstance(r, dict)] if isinstance(rows, list) else []


def expand(sweep: Sweep, job: Job, seeds: int) -> list[Case]:
    """Return the runs of `sweep`; what it is silent about is as in `job`.

    Only those of the job's algorithm, if it names one. Algorithms, recipes and settings
    are checked here, so that nothing begins that could not end.
    """
    rows = sweep.runs or [Row()]
    cases = [case for row in rows for case in _cases(_over(sweep, row), job, seeds)]
    if not cases:
        raise SweepError(f"expected runs of {job.algorithm!r} in the sweep, got none")
    names = [case.name for case in cases]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SweepError(
            f"expected runs that differ, got several of {', '.join(twice)}: give each "
            f"row a name"
        )
    for case in cases:
        _check(case.jobs[0])
    return cases


def one_case(job: Job, seeds: int) -> Case:
    """Return the runs of `job` with `seeds` seeds, from its own on."""
    return Case(_name(Row(), job, {}), _by_seed(job, _numbers(seeds, job.options.seed)))


def _over(sweep: Sweep, row: Row) -> Row:
    """Return `row`, with what it is silent about as the file says."""
    silent, said = Row(), {}
    for name in Row.__struct_fields__:
        own = getattr(row, name)
        said[name] = getattr(sweep, name) if own == getattr(silent, name) else own
    said["set"], said["grid"] = sweep.set | row.set, sweep.grid | row.grid
    return Row(**said)


def _cases(row: Row, base: Job, seeds: int) -> Iterator[Case]:
    """Give every choice that the row leaves, of the algorithm that is asked for."""
    _require_sense(row, base)
    algorithms = _listed(row.algorithm) or [base.algorithm]
    datasets = _listed(row.dataset) or [str(base.dataset or "")]
    points = itertools.product(*row.grid.values())
    for algorithm, dataset, point in itertools.product(algorithms, datasets, points):
        if base.algorithm in ("", algorithm):
            settings = dict(zip(row.grid, point, strict=True))
            job = _job(row, base, settings, algorithm=algorithm, dataset=dataset)
            name = _name(row, job, settings)
            paper = row.paper
            told = paper.get(algorithm) if isinstance(paper, dict) else paper
            placed = msgspec.structs.replace(job, folder=base.folder / name)
            numbers = _numbers(row.seeds or seeds or 1, base.options.seed)
            yield Case(name, _by_seed(placed, numbers), told, row.source)


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
    known = plugins.names("policies")
    for name in row.paper if isinstance(row.paper, dict) else ():
        if name not in known:
            raise SweepError(plugins.unknown("an algorithm of paper", name, known))


def _job(
    row: Row, base: Job, settings: dict[str, Value], *, algorithm: str, dataset: str
) -> Job:
    """Return one choice; flags change the settings of every run."""
    own = [f"{k}={_text(v)}" for k, v in (row.set | settings).items()]
    said = {name: getattr(row, name) for name in ("world", "task", "d4rl_task")}
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


def _name(row: Row, job: Job, settings: dict[str, Value]) -> str:
    """Return the folder of the runs, below that of the sweep."""
    place = job.dataset.name if job.dataset else _plain(job.online.partition(":")[2])
    words = ",".join(f"{k}={_plain(_text(v))}" for k, v in settings.items())
    parts = (row.name or f"{job.algorithm}/{place}".rstrip("/"), words)
    return "/".join(filter(None, parts))


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


def _check(job: Job) -> None:
    """Raise if there is no such algorithm, recipe, setting or task of D4RL."""
    plan(msgspec.structs.replace(job, source=None))
    if job.options.d4rl_task:
        reference(job.options.d4rl_task)


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) and value else list(value)


def _text(value: Value) -> str:
    """Return `value` as TOML; what it may be, TOML writes as JSON does."""
    return json.dumps(value)


def _plain(text: str) -> str:
    """Return `text` without what names of folders had better lack."""
    return re.sub(r"[^\w.+-]+", "-", text).strip("-")
