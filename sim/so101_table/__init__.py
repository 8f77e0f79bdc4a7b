"""An SO-101 arm at a table with a cube and two marked zones.

sim:so101_table                the cube starts between the zones
sim:so101_table/push_left      it starts from the middle to the right zone
sim:so101_table/push_right     it starts from the middle to the left zone
.../meshes, .../push_left+meshes    drawn as the real parts (slow)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from robostack.robot import Task, Variant, World
from robostack.spec import Array, RobotSpec

from . import table

if TYPE_CHECKING:
    from .puppet import Puppet


def spec(argument: str = "") -> RobotSpec:
    """Return the spec; it is the same for every argument."""
    table.start(argument)
    return table.SPEC


def tasks(argument: str = "") -> dict[str, Task]:
    """Return push_left and push_right."""
    table.start(argument)
    return table.tasks()


def make(argument: str = "", variant: Variant = Variant()) -> World:  # noqa: B008
    """Return the world.

    Raises:
        PluginError: the argument is unknown, or the arm's package is missing.
    """
    from .world import TableWorld

    return TableWorld(table.start(argument), variant)


def operator(
    task: str, seed: int, skill: float = 0.5
) -> Callable[[dict[str, Array]], Array | None]:
    """Return a scripted and imperfect operator for one episode; see teleop.py."""
    from . import teleop

    return teleop.operator(task, seed, skill)


def servos(argument: str = "", seed: int = 0) -> Puppet:
    """Return the world for whoever emulates the servos; see puppet.py.

    Raises:
        PluginError: the argument is unknown, or the arm's package is missing.
    """
    from .puppet import Puppet

    return Puppet(argument, seed)
