"""Policies, nodes and operators that tests of the runtime share."""

from __future__ import annotations

import numpy as np
from conftest import linear_graph, linear_manifest

from robostack import bundle
from robostack.messages import Reading, Tensor
from robostack.runtime.chunks import Chunk
from robostack.spec import float32


def reading(seq, applied=(0.0, 0.0), **arrays):
    """Return reading number `seq` of an episode."""
    tensors = {name: Tensor.pack(float32(a)) for name, a in arrays.items()}
    return Reading(
        "s", 1, seq, 0.02 * seq, tensors, {}, Tensor.pack(float32(applied)), False
    )


class SlowSolver:
    """A solver whose answers come when the test says so."""

    def __init__(self) -> None:
        self.busy = False
        self.wanted: list[int] = []  # readings to infer from
        self.shown: list[int] = []  # all readings
        self.ready: list[Chunk] = []

    def begin(self):
        self.__init__()

    def post(self, seq, arrays, *, wanted):
        self.shown.append(seq)
        if wanted:
            self.wanted.append(seq)
            self.busy = True

    def give(self, seq, length=8):
        """Answer reading `seq`: element i of the chunk is seq + i / 100."""
        steps = float32(seq + np.arange(length) / 100)
        self.ready.append(Chunk(seq, np.stack([steps, -steps], axis=1), 0.001))
        self.busy = seq != self.wanted[-1]

    def poll(self, timeout_s):
        return self.ready.pop(0) if self.ready else None


class Scripted:
    """An operator who does what a test wrote down: an action or None a period."""

    help = "scripted"

    def __init__(self, script, intervening=None) -> None:
        self.finished = False
        self.started: list[np.ndarray] = []
        self.reads = -1
        self._script = script
        self._intervening = intervening

    @property
    def intervening(self):
        return self.reads in (self._intervening or ())

    def connect(self):
        pass

    def begin(self):
        self.reads = -1

    def start(self, action):
        self.started.append(action)
        if self._intervening is not None:
            self.reads -= 1  # it is read once more in this period

    def read(self):
        self.reads += 1
        action = self._script(self.reads)
        return None if action is None else float32(action)

    def close(self):
        pass


def linear_bundle(robot, path):
    """Write a bundle of the linear policy for `robot`."""
    return bundle.write(path, linear_graph(robot), linear_manifest(robot))
