"""Disk space for recordings, and ports for a node."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from robostack.link import endpoints
from robostack.robot import Finding

_LITTLE_GB, _TOO_LITTLE_GB = (
    10.0,
    1.0,
)  # one camera of 640 x 480 JPEG: 3 to 5 GB an hour
_GB = 1e9


def disk(folder: Path) -> Iterator[Finding]:
    """Yield whether recordings fit into `folder`, and may be written there."""
    there = folder.resolve()
    while not there.exists():
        there = there.parent
    if not os.access(there, os.W_OK):
        yield Finding(
            "fault", "disk", f"no permission to write into {there}", "choose another"
        )
        return
    free_gb = shutil.disk_usage(there).free / _GB
    words = f"{free_gb:.1f} GB free in {there}, where recordings go"
    cure = (
        f"make room: a recorder stops when the disk is full; {_LITTLE_GB:g} GB will do"
    )
    if free_gb < _TOO_LITTLE_GB:
        yield Finding("fault", "disk", words, cure)
    elif free_gb < _LITTLE_GB:
        yield Finding("advice", "disk", words, cure)
    else:
        yield Finding("ok", "disk", words, "")


def ports(endpoint: str = endpoints.DEFAULT) -> Iterator[Finding]:
    """Yield which of a node's ports another program has."""
    taken = [at for at in endpoints.parse(endpoint) if _taken(at)]
    if taken:
        yield Finding(
            "advice",
            "ports",
            f"in use: {', '.join(taken)}",
            "a node may be running; end it, or serve at another port with --bind",
        )
        return
    yield Finding("ok", "ports", f"{endpoint} and the two after it are free", "")


def clock_source() -> Iterator[Finding]:
    """Yield whether the time is cheap to ask for, and the processor runs freely."""
    source = _say("/sys/devices/system/clocksource/clocksource0/current_clocksource")
    if source in ("hpet", "acpi_pm", "jiffies"):
        yield Finding(
            "advice",
            "clock",
            f"the kernel's clock source is {source}: slow to read",
            "see dmesg | grep -i tsc; a newer kernel or BIOS may keep the TSC",
        )
    elif source:
        yield Finding("ok", "clock", f"clock source {source}", "")
    governor = _say("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    if governor == "powersave":
        yield Finding(
            "advice",
            "clock",
            "the processor saves power: it wakes up late",
            "sudo cpupower frequency-set -g performance",
        )


def _say(path: str) -> str:
    if not sys.platform.startswith("linux"):
        return ""
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _taken(address: str) -> bool:
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    if not port.isdecimal():
        return Path(address.removeprefix("ipc://")).exists()
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except OSError:
            return True
    return False
