"""Setting up the process that trains, before an algorithm brings torch into it.

OpenMP's threads spin while they wait. With one other busy process on two cores, that
makes an update a hundred times slower, so one thread is the default; OMP_NUM_THREADS
in the environment has the last word.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType

from robostack import plugins


def prepare(threads: int = 1) -> None:
    """Limit math libraries that are yet to come to `threads`."""
    if "torch" not in sys.modules:
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def load_algorithm(name: str) -> ModuleType:
    """Return the module of the algorithm `name`; it has `Config` and `Learner`."""
    prepare()
    return plugins.load("policies", name)
