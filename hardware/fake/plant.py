"""The machine inside the fake robot: joints, and a controller that feeds them targets.

The controller has a beat of its own, of one control period, and takes one target a
beat: the newest one when the host last read the sensors, so that neither the moment
within a period at which a command comes nor a second one matters. Half a beat lies
between that reading and the next beat, for a host that is late.

A host that misses a beat altogether, and `halt`, leave the controller alone with joints
that move: it brakes them by the limits of the joints, and `bridged` counts such beats.
When targets come again it leads back to them by the same limits, `led` counts those.
With a host in time both are 0, and what reaches the joints is what was sent, bit by
bit: the limits of the joints are then the host's to keep.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from robostack.limits import Limits
from robostack.shaper import Shaper

from .joints import PERIOD_TICKS, REST, Joint, Spline

Values = npt.NDArray[np.float64]


class Plant:
    """Two joints at physics resolution; time is counted in ticks."""

    def __init__(
        self, home: Sequence[float], limits: Limits, *, delay: int = 0
    ) -> None:
        self.bridged = 0  # beats without a target while the joints moved
        self.led = 0  # beats whose target was not what was sent
        self.ticks = 0
        self._path: list[tuple[float, ...]] | None = None
        self._shaper = Shaper(limits)
        self._delay: deque[list[float]] = deque(maxlen=delay + 1)
        self._beat = 0  # tick of the next beat
        self._target: list[float] | None = None  # newest
        self._taken: list[float] | None = None  # for the next beat
        self._leading = False
        self.settle(home)

    @property
    def position(self) -> Values:
        """Joint positions (2,) [rad]."""
        return np.array([joint.position for joint in self._joints])

    @property
    def velocity(self) -> Values:
        """Joint velocities (2,) [rad/s]."""
        return np.array([joint.velocity for joint in self._joints])

    @property
    def at_rest(self) -> bool:
        """Whether nothing moves, nor is about to."""
        splines = all(spline.at_rest() for spline in self._splines)
        return splines and all(
            abs(joint.velocity) < 10 * REST for joint in self._joints
        )

    def take_path(self) -> Values:
        """Return the path (T, 2) [rad] since last asked, with three points of overlap.

        It is kept from the first call on.
        """
        path = self._path
        if path is None:
            path = [tuple(joint.position for joint in self._joints)] * 3
        self._path = path[-3:]
        return np.array(path)

    def send(self, target: list[float], *, lead: bool = False) -> None:
        """Set the newest target (2,) [rad]; `lead` there if it is far."""
        self._target, self._halted, self._leading = target, False, lead

    def mark(self) -> None:
        """End a control period of the host: the newest target counts."""
        if self._target is not None:
            self._taken = self._target

    def halt(self) -> None:
        """Forget all targets; brake."""
        self._target, self._taken, self._halted = None, None, True
        self._delay.clear()

    def advance(self, ticks: int) -> None:
        """Let `ticks` physics steps pass."""
        end = self.ticks + ticks
        if self._target is None and self.at_rest:
            skipped = (end - self.ticks) // PERIOD_TICKS * PERIOD_TICKS
            self.ticks, self._beat = self.ticks + skipped, self._beat + skipped
        while self.ticks < end:
            if self.ticks >= self._beat:
                self._feed()
                self._beat += PERIOD_TICKS
            self._move(min(end, self._beat) - self.ticks)

    def settle(self, place: Sequence[float]) -> None:
        """At rest, and nearly at `place` (2,): be there, and let the host begin now.

        The next beat is half a period away, so that episodes are alike to the last bit.
        """
        self.halt()
        self._joints = [Joint(x) for x in place]
        self._splines = [Spline(x) for x in place]
        self._shaper.start(list(place))
        self._shaper.settle(list(place))
        self._beat = self.ticks + PERIOD_TICKS // 2

    def _feed(self) -> None:
        target, self._taken = self._taken, None
        if target is not None:
            self._delay.append(target)
            late = len(self._delay) < (self._delay.maxlen or 1)
            knots = self._lead(self._shaper.base if late else self._delay[0])
        else:
            knots = self._bridge()
        self._shaper.settle(knots)
        for spline, knot in zip(self._splines, knots, strict=True):
            spline.add(knot)

    def _lead(self, target: list[float]) -> list[float]:
        knots = self._shaper.shape(target)
        self.led += not self._leading and max(map(_gap, knots, target)) > 1e-6
        return knots

    def _bridge(self) -> list[float]:
        knots = self._shaper.brake()
        self.bridged += knots is not None and not self._halted
        return self._shaper.base if knots is None else knots

    def _move(self, ticks: int) -> None:
        since = self.ticks - (self._beat - PERIOD_TICKS)
        span = range(since, since + ticks)
        paths = [
            [joint.step(point) for point in spline.points(span)]
            for joint, spline in zip(self._joints, self._splines, strict=True)
        ]
        self.ticks += ticks
        if self._path is not None:
            self._path.extend(zip(*paths, strict=True))


def _gap(a: float, b: float) -> float:
    return abs(a - b)
