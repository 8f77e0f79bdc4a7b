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

import msgspec

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

_LOOK_S = 0.05


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


class Action(NamedTuple):
    """What was asked for in a period, and what the robot did."""

    requested: Tensor | None
    applied: Tensor
    clamped: tuple[str, ...]
    age_s: float
    intervention: bool


class Counts(msgspec.Struct):
    """What happened in one episode."""

    steps: int = 0
    overruns: int = 0
    clamps: int = 0
    refused: Counter[str] = msgspec.field(default_factory=Counter)


class Journal:
    """The story of a node, as its watchers get it."""

    def __init__(self, publisher: Publisher, clock: Clock) -> None:
        self._publisher = publisher
        self._clock = clock
        self._lock = threading.Lock()
        self._generation = 0
        self._open = False
        self._heard = False  # somebody listened when we last looked
        self._look_s = 0.0  # computer's clock, when to look again
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
                if self._is_heard():
                    self._publisher.send(self._step(self._sensed, action))
            self._sensed = sensed

    def close(self, *, terminated: bool, reason: str) -> Counts:
        """End the episode, if one is open; return its counts."""
        with self._lock:
            if self._open:
                self._open = False
                if self._sensed is not None:
                    self._publisher.send(self._step(self._sensed, None))
                self._publisher.send(self._closed(terminated, reason))
            return self.counts

    def refuse(self, cause: str, text: str) -> None:
        """Count a command that was not applied; the first of a cause is an event."""
        self.total[cause] += 1
        self.counts.refused[cause] += 1
        if self.counts.refused[cause] == 1:
            self.event("refused", f"{cause}: {text}" if text else cause)

    def event(self, kind: str, text: str) -> None:
        """Publish something worth a line in the log."""
        stamp_s = self._clock.now()
        with self._lock:
            self._publisher.send(Event(self._generation, stamp_s, kind, text))

    def state(self, state: State, cause: str) -> None:
        """Publish a state and its cause."""
        self.event("state", f"{state}: {cause}" if cause else state)

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
