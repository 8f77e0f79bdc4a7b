"""A session made into an author: at once in lockstep, else on a thread of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np

from robostack.messages import Welcome
from robostack.runtime.author import Planner, pace
from robostack.runtime.permute import Permutation
from robostack.runtime.session import Session
from robostack.runtime.solver import Inline, Worker
from robostack.spec import Array


class Drawn:
    """A session whose actions are samples, if there is something to draw them with."""

    def __init__(self, session: Session, rng: np.random.Generator | None) -> None:
        self._session = session
        self._rng = rng
        self.remembers = session.remembers

    def reset(self) -> None:
        """Forget history and recurrent state."""
        self._session.reset()

    def infer(self, arrays: dict[str, Array]) -> Array:
        """Return the actions (H, A) from a reading on."""
        return self._session.infer(arrays, self._rng)

    def observe(self, arrays: dict[str, Array]) -> None:
        """Remember a reading that is not answered."""
        self._session.observe(arrays)


@contextlib.contextmanager
def planner(
    session: Session,
    welcome: Welcome,
    permutation: Permutation | None = None,
    *,
    rng: np.random.Generator | None = None,
    execute: int = 0,
    deadline_s: float = 0.0,
) -> Iterator[Planner]:
    """Give the author that runs `session` for the node of `welcome`.

    Args:
        session: warm, and self-tested.
        welcome: of the node.
        permutation: how the session's order and the node's go together.
        rng: draws samples; None: the mean.
        execute: actions of a chunk to use at most; 0: all.
        deadline_s: of an inference; 0: as long as its actions are due.
    """
    brain = Drawn(session, rng)
    how = pace(
        session.policy.manifest.chunk,
        welcome.robot.control_period_s,
        lockstep=welcome.lockstep,
        execute=execute,
        deadline_s=deadline_s,
    )
    if welcome.lockstep:
        yield Planner(Inline(brain), how, permutation)
        return
    with Worker(brain) as worker:
        yield Planner(worker, how, permutation)
