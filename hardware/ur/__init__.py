"""An arm of Universal Robots' e-series, through ur_rtde.

hardware:ur/ur5e@192.168.0.10   an arm; also ur3e, ur10e, ur16e
hardware:ur/emulated            an emulated controller of a ur5e, in another process
hardware:ur/ur10e@emulated      the same of another size
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, NamedTuple

from robostack.clock import Clock
from robostack.plugins import PluginError
from robostack.spec import RobotSpec

from . import models

if TYPE_CHECKING:
    from .driver import UR

EMULATED = "emulated"
_VENDOR = ("rtde_receive", "rtde_control", "dashboard_client")
_HOST = re.compile(r"(?!-)[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*")


class _Place(NamedTuple):
    model: models.Model
    host: str


def spec(argument: str = "") -> RobotSpec:
    """Return the spec of the size that the argument names."""
    return models.make_spec(_place(argument).model)


def make(argument: str = "", clock: Clock | None = None) -> UR:
    """Return the arm, not yet connected.

    Raises:
        PluginError: the argument is none, or ur_rtde is not installed.
    """
    place = _place(argument)
    try:
        from .driver import UR
    except ModuleNotFoundError as error:
        if error.name not in _VENDOR:
            raise
        raise PluginError(
            "hardware:ur needs the package 'ur-rtde', which is not installed: "
            "pip install 'robostack[ur]'"
        ) from error

    def host() -> AbstractContextManager[str]:
        if place.host == EMULATED:
            return _emulated(place.model.name)
        return contextlib.nullcontext(place.host)

    care = models.PATIENT if place.host == EMULATED else models.CARE
    return UR(host, place.model, clock=clock, care=care)


def _place(argument: str) -> _Place:
    model, _, host = argument.partition("@")
    if argument == EMULATED:
        model, host = "ur5e", EMULATED
    if model not in models.MODELS or not host:
        raise PluginError(
            f"expected hardware:ur/MODEL@HOST, such as hardware:ur/ur5e@192.168.0.10, "
            f"with a MODEL of {', '.join(models.MODELS)}; or hardware:ur/emulated; got "
            f"{argument!r}"
        )
    return _Place(models.MODELS[model], _host(host))


def _host(host: str) -> str:
    name, colon, _ = host.partition(":")
    if colon:
        raise PluginError(
            f"expected HOST without a port, got {host!r}: a controller's ports are "
            f"fixed (30004, 30003, 29999)"
        )
    if re.fullmatch(r"[\d.]+", name):
        try:
            ipaddress.IPv4Address(name)
        except ValueError as error:
            raise PluginError(f"expected an IPv4 address: {error}") from error
    elif not _HOST.fullmatch(name):
        raise PluginError(f"expected an IPv4 address or host name, got {host!r}")
    return name


@contextlib.contextmanager
def _emulated(model: str) -> Iterator[str]:
    from .emulation import emulated

    with emulated(model) as emulation:
        yield emulation.host
