"""Several runs by one process: each as if it were alone, to the bit.

    one after another   any jobs
    in turn             one job with several seeds, learning from logs: the transitions
                        are loaded once, and each run goes on by a slice of updates

In turn all of them are about as far at any moment. One batched axis over the seeds, a
single matrix product for all, would share the overhead of small kernels; but it rounds
otherwise than a run alone, and every algorithm would have to be written for it. What it
would gain on a processor is measured by benchmarks/seeds.py.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from robostack.data.dataset import open_dataset
from robostack.sentence import sentence
from robostack.training import job as jobs
from robostack.training import offline
from robostack.training.interrupt import interruptible
from robostack.training.job import Job
from robostack.training.journal import Progress
from robostack.training.offline import Course
from robostack.training.process import prepare

_LOG = logging.getLogger(__name__)


class Ended(NamedTuple):
    """How a job ended; neither finished nor with a problem: it was interrupted."""

    finished: bool
    problem: str = ""  # one sentence


OnJob = Callable[[Job, Progress], None]


@contextmanager
def noted(problems: dict[Job, str], *concerned: Job) -> Iterator[None]:
    """Write down what goes wrong, so that it ends these jobs and no others."""
    try:
        yield
    except Exception as error:  # a bug in one run may not cost the others theirs
        words = sentence(error)
        if not words:
            words = f"{type(error).__name__}: {error}"
            _LOG.exception("%s", concerned[0].folder)
        problems.update(dict.fromkeys(concerned, words))


def held(job: Job, before: Ended | None) -> Ended | None:
    """Return how `job` ended for lack of the run that it goes on from, if it did."""
    if before is None or before.finished:
        return None
    cause = f"expected {job.source} to be finished first" if before.problem else ""
    return Ended(finished=False, problem=cause)


def attempt(job: Job, on_progress: OnJob = lambda *_: None) -> Ended:
    """Do one job."""
    problems: dict[Job, str] = {}
    finished = False
    with noted(problems, job):
        outcome = jobs.perform(job, lambda progress: on_progress(job, progress))
        finished = outcome.finished
    return Ended(finished, problems.get(job, ""))


def attempt_all(seeds: Sequence[Job], on_progress: OnJob) -> list[Ended]:
    """Do jobs that differ by seed alone: in turn where they learn from logs."""
    if len(seeds) > 1 and _from_logs(seeds[0]):
        return _in_turn(seeds, on_progress)
    ended: list[Ended] = []
    for job in seeds:
        stopped = ended and not (ended[-1].finished or ended[-1].problem)
        ended.append(Ended(finished=False) if stopped else attempt(job, on_progress))
    return ended


def _from_logs(job: Job) -> bool:
    """Return whether the job acts in no world, as far as can be told."""
    worlds = []
    with noted({}, job):
        dataset = open_dataset(job.dataset) if job.dataset else None
        worlds = [jobs.acts_in(job, dataset)]
    return worlds == [""] and job.dataset is not None


def _in_turn(seeds: Sequence[Job], on_progress: OnJob) -> list[Ended]:
    """Give every run a slice of updates, again and again, until all have ended."""
    problems: dict[Job, str] = {}
    courses: dict[Job, Course] = {}
    with ExitStack() as stack, interruptible() as interrupted:
        with noted(problems, *seeds):
            courses = _open(seeds, stack, problems)
        while (left := _left(courses, problems)) and not interrupted():
            for job in left:
                course, every = courses[job], job.options.report_every
                with noted(problems, job):
                    course.advance(
                        (course.step // every + 1) * every,
                        interrupted,
                        lambda progress, job=job: on_progress(job, progress),  # type: ignore[misc]
                    )
                    if course.outcome.finished:
                        course.save()
        for job in _left(courses, problems):  # interrupted
            with noted(problems, job):
                courses[job].save()
    done = {job for job, course in courses.items() if course.outcome.finished}
    return [
        Ended(job in done - problems.keys(), problems.get(job, "")) for job in seeds
    ]


def _open(
    seeds: Sequence[Job], stack: ExitStack, problems: dict[Job, str]
) -> dict[Job, Course]:
    """Return the runs, begun or resumed, on the transitions that they share."""
    first, courses = seeds[0], {}
    prepare(first.options.threads)
    assert first.dataset is not None
    dataset = open_dataset(first.dataset)
    recipe = jobs.plan(first, dataset)
    replay = offline.load_replay(dataset, recipe, first.options.stream)
    for job in seeds:
        with noted(problems, job):
            courses[job] = stack.enter_context(
                offline.opened(dataset, job.folder, recipe, job.options, replay)
            )
    return courses


def _left(courses: dict[Job, Course], problems: dict[Job, str]) -> list[Job]:
    """Return the jobs that go on."""
    return [
        job
        for job, course in courses.items()
        if not course.outcome.finished and job not in problems
    ]
