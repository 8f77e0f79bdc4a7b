"""What is served: the robot or world at an address, and the limits it keeps."""

from __future__ import annotations

from pathlib import Path

from robostack import limits_file, plugins
from robostack.limits import Limits, derive
from robostack.robot import Robot, Variant


class ServeError(RuntimeError):
    """A node that cannot serve what it was asked to."""


def make(address: str, variant: Variant | None = None) -> Robot:
    """Return the robot or world at `address`, not yet connected."""
    kind, name, argument = plugins.parse(address)
    module = plugins.load(kind, name)
    if kind == "sim":
        return module.make(argument, variant or Variant())  # type: ignore[no-any-return]
    if variant is not None:
        raise ServeError(f"expected sim:WORLD for a variant, got {address}")
    return module.make(argument)  # type: ignore[no-any-return]


def limits_of(robot: Robot, address: str, file: Path | None = None) -> Limits:
    """Return the limits of `robot`: a file's, over its plug-in's, over its spec's.

    Raises:
        LimitsError: the file cannot be used.
    """
    limits = derive(robot.spec)
    if plugins.is_address(address):
        kind, name, argument = plugins.parse(address)
        module = plugins.load(kind, name)
        if hasattr(module, "limits"):
            limits = module.limits(argument)
    return limits_file.load(file, limits, robot.spec) if file else limits
