"""What stands between a command and the motors: counts, watchdog, states.

    DISABLED -> ARMING -> HOLD -> ACTIVE -> {HOLD, SAFE, FAULT, ESTOP}

Nothing here does I/O or looks at a clock: times are passed in. FAULT and ESTOP latch;
`Machine.clear` is the only way out, and no message leads to it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping

import numpy as np

from robostack.limits import Limits
from robostack.messages import State
from robostack.spec import Array


class RateLimit:
    """Says when something happens more than `most` times within `window_s`."""

    def __init__(self, most: float, window_s: float = 1.0) -> None:
        self._most = most
        self._window_s = window_s
        self._stamps: deque[float] = deque()

    def exceeded(self, now: float) -> bool:
        """Note one occurrence at `now` [s]; return whether it is one too many."""
        self._stamps.append(now)
        while self._stamps[0] <= now - self._window_s:
            self._stamps.popleft()
        return len(self._stamps) > self._most


class Chatter:
    """Says when too many commands throw an element one way and then the other."""

    def __init__(self, limits: Limits) -> None:
        self._rate = RateLimit(limits.reversals, limits.reversals_s)
        self._pushed: tuple[int, ...] = ()

    def start(self) -> None:
        """Forget the command before: an episode begins."""
        self._pushed = ()

    def exceeded(self, pushed: tuple[int, ...], now: float) -> bool:
        """Note the next command, `Limited.pushed`; return whether it is one too many.

        Args:
            pushed: (A,) or empty, as `Limited` has it.
            now: [s], by the node's clock.
        """
        both = zip(self._pushed, pushed, strict=False)  # empty: beyond no step
        turned = any(before * after < 0 for before, after in both)
        self._pushed = pushed
        return turned and self._rate.exceeded(now)


class Posture:
    """Says when a reading is where the robot must not be."""

    def __init__(self, limits: Limits) -> None:
        self._boxes = {
            name: (np.subtract(box.low, box.tolerance), np.add(box.high, box.tolerance))
            for name, box in limits.boxes.items()
        }

    def broken(self, reading: Mapping[str, Array]) -> str:
        """Return which array of `reading` is outside of its box, or ""."""
        for name, (low, high) in self._boxes.items():
            array = reading[name]
            if (array < low).any() or (array > high).any():
                return (
                    f"{name} is {array.tolist()}, outside of the box from "
                    f"{low.tolist()} to {high.tolist()}"
                )
        return ""


class Watchdog:
    """Expires when it was not fed for `timeout_s`; disarmed, it never does."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self.fed_s = -math.inf
        self.deadline = math.inf

    def feed(self, now: float) -> None:
        """Grant another `timeout_s` from `now` [s] on."""
        self.fed_s = now
        self.deadline = now + self.timeout_s

    def disarm(self) -> None:
        """Stop watching."""
        self.deadline = math.inf

    def expired(self, now: float) -> bool:
        """Return whether the time is up at `now` [s]."""
        return now >= self.deadline


LATCHED: frozenset[State] = frozenset({"fault", "estop"})

_NEXT: dict[State, frozenset[State]] = {
    "disabled": frozenset({"arming", "fault", "estop"}),
    "arming": frozenset({"hold", "disabled", "fault", "estop"}),
    "hold": frozenset({"arming", "active", "safe", "disabled", "fault", "estop"}),
    "active": frozenset({"hold", "safe", "disabled", "fault", "estop"}),
    "safe": frozenset({"arming", "disabled", "fault", "estop"}),
    "fault": frozenset({"estop"}),
    "estop": frozenset(),
}


class Machine:
    """The state of a node, its generation, and why it last changed."""

    def __init__(self) -> None:
        self.state: State = "disabled"
        self.generation = 0  # times ACTIVE was entered or left
        self.cause = ""

    @property
    def latched(self) -> bool:
        """Whether only a local `clear` leads on."""
        return self.state in LATCHED

    def enter(self, state: State, cause: str) -> bool:
        """Go to `state` if a transition leads there; return whether it did."""
        if state not in _NEXT[self.state]:
            return False
        if "active" in (self.state, state):
            self.generation += 1
        self.state, self.cause = state, cause
        return True

    def clear(self, acknowledged: str) -> bool:
        """Leave a latched state for DISABLED; return whether there was one to leave."""
        if not self.latched:
            return False
        self.state, self.cause = "disabled", f"cleared: {acknowledged}"
        return True
