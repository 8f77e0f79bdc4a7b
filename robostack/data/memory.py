"""How much memory this process may still take."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

STATUS = Path("/proc/self/status")
_KB = 1024
_OWN = Path("/proc/self/cgroup")
_LIMITS = ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData"))
_CGROUPS = (  # root, how its line in /proc/self/cgroup begins, limit, use
    ("/sys/fs/cgroup", "0::", "memory.max", "memory.current"),
    (
        "/sys/fs/cgroup/memory",
        "memory:",
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
    ),
)


def available() -> int:
    """Return what the machine, its control group and its limits leave us [byte].

    Files that the system holds in memory, and could drop, count as available.
    """
    return max(0, min(_offers()))


def _offers() -> Iterator[int]:
    machine = table(Path("/proc/meminfo"))
    if "MemAvailable" in machine:
        yield machine["MemAvailable"] * _KB
    else:  # not Linux
        yield os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    process = table(STATUS)
    for kind, name in _LIMITS:
        soft, _ = resource.getrlimit(kind)
        if soft != resource.RLIM_INFINITY:
            yield soft - process.get(name, 0) * _KB
    for root, prefix, limit, use in _CGROUPS:
        for folder in _groups(Path(root), prefix):
            most, taken = _number(folder / limit), _number(folder / use)
            if most is not None and taken is not None:
                yield most - taken + _cached(folder)


def _groups(root: Path, prefix: str) -> Iterator[Path]:
    """Give the folders of our control group and of all that it is part of."""
    lines = _OWN.read_text().splitlines() if _OWN.exists() else []
    for line in lines:
        number, _, rest = line.partition(":")
        entry = line if prefix == f"{number}::" else rest
        if entry.startswith(prefix):
            path = root / entry.removeprefix(prefix).lstrip("/")
            yield from (p for p in (path, *path.parents) if p.is_relative_to(root))


def _cached(folder: Path) -> int:
    """Return how much of what a control group uses are files that can be dropped."""
    stat = table(folder / "memory.stat")
    return stat.get("inactive_file", 0) + stat.get("active_file", 0)


def table(path: Path) -> dict[str, int]:
    """Return the numbers in lines such as "MemFree:  12 kB"; none without the file."""
    try:
        lines = (line.split() for line in path.read_text().splitlines())
    except OSError:
        return {}
    return {
        words[0].rstrip(":"): int(words[1])
        for words in lines
        if len(words) > 1 and words[1].isdigit()
    }


def _number(path: Path) -> int | None:
    """Return the number in a file; None where there is none, such as "max"."""
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
