"""A robot that is not there: two joints, numpy only. The template for drivers.

hardware:fake                                   as good as its limits
hardware:fake/delay=1,noise=0.002,backlash=0.01   with flaws: see `Flaws` in driver.py
"""

from __future__ import annotations

import msgspec

from robostack.clock import Clock
from robostack.limits import Limits
from robostack.plugins import PluginError
from robostack.spec import RobotSpec

from . import driver
from .driver import FakeRobot, Flaws
from .joints import SPEC


def spec(argument: str = "") -> RobotSpec:
    """Return the spec; there is one kind only."""
    _flaws(argument)
    return SPEC


def limits(argument: str = "") -> Limits:
    """Return the limits of its joints."""
    _flaws(argument)
    return driver.limits()


def make(argument: str = "", clock: Clock | None = None) -> FakeRobot:
    """Return the robot, not yet connected; its joints move as `clock` goes."""
    return FakeRobot(clock, _flaws(argument))


def _flaws(argument: str) -> Flaws:
    pairs = [word.partition("=") for word in argument.split(",") if word]
    try:
        return msgspec.convert(
            {name: value for name, _, value in pairs}, Flaws, strict=False
        )
    except msgspec.ValidationError as error:
        raise PluginError(
            f"expected hardware:fake/delay=PERIODS,noise=RAD,backlash=RAD, got "
            f"{argument!r}: {error}"
        ) from error
