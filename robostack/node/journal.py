"""What a node tells its watchers: every episode, period by period, with its counts.

    Opened, then Step, Frame, Event ..., then Closed

A period's `Step` is published when the period is over, since only then is it known what
was applied in it. Any thread may call; a lock keeps order and socket whole.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import NamedTuple, Protocol

from robostack.clock import Clock
from robostack.messages import (
    Closed,
    Event,
    Message,
    Opened,
    State,
    Step,
    Tensor,
)
from robostack.node.black_box import BlackBox
from robostack.node.tidings import Counts, counts_text, glance_text
from robostack.safety import LATCHED

_LOOK_S = 0.05
_IDLE_S = 0.2  # how often watchers hear what is sensed between episodes
_REPEATED = frozenset({"pulse", "counts", "reading"})  # of no use to a black box


class Publisher(Protocol):
    """Where messages go; never waits in real time."""

    def send(self, message: Message) -> None:
        """Publish `message`."""

    def watched(self) -> bool:
        """Return whether anybody listens."""


class Sensed(NamedTuple):
    """What a period began with."""

    seq: int
    stamp_s: float
    arrays: dict[str, Tensor]
    truth: dict[str, Tensor]
    ages_s: dict[str, float]


class Action(NamedTuple):
    """What was asked for in a period, and what the robot did."""

    requested: Tensor | None
    applied: Tensor
    clamped: tuple[str, ...]
    age_s: float
    intervention: bool


class Journal:
    """The story of a node, as its watchers get it."""

    def __init__(
        self, publisher: Publisher, clock: Clock, box: BlackBox | None = None
    ) -> None:
        self._publisher = publisher
        self._clock = clock
        self._lock = threading.Lock()
        self._generation = 0
        self._open = False
        self._heard = False  # somebody listened when we last looked
        self._look_s = 0.0  # computer's clock, when to look again
        self._idle_s = 0.0  # computer's clock, when a reading was told between episodes
        self._box = box
        self._sensed: Sensed | None = None
        self.counts = Counts()
        self.total: Counter[str] = Counter()  # refused since the node began, by cause

    def open(self, opened: Opened) -> None:
        """Begin an episode."""
        with self._lock:
            self._generation, self._open = opened.generation, True
            self._sensed, self.counts = None, Counts()
            self._publisher.send(opened)
            self._look_s = 0.0

    def sensed(self, sensed: Sensed, action: Action | None) -> None:
        """Finish the last period, in which `action` was in effect; begin the next."""
        with self._lock:
            if not self._open:
                return
            if self._sensed is not None:
                self.counts.steps += 1
                self._tell(self._sensed, action, heard=self._is_heard())
            self._sensed = sensed

    def idle(self, sensed: Sensed) -> None:
        """Tell what is sensed between episodes, now and then."""
        if self._box is not None:
            self._box.step(self._step(sensed, None))
        now_s = time.monotonic()
        if now_s - self._idle_s >= _IDLE_S and self.watched():
            self._idle_s = now_s
            self.event("reading", glance_text(sensed.arrays, sensed.ages_s))

    def close(self, *, terminated: bool, reason: str) -> Counts:
        """End the episode, if one is open; return its counts."""
        with self._lock:
            if self._open:
                self._open = False
                if self._sensed is not None:
                    self._tell(self._sensed, None, heard=True)
                self._publisher.send(self._closed(terminated, reason))
            return self.counts

    def refuse(self, cause: str, text: str) -> None:
        """Count a command that was not applied; the first of a cause is an event."""
        self.total[cause] += 1
        self.counts.refused[cause] += 1
        if self._box is not None:
            words = _words(cause, text)
            stamp_s = self._clock.now()
            self._box.refusal(Event(self._generation, stamp_s, "refused", words))
        if self.counts.refused[cause] == 1:
            self.event("refused", _words(cause, text))

    def event(self, kind: str, text: str) -> None:
        """Publish something worth a line in the log."""
        event = Event(self._generation, self._clock.now(), kind, text)
        with self._lock:
            self._publisher.send(event)
        if self._box is not None and kind not in _REPEATED:
            self._box.event(event)

    def state(self, state: State, cause: str) -> None:
        """Publish a state that was entered, and why; FAULT and ESTOP fill a file."""
        self.event("state", _words(state, cause))
        if self._box is not None and state in LATCHED:
            self._box.write(_words(state, cause))

    def pulse(self, state: State, cause: str) -> None:
        """Publish the state there is, for who came late."""
        self.event("pulse", _words(state, cause))

    def count(self) -> None:
        """Publish what happened in the episode so far, for who watches it."""
        if self._is_heard():
            self.event("counts", counts_text(self.counts))

    def publish(self, message: Message) -> None:
        """Publish `message` as it is."""
        with self._lock:
            self._publisher.send(message)

    def watched(self) -> bool:
        """Return whether anybody listens."""
        with self._lock:
            return self._publisher.watched()

    def _is_heard(self) -> bool:
        """Return whether anybody listened a moment ago; to look each time is dear."""
        now_s = time.monotonic()
        if now_s >= self._look_s:
            self._look_s = now_s + _LOOK_S
            self._heard = self._publisher.watched()
        return self._heard

    def _tell(self, sensed: Sensed, action: Action | None, *, heard: bool) -> None:
        """Give a period that is over to whoever wants it."""
        if not heard and self._box is None:
            return
        step = self._step(sensed, action)
        if heard:
            self._publisher.send(step)
        if self._box is not None:
            self._box.step(step)

    def _step(self, sensed: Sensed, action: Action | None) -> Step:
        now = action or Action(None, None, (), 0.0, intervention=False)  # type: ignore[arg-type]
        return Step(
            self._generation,
            sensed.seq,
            sensed.stamp_s,
            sensed.arrays,
            sensed.truth,
            now.requested,
            now.applied,
            now.clamped,
            now.age_s,
            now.intervention,
            sensed.ages_s,
        )

    def _closed(self, terminated: bool, reason: str) -> Closed:
        return Closed(
            self._generation,
            self._clock.now(),
            terminated,
            reason,
            self.counts.steps,
            self.counts.overruns,
            self.counts.clamps,
            dict(self.counts.refused),
        )


def _words(what: str, why: str) -> str:
    return f"{what}: {why}" if why else what
