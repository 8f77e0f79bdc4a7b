"""Servo arms for tests, each on an emulated bus whose time the test moves."""

from __future__ import annotations

import contextlib

import pytest

from robostack.clock import ManualClock
from robostack.spec import float32


class EventfulClock(ManualClock):
    """Calls `event` once, at the sleep number `at` from when that was set."""

    at, event = -1, None

    def sleep_until(self, deadline):
        super().sleep_until(deadline)
        self.at -= 1
        if self.at == 0:
            self.event()


class SO101Example:
    """The SO-101."""

    near = float32([0.1] * 6)  # [rad] a way that is soon gone

    def __init__(self):
        pytest.importorskip("scservo_sdk", reason="feetech-servo-sdk is not installed")
        from robostack.hardware.so101 import arm, bus, calibration, driver, emulated_bus
        from robostack.hardware.so101 import registers as r

        self._calibration, self._driver = calibration.nominal(), driver
        self.joints, self.care, self.home = arm.JOINTS, arm.CARE, float32(arm.HOME)
        self.block, self.goal = r.TORQUE_ENABLE.address, r.GOAL_POSITION
        self.emulate = emulated_bus.so101
        self.line = lambda path: bus.Bus(path, {})

    def driver(self, bus, clock):
        """Return a driver on that bus."""
        port = contextlib.nullcontext(bus.path)
        setup = self._driver.Setup(lambda: port, self._calibration, "x", patience_s=0.1)
        return self._driver.SO101(setup, clock)

    def angles(self, bus):
        """Return where the joints are now (6,) [rad]."""
        bus.settle()
        return self._calibration.radians([servo.position for servo in bus.servos])


class DynamixelExample:
    """The nominal Dynamixel chain."""

    near = float32([0.1, 0.1, 0.1, 0.1, 0.1, 0.001])  # [rad, m]

    def __init__(self):
        pytest.importorskip("dynamixel_sdk", reason="dynamixel-sdk is not installed")
        from robostack.hardware.dynamixel import bus, chain, driver, emulator
        from robostack.hardware.dynamixel import registers as r

        self._chain, self._driver = chain.load(chain.NOMINAL), driver
        self.joints, self.care = tuple(self._chain.joints), self._chain.care
        self.home = float32(chain.spec_of(self._chain).home)
        self.block, self.goal = r.TORQUE_ENABLE.address, r.GOAL_POSITION
        self.emulate = lambda clock: emulator.emulate(self._chain, clock)
        self.line = lambda path: bus.Bus(path, self._chain.baud, {})

    def driver(self, bus, clock):
        """Return a driver on that bus."""
        port = contextlib.nullcontext(bus.path)
        return self._driver.Dynamixel(lambda: port, self._chain, clock, patience_s=0.1)

    def angles(self, bus):
        """Return where the joints are now (6,) [rad, m]."""
        bus.settle()
        return self._chain.values([servo.position for servo in bus.servos])
