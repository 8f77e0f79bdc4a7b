"""Unitree's Go1 on a flat floor, as MuJoCo Playground's joystick policies know it.

sim:go1               the command is 1 m/s straight on
sim:go1/0.5,0,-0.3    forward [m/s], left [m/s], turn to the left [rad/s]
"""

from __future__ import annotations

from robostack.limits import Limits
from robostack.robot import Task, Variant, World
from robostack.spec import RobotSpec

from . import dog, walk


def spec(argument: str = "") -> RobotSpec:
    """Return the spec; it is the same for every command."""
    dog.command(argument)
    return dog.SPEC


def limits(argument: str = "") -> Limits:
    """Return what a node enforces: the limits of the spec, and an upright trunk."""
    dog.command(argument)
    return dog.limits()


def tasks(argument: str = "") -> dict[str, Task]:
    """Return `walk`: as commanded, whatever the command is."""
    dog.command(argument)
    return {"walk": walk.TASK}


def make(argument: str = "", variant: Variant = Variant()) -> World:  # noqa: B008
    """Return the world.

    Raises:
        PluginError: the argument is no command, or the package with the model is
            missing.
    """
    from .world import Go1World

    return Go1World(dog.command(argument), variant)
