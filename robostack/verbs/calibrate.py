"""`robostack calibrate`: measure what a robot's sensors mean, with a person at hand."""

from __future__ import annotations

import msgspec
from tyro.conf import Positional

from robostack import plugins

from .verb import Verb, VerbError, console


class Calibrate(msgspec.Struct, frozen=True):
    """Measure a robot's calibration by hand, and store it.

    The robot goes limp: hold it. What it replaces is kept beside it.
    """

    robot: Positional[str]  # hardware:ROBOT[/ARGUMENT]
    port: str = ""  # of the robot, such as /dev/ttyACM0


def calibrate(flags: Calibrate) -> int:
    """Do as the robot's plug-in does; say where the calibration is."""
    address = plugins.with_port(flags.robot, flags.port)
    kind, name, argument = plugins.parse(address)
    module = plugins.load(kind, name)
    if not hasattr(module, "measure"):
        raise VerbError(
            f"expected a robot that is calibrated here, got {address}: its README says "
            f"how it is calibrated, if it is"
        )
    path = module.measure(argument)
    console.print(f"calibration stored in {path}", highlight=False, soft_wrap=True)
    return 0


VERBS = {"calibrate": Verb(Calibrate, calibrate)}
