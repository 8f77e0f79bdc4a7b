"""What a person moves a robot with, whatever it is made of.

keyboard                            keys of this terminal
gamepad                             the first game controller (extra `gamepad`)
leader:hardware:so101//dev/ttyACM1  a second robot, read only, matched by joint name
hardware:lerobot/so101_leader@F     what a plug-in has for it: LeRobot's teleoperators
"""

from __future__ import annotations

from typing import Protocol

from robostack import plugins
from robostack.plugins import PluginError
from robostack.spec import Array, RobotSpec, SpecError

MOST_RAD = 0.8  # a robot farther away from its operator than this is not moved there
_MOST_PART = 0.25  # the same for elements in other units, in parts of their range
KINDS = (
    "keyboard, gamepad, leader:hardware:ROBOT[/ARGUMENT] or "
    "hardware:lerobot/TELEOPERATOR[@FILE]"
)


class TeleopError(RuntimeError):
    """A person cannot move the robot with this, and why."""


class Teleoperator(Protocol):
    """Something that a person moves, and that says where the robot is to be."""

    help: str  # one line: how it is used

    @property
    def intervening(self) -> bool:
        """Whether the person wants to move the robot now."""

    @property
    def finished(self) -> bool:
        """Whether the person wants the episode to end."""

    def connect(self) -> None:
        """Open the device."""

    def begin(self) -> None:
        """Heed that an episode begins: it is not finished."""

    def start(self, action: Array) -> None:
        """Go on from `action` (A,), which is in effect: the person takes over."""

    def read(self) -> Array | None:
        """Return the action (A,) wanted now; None: not known.

        Called once a period, also while nobody intervenes: this is where buttons are
        heeded.
        """

    def close(self) -> None:
        """Release the device. Idempotent."""


def make(what: str, robot: RobotSpec) -> Teleoperator:
    """Return the teleoperator called `what` for `robot`, not yet connected.

    Raises:
        TeleopError: there is none of that name, or it cannot move this robot.
    """
    if what == "keyboard":
        from robostack.teleop.keyboard import Keyboard

        return Keyboard(robot)
    if what == "gamepad":
        from robostack.teleop.gamepad import Gamepad

        return Gamepad(robot)
    try:
        if what.startswith("leader:"):
            from robostack.teleop.leader import Leader

            return Leader(robot, what.removeprefix("leader:"))
        if plugins.is_address(what):
            return _of_plugin(what, robot)
    except (PluginError, SpecError) as error:
        raise TeleopError(str(error)) from error
    raise TeleopError(f"expected {KINDS}, got {what!r}")


def _of_plugin(address: str, robot: RobotSpec) -> Teleoperator:
    kind, name, argument = plugins.parse(address)
    module = plugins.load(kind, name)
    if not hasattr(module, "teleoperator"):
        raise TeleopError(
            f"expected {KINDS}, got {address}: did you mean leader:{address}?"
        )
    return module.teleoperator(argument, robot)  # type: ignore[no-any-return]


def too_far(robot: RobotSpec, here: Array, there: Array) -> str:
    """Return why a robot at `here` must not go to `there` (A,), or ""."""
    action = robot.action
    rows = zip(
        action.names, action.units, action.low, action.high, here, there, strict=True
    )
    for name, unit, low, high, a, b in rows:
        most = MOST_RAD if unit == "rad" else _MOST_PART * (high - low)
        if not abs(b - a) <= most:
            return (
                f"{name} of the robot is at {a:.2f} {unit} and that of its operator at "
                f"{b:.2f}: expected at most {most:.2g} between them; bring them closer"
            )
    return ""
