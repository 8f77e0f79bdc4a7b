"""What has to be right before a node first holds a robot: limits, sensors, rate.

    limits    no wider than the robot's spec, and with its home inside
    sensors   every reading has the spec's names and shapes, is finite and in bounds
    rate      99 of 100 readings take less than a control period

Nothing here enables torque. A world is asked for its limits only: its time waits for
its sensors, and what they say before the first reset means nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping

import numpy as np

from robostack.limits import Limits
from robostack.node.sensors import SensorError, Sensors
from robostack.robot import Robot
from robostack.spec import Array, RobotSpec, float32

READINGS = 10
_ROUNDS = 3  # a computer that was busy for a moment is no slow sensor
_SLACK = 0.05  # parts of its range by which a reading may leave its bounds
_ROUNDING = 1e-6  # parts of the range


class ArmingError(RuntimeError):
    """A robot that must not be held as it is; one sentence."""


def rehearse(robot: Robot, limits: Limits) -> None:
    """Look whether `robot`, connected, may be held within `limits`.

    Raises:
        ArmingError: it may not, and why.
    """
    wrong = list(misfits(limits, robot.spec))
    if wrong:
        raise ArmingError(f"these limits are not for {robot.spec.name}: {wrong[0]}")
    if hasattr(robot, "seed"):  # a world
        return
    period_s = robot.spec.control_period_s
    slowest_s = math.inf
    for _ in range(_ROUNDS):
        slowest_s = min(slowest_s, p99(sense(robot, READINGS)))
        if slowest_s <= period_s:
            return
    raise ArmingError(
        f"expected a reading within the control period of {1e3 * period_s:g} ms, got "
        f"one in {1e3 * slowest_s:.1f} ms: is the bus, or this computer, too slow?"
    )


def sense(robot: Robot, count: int) -> list[float]:
    """Read the sensors; return how long each reading took [s].

    Raises:
        ArmingError: a reading is not what the spec says, or out of bounds.
    """
    sensors, took = Sensors(robot), []
    for _ in range(count):
        start = time.perf_counter()
        try:
            sensors.read()
        except SensorError as error:
            raise ArmingError(str(error)) from error
        took.append(time.perf_counter() - start)
        outside = list(strays(sensors.arrays, robot.spec))
        if outside:
            raise ArmingError(outside[0])
    return took


def p99(seconds: list[float]) -> float:
    """Return the 99th percentile of durations; of few, the longest."""
    return sorted(seconds)[math.ceil(0.99 * len(seconds)) - 1]


def misfits(limits: Limits, spec: RobotSpec) -> Iterator[str]:
    """Yield where `limits` let the robot do what its spec does not."""
    if limits.names != spec.action.names:
        yield f"expected {', '.join(spec.action.names)}, got {', '.join(limits.names)}"
        return
    columns = zip(
        limits.names,
        zip(limits.low, limits.high, strict=True),
        zip(spec.action.low, spec.action.high, strict=True),
        zip(limits.step, limits.first, spec.home, strict=True),
        strict=True,
    )
    for name, (low, high), (least, most), (step, first, home) in columns:
        slack = _ROUNDING * (most - least)
        if not least - slack <= low < high <= most + slack:
            yield (
                f"{name} may go from {low:g} to {high:g}, and the robot from "
                f"{least:g} to {most:g}"
            )
        elif not low - slack <= home <= high + slack:
            yield f"home, {home:g}, is outside {low:g} to {high:g} of {name}"
        elif not (0 < step < math.inf and 0 < first < math.inf):
            yield f"expected steps above zero of {name}, got {step:g} and {first:g}"
    if not 0 < limits.command_timeout_s <= limits.safe_after_s < math.inf:
        yield (
            f"expected HOLD before SAFE, got {limits.command_timeout_s:g} s and "
            f"{limits.safe_after_s:g} s"
        )


def strays(arrays: Mapping[str, Array], spec: RobotSpec) -> Iterator[str]:
    """Yield which elements of a reading are out of the spec's bounds."""
    for key, bounds in spec.observation.items():
        low, high = float32(bounds.low), float32(bounds.high)
        slack = _SLACK * (high - low)
        outside = (arrays[key] < low - slack) | (arrays[key] > high + slack)
        for i in np.flatnonzero(outside).tolist():
            yield (
                f"{key} of {bounds.names[i]} is {arrays[key][i]:g}, expected "
                f"{low[i]:g} to {high[i]:g}"
            )
