"""Setting up the process that trains, before an algorithm brings torch into it.

OpenMP's threads spin while they wait. With one other busy process on two cores, that
makes an update a hundred times slower, so one thread is the default; OMP_NUM_THREADS
in the environment has the last word. And glibc gives the memory of every temporary back
to the kernel at once, only to fault it in again a millisecond later, unless it is told
not to (the figure is in benchmarks/offline.md).
"""

from __future__ import annotations

import ctypes
import os
import sys
from types import ModuleType

from robostack import plugins

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_KEPT = 512 << 20  # [byte] of free memory that stays with the process
_MAPPED = 32 << 20  # [byte] from which on an allocation gets a mapping of its own


def prepare(threads: int = 1) -> None:
    """Limit math libraries that are yet to come to `threads`, and keep freed memory."""
    if "torch" not in sys.modules:
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, _MAPPED)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT)


def load_algorithm(name: str) -> ModuleType:
    """Return the module of the algorithm `name`; it has `Config` and `Learner`."""
    prepare()
    return plugins.load("policies", name)
