"""Robots for tests: a fake whose time the node moves, and fakes with a fault each."""

from __future__ import annotations

import threading

import numpy as np

from robostack.clock import ManualClock
from robostack.hardware.fake.driver import FakeRobot


class LockstepFake(FakeRobot):
    """The fake robot as a world: its clock is moved by whoever sleeps on it."""

    def __init__(self, joint_limits=None) -> None:
        self.clock = ManualClock()
        super().__init__(self.clock, joint_limits=joint_limits)
        self._random = np.random.default_rng(0)
        self._goal = np.zeros(2, np.float32)

    def seed(self, seed):
        self._random = np.random.default_rng(seed)

    def reset(self):
        super().reset()
        self._goal = self._random.uniform(-1, 1, 2).astype(np.float32)

    def truth(self):
        return {"target": self._goal.copy()}

    def now(self):
        return self.clock.now()

    def sleep_until(self, deadline):
        self.clock.sleep_until(deadline)


class RecordingFake(LockstepFake):
    """Remembers which calls reached it, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def apply(self, action):
        self.calls.append("apply")
        return super().apply(action)

    def stop(self):
        self.calls.append("stop")
        super().stop()


class BlindFake(LockstepFake):
    """A sensor gives NaN from reading number `sees` on."""

    def __init__(self, sees: int) -> None:
        super().__init__()
        self._left = sees

    def read(self):
        arrays = super().read()
        self._left -= 1
        if self._left < 0:
            arrays["joint_velocity"][1] = np.nan
        return arrays


class BrokenFake(RecordingFake):
    """Its bus fails on the second action."""

    def __init__(self) -> None:
        super().__init__()
        self._actions = 0

    def apply(self, action):
        self._actions += 1
        if self._actions == 2:
            raise OSError("no answer from servo 3")
        return super().apply(action)


class StuckFake(FakeRobot):
    """The driver call that applies an action hangs until `free` is set."""

    def __init__(self, clock=None) -> None:
        super().__init__(clock)
        self.free = threading.Event()
        self.entered = threading.Event()
        self.stops = 0

    def apply(self, action):
        self.entered.set()
        self.free.wait(10)
        return super().apply(action)

    def stop(self):
        self.stops += 1
        super().stop()
