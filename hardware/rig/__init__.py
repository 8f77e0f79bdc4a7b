"""Any robot of hardware/ with cameras around it, as a TOML file says.

hardware:rig//home/me/left.toml    the robot and cameras of a file
hardware:rig/example               the fake robot with a picture that moves
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from robostack import plugins
from robostack.clock import Clock
from robostack.plugins import PluginError
from robostack.robot import Robot
from robostack.spec import RobotSpec

from .. import _camera
from .._camera_source import CameraSettings

EXAMPLE = "example"


class RigError(ValueError):
    """A rig file that is missing or broken."""


class Rig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A rig file."""

    robot: str  # such as "hardware:so101//dev/ttyACM0"
    cameras: dict[str, CameraSettings]


def spec(argument: str = "") -> RobotSpec:
    """Return the robot's spec, with cameras."""
    rig = _load(argument)
    module, inner = _robot(rig)
    return _camera.with_specs(module.spec(inner), rig.cameras)


def make(argument: str = "", clock: Clock | None = None) -> Robot:
    """Return the robot with its cameras, not yet connected.

    Raises:
        PluginError: the argument is none, or a vendor's package is not installed.
        RigError: there is no such file, or it cannot be used.
    """
    rig = _load(argument)
    module, inner = _robot(rig)
    return _camera.with_cameras(module.make(inner), rig.cameras, clock)


def _load(argument: str) -> Rig:
    if not argument:
        raise PluginError(
            "expected hardware:rig/FILE.toml, or hardware:rig/example, got no file"
        )
    here = Path(__file__).with_name("example.toml")
    path = here if argument == EXAMPLE else Path(argument).expanduser()
    try:
        return msgspec.toml.decode(path.read_bytes(), type=Rig)
    except FileNotFoundError:
        raise RigError(f"no rig file {path}: copy {here}") from None
    except (OSError, msgspec.MsgspecError, ValueError) as error:
        raise RigError(f"cannot use the rig file {path}: {error}") from error


def _robot(rig: Rig) -> tuple[Any, str]:
    """Return the plug-in of the rig's robot, and its argument."""
    address = plugins.parse(rig.robot)
    if address.kind != "hardware" or address.name == "rig":
        raise RigError(f"expected hardware:ROBOT in a rig file, got {rig.robot}")
    return plugins.load(address.kind, address.name), address.argument
