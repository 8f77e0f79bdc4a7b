"""What becomes of an action on its way to the motors: refused, limited, or let pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import compress
from math import isfinite
from operator import add, le, lt, sub
from typing import NamedTuple, Protocol

import numpy as np

from robostack.limits import Limits
from robostack.messages import Tensor
from robostack.shaper import Shaper
from robostack.spec import Array, SpecError, float32

_TOLERANCE = 1e-6  # parts of the range that rounding may leave the bounds by


class CommandError(SpecError):
    """A command that no limiter can make good; `cause` is what it is counted under."""

    def __init__(self, cause: str, sentence: str) -> None:
        super().__init__(sentence)
        self.cause = cause


class Limited(NamedTuple):
    """An action within limits, and what was done to it."""

    action: Array  # (A,)
    changed: tuple[str, ...]  # names of the elements that differ from the request
    outside: bool  # the request left the bounds, and not only the largest step
    pushed: tuple[int, ...]  # where it went beyond the largest step: -1, 1, or else 0


class _Way(Protocol):
    """How actions may follow one another."""

    @property
    def base(self) -> list[float]: ...
    @property
    def reach(self) -> Sequence[float]: ...
    def start(self, measured: list[float]) -> None: ...
    def settle(self, applied: list[float]) -> None: ...
    def shape(self, values: list[float]) -> list[float]: ...
    def brake(self) -> list[float] | None: ...


class Steps:
    """Keeps actions within one step of the one before: all there is for a torque."""

    def __init__(self, limits: Limits) -> None:
        self._low = _floats(tuple(map(add, limits.low, limits.margin_low)))
        self._high = _floats(tuple(map(sub, limits.high, limits.margin_high)))
        self._step, self._first = _floats(limits.step), _floats(limits.first)
        self.reach: Sequence[float] = self._first
        self.base = list(self._low)

    def start(self, measured: list[float]) -> None:
        """Expect the first action near `measured` (A,)."""
        self.reach = self._first
        self.base = list(map(min, map(max, measured, self._low), self._high))

    def settle(self, applied: list[float]) -> None:
        """Expect the next action within one step of `applied` (A,)."""
        self.reach, self.base = self._step, applied

    def shape(self, values: list[float]) -> list[float]:
        """Return the nearest action (A,) within reach; `values` itself if it is."""
        if (
            all(map(le, self._low, values))
            and all(map(le, values, self._high))
            and all(map(le, map(abs, map(sub, values, self.base)), self.reach))
        ):
            return values
        floor = map(max, self._low, map(sub, self.base, self.reach))
        ceiling = map(min, self._high, map(add, self.base, self.reach))
        return list(map(min, map(max, values, floor), ceiling))

    def brake(self) -> None:
        """Know of no motion to brake."""


class ActionLimiter:
    """Limits actions to bounds, and to what may follow the action in effect.

    It is in the way of every command, and vectors are short: plain floats take a third
    of numpy's time, and a comparison that holds also rules out NaN.
    """

    def __init__(self, limits: Limits) -> None:
        self._names, self._gate = limits.names, limits.gate
        self._shape = (len(limits.names),)
        self._low, self._high = _floats(limits.low), _floats(limits.high)
        self._slack = tuple(_TOLERANCE * x for x in map(sub, self._high, self._low))
        self._way: _Way = Shaper(limits) if limits.velocity else Steps(limits)

    def start(self, measured: Array) -> None:
        """Expect the first action near `measured` (A,)."""
        self._way.start(measured.tolist())

    def settle(self, applied: Array) -> None:
        """End a period: `applied` (A,) was in effect, the next action follows it."""
        self._way.settle(applied.tolist())

    def brake(self) -> Array | None:
        """Return what to apply (A,) in a period without a command; None: what is.

        Targets that moved come to rest within limits.
        """
        values = self._way.brake()
        return None if values is None else float32(values)

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

    def objection(self, action: Array) -> str:
        """Return why the node should not even begin to go to `action` (A,), or ""."""
        rows = zip(
            self._names, action.tolist(), self._way.base, self._gate, strict=False
        )
        far = [
            f"{name} {abs(x - at):.3g} away, expected at most {most:g}"
            for name, x, at, most in rows
            if not abs(x - at) <= most
        ]
        return f"the first command is far from the robot: {'; '.join(far)}" * bool(far)

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
        if not isfinite(sum(values)):  # float32s cannot overflow it
            self._refuse(values)
        limited = self._way.shape(values)
        if limited is values:
            return Limited(action, (), False, ())
        return self._told(values, limited)

    def _refuse(self, values: list[float]) -> None:
        bad = [n for n, x in zip(self._names, values, strict=True) if not isfinite(x)]
        if bad:
            raise CommandError("not_finite", f"not finite: {', '.join(bad)}")

    def _told(self, values: list[float], limited: list[float]) -> Limited:
        base, reach = self._way.base, self._way.reach
        inside = list(map(min, map(max, values, self._low), self._high))
        above = self._over(inside, list(map(add, base, reach)))
        below = self._over(list(map(sub, base, reach)), inside)
        return Limited(
            float32(limited),
            tuple(compress(self._names, self._beyond(values, limited))),
            any(self._beyond(values, inside)),
            tuple(map(sub, above, below)),
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
