"""A robot that is not there: two joints, numpy only. The template for drivers."""

from __future__ import annotations

from robostack.clock import Clock
from robostack.spec import RobotSpec

from .driver import FakeRobot
from .joints import SPEC


def spec(argument: str = "") -> RobotSpec:
    """Return the spec; there is one kind only."""
    _refuse(argument)
    return SPEC


def make(argument: str = "", clock: Clock | None = None) -> FakeRobot:
    """Return the robot, not yet connected; its joints move as `clock` goes."""
    _refuse(argument)
    return FakeRobot(clock)


def _refuse(argument: str) -> None:
    if argument:
        raise ValueError(f"expected hardware:fake with nothing after it: {argument!r}")
