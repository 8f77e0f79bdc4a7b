"""Runs as tasks of Ray, which places them, on this machine or on a cluster.

Every run is one task with its share of processors. Ray begins it again if its process
dies, and it resumes. On a cluster (RAY_ADDRESS) all machines need the same folders.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from robostack.training.interrupt import interruptible
from robostack.training.job import Job
from robostack.training.turns import Ended, attempt, held

if TYPE_CHECKING:
    from robostack.training.sweep_run import Share

_LOOK_S = 0.5  # after which an interruption is noticed
_RETRIES = 3  # of a run whose process died, by a full memory for example


def do_jobs(
    jobs: Sequence[Job],
    ended: Mapping[Job, Ended],
    share: Share,
    on_end: Callable[[Job, Ended], None],
) -> dict[Job, Ended]:
    """Do the jobs that have not `ended`; return how all did.

    A job that goes on from another waits for it. An interruption stops those that are
    under way, with a checkpoint each.
    """
    left = [job for job in jobs if job not in ended]
    if not left:
        return dict(ended)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        waiting = _submit(ray, left, ended, share)
        found = dict(ended)
        with interruptible() as interrupted:
            cancelled = False
            while waiting:
                if interrupted() and not cancelled:
                    cancelled = True
                    for reference in waiting:
                        ray.cancel(reference)
                done, _ = ray.wait(list(waiting), timeout=_LOOK_S)
                for reference in done:
                    job = waiting.pop(reference)
                    found[job] = _ended(ray, reference)
                    on_end(job, found[job])
    finally:
        ray.shutdown()
    return found


def _submit(
    ray: Any, jobs: Sequence[Job], ended: Mapping[Job, Ended], share: Share
) -> dict[Any, Job]:
    """Return the tasks, each of which has been told what it waits for."""
    options = {"num_cpus": share.cpus, "num_gpus": share.gpus}
    task = ray.remote(max_retries=_RETRIES, **options)(_after)
    before: dict[Path | None, Any] = {job.folder: end for job, end in ended.items()}
    waiting = {}
    for job in jobs:
        reference = task.remote(_anywhere(job), before.get(job.source))
        before[job.folder] = reference
        waiting[reference] = job
    return waiting


def _after(job: Job, before: Ended | None) -> Ended:
    return held(job, before) or attempt(job)


def _anywhere(job: Job) -> Job:
    """Return `job` as any process can do it, also again after it was killed."""
    recipe = job.recipe
    return msgspec.structs.replace(
        job,
        folder=job.folder.resolve(),
        dataset=job.dataset.resolve() if job.dataset else None,
        source=job.source.resolve() if job.source else None,
        recipe=str(Path(recipe).resolve()) if recipe.endswith(".toml") else recipe,
        options=msgspec.structs.replace(job.options, resume=True),
    )


def _ended(ray: Any, reference: Any) -> Ended:
    """Return how the task ended."""
    try:
        ended: Ended = ray.get(reference)
    except ray.exceptions.TaskCancelledError:
        return Ended(finished=False)
    except ray.exceptions.RayError as error:  # killed more often than it was retried
        return Ended(finished=False, problem=str(error).splitlines()[0])
    return ended
