"""Setting up the process that trains, before an algorithm brings torch into it.

OpenMP's threads spin while they wait. With one other busy process on two cores, that
makes an update a hundred times slower, so one thread is the default; OMP_NUM_THREADS
in the environment has the last word.

The C library gives blocks of some size back to the system when they are freed. Learners
make the same ones again at every update, and each page would be asked for anew: some
8000 an update of CQL, a seventh of its time (benchmarks/offline.md). So they are kept.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from types import ModuleType

from robostack import plugins

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)
_KEPT = 512 * 2**20  # [byte] that are kept at most
_FROM_HEAP = 32 * 2**20  # [byte] of a block; glibc takes no more


def prepare(threads: int = 1) -> None:
    """Limit math libraries that are yet to come to `threads`."""
    if "torch" not in sys.modules:
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    _keep_memory()


def _keep_memory() -> None:
    """Have glibc keep what is freed, where glibc it is."""
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_TRIM_THRESHOLD, _KEPT)
        mallopt(_MMAP_THRESHOLD, _FROM_HEAP)


def load_algorithm(name: str) -> ModuleType:
    """Return the module of the algorithm `name`; it has `Config` and `Learner`."""
    prepare()
    return plugins.load("policies", name)
