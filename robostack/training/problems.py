"""What goes wrong in one run, written down, so that it ends no other."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from robostack.sentence import sentence
from robostack.training.job import Job

_LOG = logging.getLogger(__name__)


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
