"""What is around the arm, and who sees it: the cube's tracker and the cameras.

The arm alone has the spec `so101`. With tracker and cameras it has, to the letter, the
spec of `sim:so101_table`: one bundle drives both.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from robostack import plugins
from robostack.spec import Array, Image, RobotSpec

WORLD = "so101_table"  # of sim/: whose spec the arm at its table has


class Sighting(NamedTuple):
    """Where the cube was seen, and how long ago."""

    position: Array  # (3,) [m], centre, in the frame of the arm's base
    age_s: float


class Tracker(Protocol):
    """Knows where the cube is. `sighting` never blocks."""

    def open(self) -> None:
        """Start to look; return once the cube was seen, raise if it is not."""

    def sighting(self) -> Sighting:
        """Return the newest sighting."""

    def close(self) -> None:
        """Cease to look. Idempotent."""


class Eyes(Protocol):
    """The cameras of the spec."""

    def open(self) -> None:
        """Start the cameras; return once each has a frame, raise if one has none."""

    def frames(self) -> dict[str, Image]:
        """Return the newest frame (H, W, 3) of each, RGB, as large as the spec says."""

    def ages(self) -> dict[str, float]:
        """Return the age [s] of the newest frame of each that a thread fetches."""

    def close(self) -> None:
        """Release the cameras. Idempotent."""


class Surroundings(NamedTuple):
    """Who sees what the servos cannot tell."""

    tracker: Tracker
    eyes: Eyes


def table_spec() -> RobotSpec:
    """Return the spec of the arm at its table."""
    spec: RobotSpec = plugins.load("sim", WORLD).spec("")
    return spec
