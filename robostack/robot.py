"""What hardware/ and sim/ implement alike, and what a task is.

    Robot   connect, reset, read, frames, apply, stop, close
    World   a Robot whose clock is its physics, that can be seeded and tells the truth
    Task    reward, success and termination as functions of logged columns

A plug-in folder of `sim/` offers `spec(argument)`, `tasks(argument)` (both without
mujoco) and `make(argument, variant)`; one of `hardware/` offers `spec(argument)` and
`make(argument)`. The argument is what follows the slash in `sim:gym/Hopper-v5`. Either
may offer
    limits(argument)    a `Limits` that knows more than the spec implies
    examine(argument)   `Finding`s, worst first: what is wrong with this very device,
                        found without enabling torque; `doctor` and `serve` ask for it
    measure(argument)   calibrates it with a person at the terminal, and returns the
                        path of the file: `robostack calibrate`
    rescue(argument, how)           see `Ending`
    teleoperator(argument, robot)   a `Teleoperator` for a robot of that spec
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from robostack.clock import Clock
from robostack.spec import Array, Image, RobotSpec

Columns = Mapping[str, Array]
Mask = npt.NDArray[np.bool_]


class Robot(Protocol):
    """Something with sensors and actuators, driven once per control period.

    Constructing a driver touches nothing outside the process: `connect` does the I/O.
    Tests in tests/contract/test_robot.py state the rules, and run on every driver.
    """

    spec: RobotSpec

    def connect(self) -> None:
        """Open the device and check that it answers. Enables no torque."""

    def reset(self) -> None:
        """Move to the home pose, blocking, and leave the actuators enabled."""

    def read(self) -> dict[str, Array]:
        """Return a copy of the newest reading of each array in `spec.observation`."""

    def frames(self) -> dict[str, Image]:
        """Return the newest frame (H, W, 3) of each camera in `spec.cameras`."""

    def apply(self, action: Array) -> Array:
        """Send `action` to the actuators; return what was really sent."""

    def stop(self) -> None:
        """Enter the safe state. Idempotent; callable at any time; never raises."""

    def close(self) -> None:
        """Stop, then release the device. Idempotent."""

    # What follows is optional: a driver without it gets the default.
    #
    # ages() -> dict[str, float]
    #     Age [s] of observation arrays and cameras that a thread of the driver fills,
    #     called after each `read`. What it does not name is as fresh as that call.


class Ending(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What SAFE, the end of the node, and the death of the node mean for a robot.

    A driver that differs from this has it as its attribute `ending`. What comes of it:

        safe = "damp"    the driver's `damp()`: actuators give way slowly; never raises
        close = "home"   the driver's `park()` before `close` unless a fault stands:
                         home slowly if it is healthy and enabled; may raise
        close = "hold"   its `close` leaves torque on
        orphan           the plug-in module's `rescue(argument, how)`, called by the
                         guardian process within `orphan_s`, with the driver's
                         attribute `lifeline` as the argument if it has one
    """

    safe: Literal["hold", "damp"] = "hold"
    close: Literal["hold", "limp", "home"] = "limp"
    orphan: Literal["hold", "limp"] = "hold"
    orphan_s: float = 0.5  # from the death of the node to the rescue's first act [s]


def ending_of(robot: Robot) -> Ending:
    """Return what its driver says of endings, or what is usual."""
    ending: Ending = getattr(robot, "ending", Ending())
    return ending


def facts_of(robot: Robot) -> dict[str, str]:
    """Return what its optional `facts()` says is true of this very device.

    Calibration, firmware, serial number: recorded as the labels `robot.<key>` of every
    episode, and never part of the spec, so that a bundle runs on all of its kind.
    """
    facts: Callable[[], dict[str, str]] = getattr(robot, "facts", dict)
    return facts()


class World(Robot, Clock, Protocol):
    """A simulated robot and its surroundings; sleeping steps the physics."""

    def seed(self, seed: int) -> None:
        """Fix everything random from the next `reset` on."""

    def truth(self) -> dict[str, Array]:
        """Return what only a referee may know; never part of an observation."""


class Finding(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One thing that was looked at, and what to do about it."""

    level: Literal["fault", "advice", "ok"]  # a fault forbids to serve the robot
    about: str  # what was looked at: "port", "voltage", "calibration"
    found: str  # a phrase with the number that was found, and the expected one
    cure: str  # what to do; empty where nothing is wrong


class Variant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a world differs from its nominal self: the stand-in for reality."""

    mass: float = 1.0  # factor on all masses and inertias
    friction: float = 1.0  # factor on dry joint friction and contact friction
    damping: float = 1.0  # factor on viscous joint damping
    gear: float = 1.0  # factor on actuator strength
    delay: int = 0  # control periods by which actions arrive late
    noise: float = 0.0  # standard deviation on readings, in parts of their range
    backlash: float = 0.0  # [rad] of play in every driven joint
    dropped_frames: float = 0.0  # probability that a camera repeats its last frame


class Task(NamedTuple):
    """A task over logged columns of one episode of T steps.

    The functions take columns by observation name, (T + 1, n); `action`, (T, A); and,
    where a world logged them, its truths as `truth.<name>`, (T + 1, n). One step is an
    episode with T = 1.
    """

    instruction: str  # in words, for people and vision-language models
    horizon: int  # [steps] after which an episode is truncated
    reward: Callable[[Columns], Array]  # (T,)
    success: Callable[[Columns], Mask]  # (T + 1,)
    terminated: Callable[[Columns], Mask]  # (T,)
