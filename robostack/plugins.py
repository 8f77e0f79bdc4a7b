"""Finding content by name: policies, worlds and robots, ours and other packages'.

    names("sim")           -> ["double_pendulum", "gym", "pendulum", "so101_table"]
    load("sim", "gym")     -> the module robostack.sim.gym
    parse("sim:gym/Hopper-v5") -> ("sim", "gym", "Hopper-v5")
    spec("sim:gym/Hopper-v5")  -> its RobotSpec

Another package adds content by an entry point in the group `robostack.<kind>`.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import pkgutil
from types import ModuleType
from typing import NamedTuple

from robostack.spec import RobotSpec

KINDS = ("policies", "sim", "hardware")


class PluginError(LookupError):
    """A plug-in that is not there, or lacks what it needs."""

    def __str__(self) -> str:
        """Return the sentence without the quotes that LookupError may add."""
        return str(self.args[0])


class Address(NamedTuple):
    """Where to find a robot or world: `sim:gym/Hopper-v5`."""

    kind: str
    name: str
    argument: str

    def __str__(self) -> str:
        """Return the address as it is typed."""
        tail = f"/{self.argument}" if self.argument else ""
        return f"{self.kind}:{self.name}{tail}"


def names(kind: str) -> list[str]:
    """Return the names of all plug-ins of `kind`, sorted."""
    package = importlib.import_module(f"robostack.{kind}")
    ours = {m.name for m in pkgutil.iter_modules(package.__path__)}
    theirs = {e.name for e in importlib.metadata.entry_points(group=_group(kind))}
    return sorted(name for name in ours | theirs if not name.startswith("_"))


def load(kind: str, name: str) -> ModuleType:
    """Import the plug-in `name` of `kind`.

    Raises:
        PluginError: there is none of that name (the nearest is given), or a package it
            needs is not installed (the extra that brings it is given).
    """
    known = names(kind)
    if name not in known:
        raise PluginError(unknown(f"{kind} plug-in", name, known))
    try:
        for entry in importlib.metadata.entry_points(group=_group(kind), name=name):
            return _module(entry.load())
        return importlib.import_module(f"robostack.{kind}.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("robostack"):
            raise
        raise PluginError(
            f"{kind} plug-in {name!r} needs the package {error.name!r}, which is not "
            f"installed: pip install 'robostack[all]'"
        ) from error


def parse(text: str) -> Address:
    """Return the parts of `sim:NAME[/ARGUMENT]` or `hardware:NAME[/ARGUMENT]`."""
    kind, colon, rest = text.partition(":")
    if not colon or kind not in ("sim", "hardware"):
        raise PluginError(
            f"expected sim:WORLD or hardware:ROBOT, got {text!r}; "
            f"worlds: {', '.join(names('sim'))}; robots: {', '.join(names('hardware'))}"
        )
    name, _, argument = rest.partition("/")
    if name not in names(kind):
        raise PluginError(unknown(kind, name, names(kind)))
    return Address(kind, name, argument)


def spec(address: str) -> RobotSpec:
    """Return the spec of `sim:NAME[/ARGUMENT]` or `hardware:NAME[/ARGUMENT]`."""
    kind, name, argument = parse(address)
    found: RobotSpec = load(kind, name).spec(argument)
    return found


def is_address(text: str) -> bool:
    """Return whether `text` is meant as an address, and not as a file or endpoint."""
    return text.startswith(("sim:", "hardware:"))


def with_port(text: str, port: str) -> str:
    """Return the address `text` with `port` as its argument; "" changes nothing.

    Raises:
        PluginError: the address has an argument already.
    """
    if not port:
        return text
    address = parse(text)
    if address.argument:
        raise PluginError(
            f"expected a port either in the address or as --port, got {text} and "
            f"--port {port}"
        )
    return str(address._replace(argument=port))


def unknown(what: str, name: str, known: list[str]) -> str:
    """Return the sentence that says `name` is unknown, and which is nearest."""
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"expected one of {', '.join(known)} as {what}, got {name!r}{hint}"


def _group(kind: str) -> str:
    return f"robostack.{kind}"


def _module(loaded: object) -> ModuleType:
    if not isinstance(loaded, ModuleType):
        raise PluginError(f"expected an entry point to name a module, got {loaded!r}")
    return loaded
