"""Any robot with LeRobot's plug-in interface.

hardware:lerobot/so101_follower@arm.json

The file holds LeRobot's own configuration under "robot", and what LeRobot does not know
beside it; see `settings.Settings`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from robostack.clock import Clock
from robostack.plugins import PluginError
from robostack.spec import RobotSpec

from . import settings

if TYPE_CHECKING:
    from robostack.teleop.teleoperator import Teleoperator

    from .driver import LeRobot


def spec(argument: str = "") -> RobotSpec:
    """Return the spec; it follows from LeRobot's features and calibration."""
    return make(argument).spec


def teleoperator(argument: str, robot: RobotSpec) -> Teleoperator:
    """Return LeRobot's teleoperator `TYPE[@FILE]` for `robot`, not yet connected.

    Raises:
        PluginError: there is none of that type, or LeRobot is not installed.
        SpecError: it has other elements, or other units, than `robot`.
    """
    with _lerobot():
        from .teleoperator import LeRobotTeleoperator

    return LeRobotTeleoperator(argument, robot.action)


def make(argument: str = "", clock: Clock | None = None) -> LeRobot:
    """Return the robot, not yet connected.

    Raises:
        PluginError: the argument is none, or LeRobot is not installed.
        FeatureError: what the robot says of itself cannot be put in units.
    """
    with _lerobot():
        from . import driver, registry
    kind, told = settings.parse(argument)
    return driver.LeRobot(registry.make_robot(kind, told.robot), told, clock)


@contextlib.contextmanager
def _lerobot() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "lerobot":
            raise
        raise PluginError(
            "hardware:lerobot needs the package 'lerobot', which is not installed: see "
            "hardware/lerobot/README.md for how"
        ) from error
