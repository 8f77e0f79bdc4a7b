"""Runs at the same update that learn together: one update of all, where each reports.

What one of them cannot do, the others do without it. A batch that cannot be used is
told by the run that drew it, alone; the others have learned from theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from typing import SupportsFloat

from robostack.learner import Batch, Joining, LearnerError, Together
from robostack.training.job import Job
from robostack.training.journal import Progress
from robostack.training.offline import Course
from robostack.training.problems import noted

OnJob = Callable[[Job, Progress], None]
Draws = dict[Job, Callable[[], Batch]]
Metrics = dict[Job, dict[str, SupportsFloat]]


class Abreast:
    """Some of the runs of several seeds, advanced together or one alone."""

    def __init__(
        self,
        courses: Mapping[Job, Course],
        problems: dict[Job, str],
        on_progress: OnJob,
    ) -> None:
        """Note `problems` of runs that cannot go on; tell `on_progress` of others."""
        self._courses = courses
        self._problems = problems
        self._on_progress = on_progress
        self._jobs: list[Job] = []  # those that are joined
        self._together: Together | None = None

    def advance(
        self, jobs: list[Job], until: int, interrupted: Callable[[], bool]
    ) -> None:
        """Update runs, all at the same update, up to `until` unless interrupted.

        They stop before if one of them cannot go on.
        """
        until = min(until, self._courses[jobs[0]].steps)
        with noted(self._problems, *jobs):
            if len(jobs) == 1:
                tell = partial(self._on_progress, jobs[0])
                self._courses[jobs[0]].advance(until, interrupted, tell)
            else:
                self._join(jobs)
                self._advance(jobs, until, interrupted)
        for job in jobs:
            if self._courses[job].outcome.finished and job not in self._problems:
                with noted(self._problems, job):
                    self._courses[job].save()

    def _join(self, jobs: list[Job]) -> None:
        if self._together is None or self._jobs != jobs:
            first, *others = (self._courses[job].learner for job in jobs)
            assert isinstance(first, Joining)  # else they advance one by one
            self._together, self._jobs = first.join(others), jobs

    def _advance(
        self, jobs: Sequence[Job], until: int, interrupted: Callable[[], bool]
    ) -> None:
        courses = [self._courses[job] for job in jobs]
        with ExitStack() as stack:
            draws: Draws = {
                job: stack.enter_context(course.drawing())
                for job, course in zip(jobs, courses, strict=True)
            }
            for course in courses:
                course.start()
            while self._together and courses[0].step < until and not interrupted():
                self._tell(self._update(draws))
            for course in courses:
                course.pause()

    def _update(self, draws: Draws) -> Metrics:
        """Update all runs once, where they can; return their metrics."""
        drawn: dict[Job, Batch] = {}
        for job, draw in draws.items():
            with noted(self._problems, job):
                drawn[job] = draw()
        if self._together and len(drawn) == len(draws):
            with suppress(LearnerError):  # none has learned; whose it is will tell
                metrics = self._together.update(list(drawn.values()))
                return dict(zip(drawn, metrics, strict=True))
        self._together = None
        alone: Metrics = {}
        for job, batch in drawn.items():
            with noted(self._problems, job):
                alone[job] = self._courses[job].learner.update(batch)
        return alone

    def _tell(self, metrics: Metrics) -> None:
        """Count the update of these runs, and report it where that is due."""
        courses = [self._courses[job] for job in metrics]
        for course in courses:
            course.step += 1
        if not courses or not any(courses[0].due):
            return
        for course in courses:
            course.pause()
        for job, own in metrics.items():
            with noted(self._problems, job):
                self._courses[job].report(own, partial(self._on_progress, job))
        if self._problems.keys() & metrics.keys():
            self._together = None  # the others go on without
        for course in courses:
            course.start()
