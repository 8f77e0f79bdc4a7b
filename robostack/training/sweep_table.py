"""What a sweep found, in one table: ours, over seeds, beside what is reported.

Numbers are read from the folders of the runs: the last evaluation of each that is
finished. The spread is the standard deviation of a sample, so it needs two of them.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from robostack.data.atomic import write_file
from robostack.training import curves
from robostack.training.job import Job
from robostack.training.sweep_cases import Case
from robostack.training.turns import Ended

SCORE, RETURN = "evaluation/d4rl_score", "evaluation/return"
HEAD = ("run", "measure", "mean ± std", "each seed", "paper", "what is missing")


class Seed(msgspec.Struct, frozen=True):
    """What one run came to."""

    seed: int
    finished: bool
    step: int | None  # of its last evaluation
    evaluation: dict[str, float]
    problem: str


class Line(msgspec.Struct, frozen=True):
    """What the runs of one case came to."""

    name: str
    measure: str  # "score" of D4RL, or "return"
    mean: float | None  # over finished runs
    std: float | None  # of a sample
    paper: float | None
    seeds: list[Seed]
    missing: str  # sentences


def gather(cases: Sequence[Case], ended: Mapping[Job, Ended]) -> list[Line]:
    """Return a line for every case."""
    return [_line(case, ended) for case in cases]


def _line(case: Case, ended: Mapping[Job, Ended]) -> Line:
    seeds = [_seed(job, ended[job]) for job in case.jobs]
    key = SCORE if case.jobs[0].options.d4rl_task else RETURN
    values = [s.evaluation[key] for s in seeds if s.finished and key in s.evaluation]
    problems = dict.fromkeys(s.problem for s in seeds if s.problem)
    if problems and case.origin and not _is_there(case.jobs[0].dataset):
        problems[f"its files: {case.origin}"] = None
    if stopped := [str(s.seed) for s in seeds if not (s.finished or s.problem)]:
        problems[f"seed {', '.join(stopped)} is not finished: --resume goes on"] = None
    if not values and all(s.finished for s in seeds):
        problems["it was never evaluated: name a world"] = None
    return Line(
        name=case.name,
        measure=key.rpartition("_" if key == SCORE else "/")[2],
        mean=statistics.fmean(values) if values else None,
        std=statistics.stdev(values) if len(values) > 1 else None,
        paper=case.paper,
        seeds=seeds,
        missing="; ".join(problems),
    )


def _is_there(dataset: Path | None) -> bool:
    return dataset is not None and (dataset / "dataset.json").exists()


def _seed(job: Job, ended: Ended) -> Seed:
    lines = [line for line in curves.read(job.folder) if RETURN in line]
    last = lines[-1] if lines else {}
    return Seed(
        seed=job.options.seed,
        finished=ended.finished,
        step=last.get("step"),
        evaluation={k: v for k, v in last.items() if k.startswith("evaluation/")},
        problem=ended.problem,
    )


def cells(line: Line) -> tuple[str, ...]:
    """Return the line as text, in the order of `HEAD`."""
    key = SCORE if line.measure == "score" else RETURN
    each = [
        f"{s.evaluation[key]:.4g}" if key in s.evaluation else "-" for s in line.seeds
    ]
    mean = "-" if line.mean is None else f"{line.mean:.4g}"
    spread = "" if line.std is None else f" ± {line.std:.2g}"
    paper = "" if line.paper is None else f"{line.paper:g}"
    return line.name, line.measure, mean + spread, " ".join(each), paper, line.missing


def write(folder: Path, lines: Sequence[Line]) -> None:
    """Write table.md and table.json into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [HEAD, ("---",) * len(HEAD), *map(cells, lines)]
    text = "".join(f"| {' | '.join(_cell(c) for c in row)} |\n" for row in rows)
    write_file(folder / "table.md", text.encode())
    write_file(folder / "table.json", msgspec.json.format(msgspec.json.encode(lines)))


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
