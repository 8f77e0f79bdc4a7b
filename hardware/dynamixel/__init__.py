"""A chain of Dynamixel X-series servos on a serial bus.

hardware:dynamixel//dev/ttyUSB0@arm.toml    the servos that a chain file names
hardware:dynamixel/emulated                 a nominal arm on a pseudo-terminal
hardware:dynamixel/emulated@arm.toml        those of a chain file, emulated
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from robostack.clock import Clock
from robostack.plugins import PluginError
from robostack.robot import Robot
from robostack.spec import RobotSpec

from .. import _camera
from . import chain

if TYPE_CHECKING:
    from .chain import Chain

EMULATED = "emulated"
_EMULATED_PATIENCE_S = 0.1  # it shares a computer with all that runs there


class _Place(NamedTuple):
    port: str
    chain: Chain


def spec(argument: str = "") -> RobotSpec:
    """Return the spec; the chain file says what it is."""
    loaded = _place(argument).chain
    return _camera.with_specs(chain.spec_of(loaded), loaded.cameras)


def make(argument: str = "", clock: Clock | None = None) -> Robot:
    """Return the arm, not yet connected, with the cameras of its chain file.

    Raises:
        PluginError: the argument is none, or a vendor's package is not installed.
        ChainError: there is no chain file, or it cannot be used.
    """
    place = _place(argument)
    try:
        from .._servo_bus import PATIENCE_S
        from .driver import Dynamixel
    except ModuleNotFoundError as error:
        if error.name not in ("dynamixel_sdk", "serial"):
            raise
        raise PluginError(
            "hardware:dynamixel needs the package 'dynamixel-sdk', which is not "
            "installed: pip install 'robostack[dynamixel]'"
        ) from error

    def port() -> AbstractContextManager[str]:
        if place.port == EMULATED:
            return _emulated(place.chain, clock)
        return contextlib.nullcontext(place.port)

    patience_s = _EMULATED_PATIENCE_S if place.port == EMULATED else PATIENCE_S
    arm = Dynamixel(port, place.chain, clock, patience_s=patience_s)
    return _camera.with_cameras(arm, place.chain.cameras, clock)


def _place(argument: str) -> _Place:
    port, _, file = argument.partition("@")
    if not port or not (file or port == EMULATED):
        raise PluginError(
            "expected hardware:dynamixel/PORT@CHAIN.toml, such as "
            "hardware:dynamixel//dev/ttyUSB0@arm.toml, or hardware:dynamixel/emulated"
        )
    if port.startswith("dev/"):
        port = "/" + port
    path = Path(file).expanduser() if file else chain.NOMINAL
    return _Place(port, chain.load(path))


@contextlib.contextmanager
def _emulated(servos: Chain, clock: Clock | None) -> Iterator[str]:
    from .emulator import emulate

    with emulate(servos, clock) as emulator:
        yield emulator.path
