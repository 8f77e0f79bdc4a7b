"""What a watcher knows of a node, from the messages it heard so far."""

from __future__ import annotations

from collections import deque
from itertools import pairwise

import msgspec
import numpy as np

from robostack.messages import Closed, Event, Frame, Opened, Step, Tensor, Watch
from robostack.node.tidings import Glance, Tally, parse_counts, parse_glance

_PERIODS = 500  # the newest, of which the rate is taken
_FRAMES = 50
_EVENTS = 8
_NOTHING = Tally(0, 0, 0, {})


class Snapshot(msgspec.Struct, frozen=True):
    """A node at one moment, for people and programs."""

    state: str  # "" until it was heard
    cause: str
    generation: int
    address: str  # "" if no episode was seen to open
    client: str
    seq: int  # of the newest step; -1 without one
    rate_hz: float  # of steps
    period_p50_s: float
    period_p99_s: float
    arrays: dict[str, list[float]]  # as sensed last
    ages_s: dict[str, float]
    requested: list[float]  # newest action as the client wanted it
    applied: list[float]  # and as the robot took it
    clamped: tuple[str, ...]
    clamps: int  # in this episode
    overruns: int  # in this episode
    refused: dict[str, int]  # in this episode, by cause
    cameras_hz: dict[str, float]
    missed: int  # steps that the node told and we never got
    events: tuple[str, ...]  # newest last


class Picture:
    """Adds up messages; keeps a bounded number of them."""

    def __init__(self) -> None:
        self._state, self._cause = "", ""
        self._opened: Opened | None = None
        self._step: Step | None = None
        self._stamps: deque[float] = deque(maxlen=_PERIODS)
        self._frames: dict[str, deque[float]] = {}
        self._glance = Glance({}, {})
        self._actions: tuple[list[float], list[float], tuple[str, ...]] = [], [], ()
        self._counts = _NOTHING
        self._missed = 0
        self._events: deque[str] = deque(maxlen=_EVENTS)

    def take(self, message: Watch) -> None:
        """Add one message."""
        match message:
            case Opened():
                self._opened, self._counts = message, _NOTHING
                self._begin()
            case Step():
                self._take_step(message)
            case Frame():
                stamps = self._frames.setdefault(message.camera, deque(maxlen=_FRAMES))
                stamps.append(message.stamp_s)
            case Event():
                self._take_event(message)
            case Closed():
                self._take_end(message)

    def snapshot(self) -> Snapshot:
        """Return what is known by now."""
        periods = np.diff(self._stamps) if len(self._stamps) > 1 else np.zeros(1)
        p50, p99 = np.percentile(periods, (50, 99))
        requested, applied, clamped = self._actions
        opened, step = self._opened, self._step
        return Snapshot(
            state=self._state,
            cause=self._cause,
            generation=step.generation if step else 0,
            address=opened.address if opened else "",
            client=opened.client if opened else "",
            seq=step.seq if step else -1,
            rate_hz=_rate(self._stamps),
            period_p50_s=float(p50),
            period_p99_s=float(p99),
            arrays=self._glance.arrays,
            ages_s=self._glance.ages_s,
            requested=requested,
            applied=applied,
            clamped=clamped,
            clamps=self._counts.clamps,
            overruns=self._counts.overruns,
            refused=self._counts.refused,
            cameras_hz={name: _rate(stamps) for name, stamps in self._frames.items()},
            missed=self._missed,
            events=tuple(self._events),
        )

    def _begin(self) -> None:
        self._stamps.clear()
        self._frames.clear()
        self._step = None

    def _take_step(self, step: Step) -> None:
        last = self._step
        if last is not None and last.generation == step.generation:
            self._missed += max(0, step.seq - last.seq - 1)
        elif last is not None:
            self._begin()
        self._step = step
        self._stamps.append(step.stamp_s)
        arrays = {name: _values(tensor) for name, tensor in step.arrays.items()}
        self._glance = Glance(arrays, step.ages_s)
        if step.applied is None:  # the last of its episode
            return
        self._state, self._cause = "active", "an episode is open"
        if step.requested is not None:
            self._actions = _values(step.requested), _values(step.applied), step.clamped

    def _take_end(self, closed: Closed) -> None:
        self._counts = Tally(
            closed.steps, closed.overruns, closed.clamps, closed.refused
        )
        if self._step is not None and self._step.generation == closed.generation:
            self._missed += max(0, closed.steps - self._step.seq)

    def _take_event(self, event: Event) -> None:
        try:
            self._read(event)
        except msgspec.MsgspecError as error:  # a node of another version
            self._events.append(f"{event.kind} cannot be read: {error}")

    def _read(self, event: Event) -> None:
        match event.kind:
            case "counts":
                self._counts = parse_counts(event.text)
            case "reading":
                self._glance = parse_glance(event.text)
            case "state" | "pulse":
                self._state, _, self._cause = event.text.partition(": ")
                if event.kind == "state":
                    self._events.append(event.text)
            case _:
                self._events.append(f"{event.kind}: {event.text}")


def _rate(stamps: deque[float]) -> float:
    """Return how many stamps a second there are, by the median between two."""
    gaps = [after - before for before, after in pairwise(stamps)]
    middle = float(np.median(gaps)) if gaps else 0.0
    return 1 / middle if middle > 0 else 0.0


def _values(tensor: Tensor) -> list[float]:
    values: list[float] = tensor.unpack().reshape(-1).tolist()
    return values
