"""Foreign formats, one module each, found by name.

A module of `robostack.data` is a format when its name stands in `NAMES` and it offers

    sniff(path: Path) -> bool
        Whether the file or folder looks like this format; cheap, and never raises.
    read(path, spec: RobotSpec, *, note: Note = ignore, OPTIONS) -> Iterable[Episode]
        All its episodes in the units and the order of `spec`; one at a time where a
        file may be larger than memory. Every option is a
        keyword with a default and a type that text converts to (bool, int, float,
        str): `--option name=value` on the command line. What was noticed, corrected or
        dropped goes to `note`, a sentence each. What cannot be read raises
        `FormatError`: what was expected, what was found, what to do. A keyword `task`
        (`Task | None`) may be there too, for formats that must be told what ends one.
    guess(path: Path, *, note: Note = ignore, OPTIONS) -> RobotSpec      (may be absent)
        A spec made from the data alone, for files that nobody described.
    fetch(name: str) -> Path                                          (may be absent)
        Where `FORMAT:name` lies, after it was downloaded if need be.

Heavy imports belong inside such a module only, and only where `read` needs them.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, cast, get_type_hints

import msgspec

from robostack.data.episode import Episode
from robostack.plugins import unknown
from robostack.robot import Task
from robostack.spec import RobotSpec

NAMES = ("d4rl", "dfki", "recording", "minari")  # a new format adds its module
EXTRAS = {"minari": "minari"}  # what to install for a format, where it is not `train`

Note = Callable[[str], None]


class FormatError(ValueError):
    """A foreign file that cannot be read, or an option that its format lacks."""


def ignore(_: str) -> None:
    """Take a note and do nothing with it."""


class Format(Protocol):
    """What every module named in `NAMES` offers."""

    sniff: Callable[[Path], bool]
    read: Callable[..., Iterable[Episode]]


def load(name: str) -> Format:
    """Return the module of format `name`."""
    if name not in NAMES:
        raise FormatError(unknown("format", name, list(NAMES)))
    try:
        return cast(Format, importlib.import_module(f"robostack.data.{name}"))
    except ModuleNotFoundError as error:
        raise FormatError(
            f"format {name!r} needs the package {error.name!r}, which is not "
            f"installed: pip install 'robostack[{EXTRAS.get(name, 'train')}]'"
        ) from error


def locate(path: Path) -> Path:
    """Return where `path` lies, which may be named FORMAT:NAME."""
    name, colon, rest = str(path).partition(":")
    if not colon or name not in NAMES or path.exists():
        return path
    fetch = getattr(load(name), "fetch", None)
    return path if fetch is None else cast(Path, fetch(rest))


def sniff(path: Path) -> str:
    """Return the name of the format that `path` is in."""
    if not path.exists():
        raise FormatError(f"expected a file or folder to import, found no {path}")
    missing = ""
    for name in NAMES:
        try:
            module = load(name)
        except FormatError as error:  # that format's package is not installed
            missing = f"; {error}"
            continue
        if module.sniff(path):
            return name
    raise FormatError(
        f"expected one of the formats {', '.join(NAMES)}, cannot tell which {path} is: "
        f"name it with --format{missing}"
    )


def keywords(
    function: Callable[..., Any], options: Mapping[str, str]
) -> dict[str, Any]:
    """Return those `options` that `function` has, typed by its hints."""
    hints = get_type_hints(function)
    typed = {}
    for name in _options(function) & options.keys():
        try:
            typed[name] = msgspec.convert(options[name], hints[name], strict=False)
        except msgspec.ValidationError as error:
            raise FormatError(f"option {name}={options[name]}: {error}") from error
    return typed


def check_options(name: str, options: Mapping[str, str]) -> None:
    """Raise FormatError if format `name` lacks one of `options`."""
    module = load(name)
    known = _options(module.read)
    if guess := getattr(module, "guess", None):
        known |= _options(guess)
    for option in options:
        if option not in known:
            raise FormatError(unknown(f"option of {name}", option, sorted(known)))


def _options(function: Callable[..., Any]) -> set[str]:
    """Return the names of the keywords that text converts to."""
    hints = get_type_hints(function)
    parameters = inspect.signature(function).parameters.values()
    names = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
    return {name for name in names if hints[name] in (bool, int, float, str)}


def read(
    name: str,
    path: Path,
    spec: RobotSpec,
    options: Mapping[str, str],
    note: Note = ignore,
    task: Task | None = None,
) -> Iterable[Episode]:
    """Return the episodes of `path`, read as format `name` with `options` as typed."""
    check_options(name, options)
    function = load(name).read
    asks = task is not None and "task" in inspect.signature(function).parameters
    known = {"task": task} if asks else {}
    return function(path, spec, note=note, **known, **keywords(function, options))
