"""The shaft of an emulated servo, in ticks: a profile, and a spring that follows it.

    acceleration = clip(w^2 (profile - x) - 2 w v, +-force) + load

and limp, without torque, as load and friction have it.
"""

from __future__ import annotations

import math

STEP_S = 0.0025  # in which it moves
QUICKEST = 100_000.0  # [tick/s^2] of a profile without a bound
_W = 40.0  # [1/s]
_FULL_FORCE = 40_000.0  # [tick/s^2]
_FRICTION = 8.0  # [1/s] when limp


class Shaft:
    """Where it is, and where its profile is."""

    def __init__(
        self, position: float, load: float, stops: tuple[float, float]
    ) -> None:
        """Stand still at `position` [tick] between `stops`, under `load` [tick/s^2]."""
        self.position = position
        self.velocity = 0.0
        self._load = load
        self._stops = stops
        self._profile, self._pace = position, 0.0

    def place(self, position: float) -> None:
        """Be turned to `position` [tick] by a hand."""
        self.position = position
        self.velocity = 0.0
        self._rest()

    def _rest(self) -> None:
        """Let the profile stand where the shaft is."""
        self._profile, self._pace = self.position, 0.0

    def _follow(self, h: float, gap: float, speed: float, quick: float) -> None:
        """Move the profile on for `h` [s], by speed and acceleration, over `gap`."""
        aim = math.copysign(
            min(speed, math.sqrt(2 * quick * abs(gap)), abs(gap) / h), gap
        )
        self._pace += max(-quick * h, min(quick * h, aim - self._pace))
        self._profile += self._pace * h

    def _turn(self, h: float, strength: float | None) -> None:
        """Move for `h` [s] with a strength of 0 to 1; None: limp."""
        if strength is None:
            force = -_FRICTION * self.velocity
        else:
            wish = _W * _W * (self._profile - self.position) - 2 * _W * self.velocity
            most = _FULL_FORCE * strength
            force = max(-most, min(most, wish))
        self.velocity += h * (force + self._load)
        self.position += h * self.velocity
        low, high = self._stops
        if not low <= self.position <= high:
            self.position = max(low, min(high, self.position))
            self.velocity = 0.0
