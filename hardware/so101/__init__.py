"""An SO-101 follower arm: six STS3215 servos on a serial bus.

hardware:so101//dev/ttyACM0             with the calibration of this user's one arm
hardware:so101//dev/ttyACM0@left.json   with that of a file
hardware:so101/emulated                 an emulated bus on a pseudo-terminal
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from robostack.clock import Clock
from robostack.plugins import PluginError
from robostack.robot import Finding
from robostack.spec import RobotSpec

from . import arm, calibration

if TYPE_CHECKING:
    from .driver import SO101

EMULATED = "emulated"


class _Place(NamedTuple):
    port: str
    calibration: calibration.Calibration
    digest: str


def spec(argument: str = "") -> RobotSpec:
    """Return the spec; it names the calibration, and so reads it."""
    return arm.with_calibration(_place(argument).digest)


def make(argument: str = "", clock: Clock | None = None) -> SO101:
    """Return the arm, not yet connected.

    Raises:
        PluginError: the argument is none, or the vendor's SDK is not installed.
        CalibrationError: there is no calibration, or it cannot be used.
    """
    place = _place(argument)
    try:
        from .driver import SO101
    except ModuleNotFoundError as error:
        if error.name not in ("scservo_sdk", "serial"):
            raise
        raise PluginError(
            "hardware:so101 needs the package 'feetech-servo-sdk', which is not "
            "installed: pip install 'robostack[so101]'"
        ) from error

    def port() -> AbstractContextManager[str]:
        return _port(place, clock)

    return SO101(port, place.calibration, digest=place.digest, clock=clock)


def examine(argument: str = "") -> list[Finding]:
    """Return what is wrong with this very arm, worst first; enables no torque."""
    _need_sdk()
    from .examination import examine_arm

    found = []
    try:
        place = _place(argument)
        found.append(Finding("ok", "calibration", f"digest {place.digest}", ""))
    except calibration.CalibrationError as error:
        found.append(Finding("fault", "calibration", str(error), calibration.HOW))
        port, _, _ = argument.partition("@")
        place = _place(f"{port}@{calibration.NOMINAL}")
    with _port(place, None) as path:
        found += examine_arm(path, place.calibration)
    return sorted(found, key=lambda f: ("fault", "advice", "ok").index(f.level))


def _need_sdk() -> None:
    for name in ("scservo_sdk", "serial"):
        if importlib.util.find_spec(name) is None:
            raise PluginError(
                "hardware:so101 needs the package 'feetech-servo-sdk', which is not "
                "installed: pip install 'robostack[so101]'"
            )


def _port(place: _Place, clock: Clock | None) -> AbstractContextManager[str]:
    if place.port == EMULATED:
        return _emulated(clock)
    return contextlib.nullcontext(place.port)


def _place(argument: str) -> _Place:
    port, _, file = argument.partition("@")
    if not port:
        raise PluginError(
            "expected hardware:so101/PORT[@CALIBRATION], such as "
            "hardware:so101//dev/ttyACM0, or hardware:so101/emulated"
        )
    if port.startswith("dev/"):
        port = "/" + port
    if file == calibration.NOMINAL or (port == EMULATED and not file):
        return _Place(port, calibration.nominal(), calibration.NOMINAL)
    path = Path(file).expanduser() if file else calibration.default_path()
    loaded = calibration.load(path)
    return _Place(port, loaded, loaded.digest)


@contextlib.contextmanager
def _emulated(clock: Clock | None) -> Iterator[str]:
    from .emulator import so101

    with so101(clock) as emulator:
        yield emulator.path
