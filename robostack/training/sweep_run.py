"""Doing the runs of a sweep: by Ray where it is installed, else by this process.

Either way the results are the same, since every run is what it would be alone; but for
rounding where seeds learn together in this process (turns.py). Whoever is killed, the
same command with --resume goes on: finished runs are left as they are, begun ones go on
from their checkpoints.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from robostack.training.abreast import OnJob
from robostack.training.job import Job, finished
from robostack.training.problems import noted
from robostack.training.run import RunError
from robostack.training.sweep_cases import Case
from robostack.training.turns import Ended, attempt_all, held

OnEnd = Callable[[Job, Ended], None]


class Share(NamedTuple):
    """What one run takes of a machine, where Ray places it."""

    cpus: float = 1
    gpus: float = 0  # may be a fraction


class Listener(NamedTuple):
    """Who is told how it goes."""

    progress: OnJob = lambda *_: None  # not by Ray, whose runs are other processes
    end: OnEnd = lambda *_: None


def has_ray() -> bool:
    """Return whether Ray is installed."""
    return importlib.util.find_spec("ray") is not None


def do_cases(
    cases: Sequence[Case], listener: Listener, share: Share | None = None
) -> dict[Job, Ended]:
    """Do what is left of the cases; by Ray if a `share` is told.

    Raises:
        RunError: some of it was begun before, and nobody asked to resume.
    """
    jobs = [job for case in cases for job in case.jobs]
    _require_new(jobs)
    ended = {job: Ended(finished=True) for job in jobs if _is_finished(job)}
    if share:
        from robostack.training.sweep_ray import do_jobs

        return do_jobs(jobs, ended, share, listener.end)
    for case in cases:
        outcomes = _do_here(
            [job for job in case.jobs if job not in ended], ended, listener
        )
        for job, outcome in outcomes.items():
            listener.end(job, outcome)
        ended |= outcomes
        if Ended(finished=False) in outcomes.values():
            break
    return {job: ended.get(job, Ended(finished=False)) for job in jobs}


def _do_here(
    jobs: Sequence[Job], ended: Mapping[Job, Ended], listener: Listener
) -> dict[Job, Ended]:
    """Do jobs that differ by seed alone, in this process."""
    before: dict[Path | None, Ended] = {job.folder: end for job, end in ended.items()}
    outcomes = {job: end for job in jobs if (end := held(job, before.get(job.source)))}
    ready = [job for job in jobs if job not in outcomes]
    done = attempt_all(ready, listener.progress)
    return outcomes | dict(zip(ready, done, strict=True))


def _require_new(jobs: Sequence[Job]) -> None:
    begun = [job.folder for job in jobs if (job.folder / "run.json").exists()]
    if begun and not jobs[0].options.resume:
        raise RunError(
            f"expected folders without runs, {len(begun)} of {len(jobs)} are there "
            f"already ({begun[0]}): go on with them (--resume), or choose another --run"
        )


def _is_finished(job: Job) -> bool:
    """Return whether nothing is left; what cannot be read is told by who resumes it."""
    with noted({}, job):
        return finished(job)
    return False
