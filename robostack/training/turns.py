"""Several runs by one process; what goes wrong in one costs no other.

    one after another   any jobs
    together            one job with several seeds, learning from logs, of an algorithm
                        that can: one update of all (abreast.py)
    in turn             those of other algorithms, or where it is asked for: each run
                        goes on by a slice of updates

One after another or in turn, a run is what it is alone, to the bit. Together it is that
but for rounding, which other runs are part of: the same runs side by side give the same
again. So it is with runs that were killed and are resumed: to the bit if all stand at
the same update, as after Ctrl-C; killed while some had saved and others not yet, those
behind first catch up, and what they did meanwhile is rounded otherwise.

Learning makes more of a difference by rounding, as of one between two processors: after
many updates a run is one of that seed's, no longer that very one.

Together or in turn, the transitions are loaded once, and all are about as far at any
moment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import NamedTuple

from robostack.data.dataset import open_dataset
from robostack.training import job as jobs
from robostack.training import offline
from robostack.training.abreast import Abreast, OnJob
from robostack.training.interrupt import interruptible
from robostack.training.job import Job
from robostack.training.offline import Course
from robostack.training.problems import noted
from robostack.training.process import prepare


class Ended(NamedTuple):
    """How a job ended; neither finished nor with a problem: it was interrupted."""

    finished: bool
    problem: str = ""  # one sentence


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
    """Do jobs that differ by seed alone: at once where they learn from logs."""
    if len(seeds) > 1 and _from_logs(seeds[0]):
        return _at_once(seeds, on_progress)
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


def _at_once(seeds: Sequence[Job], on_progress: OnJob) -> list[Ended]:
    """Give the runs a slice of updates, again and again, until all have ended."""
    problems: dict[Job, str] = {}
    courses: dict[Job, Course] = {}
    with ExitStack() as stack, interruptible() as interrupted:
        with noted(problems, *seeds):
            courses = _open(seeds, stack, problems)
        abreast = Abreast(courses, problems, on_progress)
        while (left := _left(courses, problems)) and not interrupted():
            for group, until in _slices(left):
                abreast.advance(group, until, interrupted)
        for job in _left(courses, problems):  # interrupted
            with noted(problems, job):
                courses[job].save()
    done = {job for job, course in courses.items() if course.outcome.finished}
    return [
        Ended(job in done - problems.keys(), problems.get(job, "")) for job in seeds
    ]


def _slices(left: Mapping[Job, Course]) -> list[tuple[list[Job], int]]:
    """Return which runs go on, those of a group together, and up to what update.

    Those that are behind come first, until they meet others.
    """
    first, every = next(iter(left)), next(iter(left)).options.report_every
    after = {job: (c.step // every + 1) * every for job, c in left.items()}
    if first.options.in_turn or not left[first].joins:
        return [([job], until) for job, until in after.items()]
    steps = sorted({course.step for course in left.values()})
    group = [job for job, course in left.items() if course.step == steps[0]]
    return [(group, min([after[group[0]], *steps[1:]]))]


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


def _left(courses: dict[Job, Course], problems: dict[Job, str]) -> dict[Job, Course]:
    """Return the runs that go on."""
    return {
        job: course
        for job, course in courses.items()
        if not course.outcome.finished and job not in problems
    }
