"""Python, packages, and which extras are there."""

from __future__ import annotations

import importlib.util
import platform
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata

from robostack.extras import EXTRAS
from robostack.robot import Finding

_RIVALS = (  # wheels that write into one folder: the one installed last wins
    ("onnxruntime", "onnxruntime-gpu"),
    ("opencv-python", "opencv-python-headless"),
)
_REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?\s*([^;]*)")
_BOUND = re.compile(r"(>=|<=|==|!=|<|>|~=)\s*([0-9][0-9.]*)")


def installation() -> Iterator[Finding]:
    """Yield what is wrong with the packages of this Python."""
    versions = {
        canonical(d.metadata["Name"]): d.version
        for d in metadata.distributions()
        if d.metadata["Name"]
    }
    yield Finding(
        "ok",
        "python",
        f"{platform.python_version()} on {sys.platform} {platform.machine()}",
        "",
    )
    yield from rivals(versions)
    wrong = list(mismatches(metadata.requires("robostack") or (), versions))
    yield from wrong
    if not wrong:
        yield Finding("ok", "packages", "all versions are what robostack needs", "")
    yield from extras()


def rivals(versions: Mapping[str, str]) -> Iterator[Finding]:
    """Yield the packages that overwrite each other, of those installed."""
    for both in _RIVALS:
        if all(name in versions for name in both):
            yield Finding(
                "fault",
                "packages",
                f"{' and '.join(both)} are both installed, and overwrite each other",
                f"pip uninstall -y {' '.join(both)}, then install the one you need",
            )


def mismatches(
    requirements: Iterable[str], versions: Mapping[str, str]
) -> Iterator[Finding]:
    """Yield the installed packages whose version robostack was not made for.

    Args:
        requirements: as package metadata has them, `numpy>=1.26 ; extra == "sim"`.
        versions: what is installed, by canonical name.
    """
    for requirement in requirements:
        match = _REQUIREMENT.match(requirement)
        if match is None:
            continue
        name, bounds = canonical(match[1]), match[2].strip()
        if name in versions and not satisfies(versions[name], bounds):
            yield Finding(
                "fault",
                "packages",
                f"expected {name}{bounds}, got {versions[name]}",
                f"pip install '{name}{bounds}'",
            )


def satisfies(version: str, bounds: str) -> bool:
    """Return whether `version` is within `bounds`, such as ">=2.9,<2.14"."""
    have = _numbers(version)
    return all(_holds(have, sign, _numbers(b)) for sign, b in _BOUND.findall(bounds))


def extras() -> Iterator[Finding]:
    """Yield which extras are installed."""
    there: list[str] = []
    absent: list[str] = []
    for extra, modules in EXTRAS.items():
        missing = [m for m in modules if importlib.util.find_spec(m) is None]
        if 0 < len(missing) < len(modules):
            yield Finding(
                "advice",
                "extras",
                f"{extra} is there in part, without {', '.join(missing)}",
                f"pip install 'robostack[{extra}]'",
            )
        (absent if missing else there).append(extra)
    yield Finding("ok", "extras", f"there: {', '.join(there) or 'none'}", "")
    if absent:
        yield Finding("ok", "extras", f"not there: {', '.join(absent)}", "")


def canonical(name: str) -> str:
    """Return the name by which a package is known, however it was typed."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version; what follows `+` or `rc` is left out."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, match[0].split("."))) if match else ()


def _holds(have: tuple[int, ...], sign: str, bound: tuple[int, ...]) -> bool:
    size = max(len(have), len(bound))
    a, b = (x + (0,) * (size - len(x)) for x in (have, bound))
    if sign == "~=":
        return a >= b and have[: len(bound) - 1] == bound[:-1]
    return {
        ">=": a >= b,
        "<=": a <= b,
        "==": a == b,
        "!=": a != b,
        "<": a < b,
        ">": a > b,
    }[sign]
