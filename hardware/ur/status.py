"""What the controller says of itself, in words, and what forbids to move the arm.

Numbers and names after Universal Robots' RTDE guide.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple


class RobotMode(IntEnum):
    """What the arm's power is doing."""

    NO_CONTROLLER = -1
    DISCONNECTED = 0
    CONFIRM_SAFETY = 1
    BOOTING = 2
    POWER_OFF = 3
    POWER_ON = 4
    IDLE = 5
    BACKDRIVE = 6
    RUNNING = 7


class Runtime(IntEnum):
    """What the program is doing."""

    STOPPING = 0
    STOPPED = 1
    PLAYING = 2
    PAUSING = 3
    PAUSED = 4
    RESUMING = 5


class Safety(IntEnum):
    """Bits of `safety_status_bits`."""

    NORMAL = 0
    REDUCED = 1
    PROTECTIVE_STOPPED = 2
    RECOVERY = 3
    SAFEGUARD_STOPPED = 4
    SYSTEM_EMERGENCY_STOPPED = 5
    ROBOT_EMERGENCY_STOPPED = 6
    EMERGENCY_STOPPED = 7
    VIOLATION = 8
    FAULT = 9
    STOPPED_DUE_TO_SAFETY = 10


_STOPS = {
    Safety.ROBOT_EMERGENCY_STOPPED: (
        "emergency stop of the robot's own button: release it, then power on again at "
        "the pendant"
    ),
    Safety.SYSTEM_EMERGENCY_STOPPED: (
        "emergency stop of the cell (system input): release it, then power on again at "
        "the pendant"
    ),
    Safety.EMERGENCY_STOPPED: "emergency stop: release it, then power on again",
    Safety.PROTECTIVE_STOPPED: (
        "protective stop (collision, or a safety limit was met): read the pendant's "
        "log, clear the cause, then unlock it at the pendant"
    ),
    Safety.SAFEGUARD_STOPPED: "safeguard stop: close the guard, then reset it",
    Safety.RECOVERY: "recovery mode: a joint is outside its safety range; jog it back",
    Safety.VIOLATION: "safety violation: restart the safety system at the pendant",
    Safety.FAULT: "safety fault: restart the controller",
    Safety.STOPPED_DUE_TO_SAFETY: "stopped for safety: see the pendant",
}


class State(NamedTuple):
    """The newest package that came, as far as it says whether the arm may move."""

    robot_mode: int
    runtime: int
    safety_bits: int


def stops(state: State) -> Iterator[str]:
    """Return why the controller forbids any motion; the first cause is the nearest."""
    for bit, words in _STOPS.items():
        if state.safety_bits >> bit & 1:
            yield words
            return
    if state.robot_mode != RobotMode.RUNNING:
        found = name_of(RobotMode, state.robot_mode)
        yield (
            f"the robot is in mode {found}, expected RUNNING: power on and release the "
            f"brakes at the pendant"
        )


def name_of(kind: type[IntEnum], number: int) -> str:
    """Return the name of a number, or the number where it has none."""
    known = {int(x): x.name for x in kind}
    return known.get(number, str(number))
