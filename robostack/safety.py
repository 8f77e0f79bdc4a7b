"""What stands between a command and the motors: limits, watchdog, states.

    DISABLED -> ARMING -> HOLD -> ACTIVE -> {HOLD, SAFE, FAULT, ESTOP}

Nothing here does I/O or looks at a clock: times are passed in. FAULT and ESTOP latch;
`Machine.clear` is the only way out, and no message leads to it. Limits come from the
robot's spec or from a file that the node loads, never from a client.
"""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import compress
from math import isfinite
from operator import add, le, lt, sub
from typing import NamedTuple

import msgspec
import numpy as np

from robostack.messages import State, Tensor
from robostack.spec import Array, RobotSpec, SpecError, float32

_FIRST_RAD = 0.05  # largest first step from where the robot was measured
_FIRST_PART = 0.02  # the same for elements in other units, in parts of their range
_TOLERANCE = 1e-6  # parts of the range that rounding may leave the bounds by
_CHATTER = 10  # commands in a row of which half may not be reversals


class CommandError(SpecError):
    """A command that no limiter can make good; `cause` is what it is counted under."""

    def __init__(self, cause: str, sentence: str) -> None:
        super().__init__(sentence)
        self.cause = cause


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the node enforces on every action, element by element."""

    names: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    step: tuple[float, ...]  # largest change per control period
    first: tuple[float, ...]  # largest distance of the first action from where we are
    outside_per_s: float  # commands out of bounds, within one second, before FAULT
    reversals: int  # commands that turn round beyond the largest step, before FAULT,
    reversals_s: float  # within this time [s]
    command_timeout_s: float  # without a fresh command for this long: HOLD
    safe_after_s: float  # without one for this long: SAFE

    @property
    def digest(self) -> str:
        """Identity of these limits: 16 hexadecimal digits."""
        content = msgspec.json.encode(self, order="sorted")
        return hashlib.sha256(content).hexdigest()[:16]


def derive(spec: RobotSpec) -> Limits:
    """Return the limits that follow from a spec alone.

    The first action is held near the measured array that `spec.tracks` names; where an
    action is no target for anything measured, one step from home. More than half of
    the commands of one second out of bounds means that their author works in other
    units, and is a FAULT.

    So are reversals in half of ten commands in a row: an element was to go farther than
    its largest step, and in the very next command as far back. Who is merely far from
    where he wants to be is clamped one way only, command after command. What comes of
    a wrong scale is thrown about, and a robot on legs has less than a second.
    """
    action, step = spec.action, spec.max_action_step
    columns = zip(action.units, action.low, action.high, step, strict=True)
    near = (
        min(most, _FIRST_RAD if unit == "rad" else _FIRST_PART * (high - low))
        for unit, low, high, most in columns
    )
    return Limits(
        names=action.names,
        low=action.low,
        high=action.high,
        step=step,
        first=tuple(near) if spec.tracks else step,
        outside_per_s=0.5 / spec.control_period_s,
        reversals=_CHATTER // 2 - 1,
        reversals_s=_CHATTER * spec.control_period_s,
        command_timeout_s=spec.command_timeout_s,
        safe_after_s=max(0.5, 2 * spec.command_timeout_s),
    )


class Limited(NamedTuple):
    """An action within limits, and what was done to it."""

    action: Array  # (A,)
    changed: tuple[str, ...]  # names of the elements that differ from the request
    outside: bool  # the request left the bounds, and not only the largest step
    pushed: tuple[int, ...]  # where it went beyond the largest step: -1, 1, or else 0


class ActionLimiter:
    """Clips actions to bounds and to the largest step from the action in effect.

    It is in the way of every command, and vectors are short: plain floats take a third
    of numpy's time, and a comparison that holds also rules out NaN.
    """

    def __init__(self, limits: Limits) -> None:
        size = len(limits.names)
        self._names = limits.names
        self._shape = (size,)
        self._low, self._high = _floats(limits.low), _floats(limits.high)
        self._step, self._first = _floats(limits.step), _floats(limits.first)
        self._slack = tuple(_TOLERANCE * x for x in map(sub, self._high, self._low))
        self._reach, self._base = self._first, list(self._low)

    def start(self, measured: Array) -> None:
        """Expect the first action near `measured` (A,)."""
        inside = np.clip(measured, float32(self._low), float32(self._high))
        self._reach, self._base = self._first, inside.tolist()

    def settle(self, applied: Array) -> None:
        """Expect the next action within one step of `applied` (A,)."""
        self._reach, self._base = self._step, applied.tolist()

    def unpack(self, tensor: Tensor) -> Array:
        """Return the action in `tensor` as a read-only view (A,).

        Raises:
            CommandError: it is not a float32 vector of the robot's length.
        """
        size = 4 * len(self._names)
        if (
            tensor.dtype != "<f4"
            or tensor.shape != self._shape
            or len(tensor.data) != size
        ):
            raise CommandError(
                "malformed",
                f"expected an action of float32 {self._shape}, got {tensor.dtype} "
                f"{tensor.shape} in {len(tensor.data)} bytes",
            )
        return np.frombuffer(tensor.data, np.float32)

    def __call__(self, action: Array) -> Limited:
        """Return `action` (A,) within limits.

        Raises:
            CommandError: an element is not finite.
        """
        values = action.tolist()
        if len(values) != len(self._low):
            raise CommandError(
                "malformed",
                f"expected {len(self._low)} elements, got {len(values)}",
            )
        if (
            all(map(le, self._low, values))
            and all(map(le, values, self._high))
            and all(map(le, map(abs, map(sub, values, self._base)), self._reach))
        ):
            return Limited(action, (), False, ())
        return self._clip(values)

    def _clip(self, values: list[float]) -> Limited:
        bad = [n for n, x in zip(self._names, values, strict=True) if not isfinite(x)]
        if bad:
            raise CommandError("not_finite", f"not finite: {', '.join(bad)}")
        floor = map(max, self._low, map(sub, self._base, self._reach))
        ceiling = map(min, self._high, map(add, self._base, self._reach))
        limited = list(map(min, map(max, values, floor), ceiling))
        inside = list(map(min, map(max, values, self._low), self._high))
        return Limited(
            float32(limited),
            tuple(compress(self._names, self._beyond(values, limited))),
            any(self._beyond(values, inside)),
            tuple(map(sub, self._over(inside, limited), self._over(limited, inside))),
        )

    def _over(self, a: Iterable[float], b: Iterable[float]) -> Iterator[bool]:
        """Say which elements of `a` are above `b` by more than rounding."""
        return map(lt, self._slack, map(sub, a, b))

    def _beyond(self, a: Iterable[float], b: Iterable[float]) -> Iterator[bool]:
        """Say which elements differ by more than rounding."""
        return map(lt, self._slack, map(abs, map(sub, a, b)))


def _floats(values: tuple[float, ...]) -> tuple[float, ...]:
    """Return `values` as the nearest float32s, which is what actions are."""
    return tuple(float32(values).tolist())


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
