"""An SO-101 follower arm: six STS3215 servos on a serial bus.

hardware:so101//dev/ttyACM0             with the calibration of this user's one arm
hardware:so101//dev/ttyACM0@left.json   with that of a file
hardware:so101//dev/ttyACM0+table       at its table, as sim:so101_table has it
hardware:so101/emulated                 the same on an emulated bus, in the MuJoCo twin
hardware:so101/emulated+arm             an emulated arm alone

place.py says what else may follow.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from robostack.clock import Clock
from robostack.plugins import PluginError
from robostack.robot import Finding
from robostack.spec import RobotSpec

from . import arm, calibration, place, twin
from .surroundings import Surroundings, table_spec

if TYPE_CHECKING:
    from .driver import SO101

log = logging.getLogger(__name__)

_EMULATED_S = 0.1  # for an answer: a process on a busy computer, not a servo


def spec(argument: str = "") -> RobotSpec:
    """Return the spec: of the arm alone, or that of `sim:so101_table`."""
    return arm.SPEC if place.parse(argument).table is None else table_spec()


def make(argument: str = "", clock: Clock | None = None) -> SO101:
    """Return the arm, not yet connected.

    Raises:
        PluginError: the argument is none, or a package is not installed.
        CalibrationError: there is no calibration, or it cannot be used.
    """
    where = place.parse(argument)
    calibrated = where.calibrated()
    with _sdk():
        from .._servo_bus import PATIENCE_S
        from .driver import SO101, Setup

    orphan: Literal["hold", "limp"] = "limp" if where.limp else "hold"
    port, surroundings = _around(where)
    return SO101(
        Setup(
            lambda: _open(port, where),
            calibrated,
            calibrated.digest,
            msgspec.structs.replace(arm.ENDING, orphan=orphan),
            lifeline=f"{port}@{where.file}",
            surroundings=surroundings,
            patience_s=_EMULATED_S if where.emulated else PATIENCE_S,
        ),
        clock,
    )


def examine(argument: str = "") -> list[Finding]:
    """Return what is wrong with this very arm, worst first; enables no torque."""
    with _sdk():
        from .examination import examine_arm

    where, found = place.parse(argument)._replace(table=None), []
    try:
        calibrated = where.calibrated()
        found.append(Finding("ok", "calibration", f"digest {calibrated.digest}", ""))
    except calibration.CalibrationError as error:
        found.append(Finding("fault", "calibration", str(error), calibration.HOW))
        calibrated = calibration.nominal()
    port, _ = _around(where)
    with _open(port, where) as path:
        found += examine_arm(path, calibrated)
    return sorted(found, key=lambda f: ("fault", "advice", "ok").index(f.level))


def measure(argument: str = "") -> Path:
    """Calibrate the arm with a person at the terminal; return the file.

    Raises:
        PluginError: there is no arm to be calibrated.
        BusError: a servo does not answer.
        CalibrationError: what was measured cannot be right; nothing is stored.
    """
    where = place.parse(argument)
    if where.emulated or where.file == calibration.NOMINAL:
        raise PluginError(
            f"expected the port of an arm, got {argument}: one that is built to the "
            f"letter needs no calibration"
        )
    with _sdk():
        from .calibrate import at_the_keyboard, calibrate

    calibrate(where.port, where.path, at_the_keyboard)
    return where.path


def rescue(argument: str, how: Literal["hold", "limp"]) -> None:
    """Hold the arm, or let it down: its node died. `argument` is a driver's lifeline.

    Raises:
        BusError: it is out of reach.
    """
    where = place.parse(argument)
    with _sdk():
        from .orphan import secure

    secure(where.port, where.calibrated(), how)


def _around(where: place.Place) -> tuple[str, Surroundings | None]:
    """Return the port, and what sees the table if there is one."""
    if not where.emulated:
        if where.table is None:
            return where.port, None
        from .table import watched

        return where.port, watched(where.table)
    from .control import TTY
    from .emulation import EmulatedEyes, EmulatedTracker
    from .emulator import new_folder

    folder = new_folder()
    if where.table is not None:
        seers = Surroundings(EmulatedTracker(folder), EmulatedEyes(folder))
        return str(folder / TTY), seers
    if missing := twin.lacking():
        log.warning(
            "no %s here: the emulated arm is alone, and its servos in no world",
            " and no ".join(missing),
        )
    return str(folder / TTY), None


def _open(port: str, where: place.Place) -> AbstractContextManager[str]:
    if not where.emulated:
        return contextlib.nullcontext(port)
    from .emulation import emulation

    return emulation(Path(port).parent, alone=where.table is None)


@contextlib.contextmanager
def _sdk() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in ("scservo_sdk", "serial"):
            raise
        raise PluginError(
            "hardware:so101 needs the package 'feetech-servo-sdk', which is not "
            "installed: pip install 'robostack[so101]'"
        ) from error
