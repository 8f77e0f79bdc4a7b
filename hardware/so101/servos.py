"""The six servos of one arm on an open bus: what they say, and goals for them.

Torque is given by `energize` only. `armed` says that it was, and that nothing was found
wrong since: a servo whose power was cut forgets its torque, and is found out before
anything is sent to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from robostack.spec import Array

from .._servo_bus import BusError, ServoError, refuse
from . import arm
from . import registers as r
from . import state as states
from .bus import Bus
from .calibration import RADIANS_PER_TICK, Calibration, Ticks
from .state import State


class Servos:
    """An arm's servos. Not for two threads at once."""

    def __init__(
        self, bus: Bus, calibration: Calibration, care: arm.Care = arm.CARE
    ) -> None:
        self.bus = bus
        self.calibration = calibration
        self.care = care
        self.armed = False  # torque is on, and we did it

    @property
    def ids(self) -> tuple[int, ...]:
        """Ids in the order of the joints."""
        return self.calibration.ids

    def inspect(self) -> str:
        """Refuse what is not six healthy calibrated servos; return their firmware."""
        self.bus.purge()
        self.bus.read(self.ids, 0, 6)  # names everyone who is silent
        for servo in self.ids:
            self.bus.ping(servo)
        memories = self.bus.read(self.ids, 0, r.EEPROM_END)
        state = self.look()
        wrong = states.misfits(memories, state, self.calibration)
        refuse([*wrong, *states.faults(state, self.care)])
        versions = {
            f"{r.FIRMWARE_MAJOR.get(m.data)}.{r.FIRMWARE_MINOR.get(m.data)}"
            for m in memories
        }
        return " ".join(sorted(versions))

    def look(self) -> State:
        """Return what all of them say."""
        return states.parse(self.bus.read(self.ids, states.START, states.SIZE))

    def healthy(self) -> State:
        """Return the state; raise and disarm if anything is wrong with it."""
        try:
            state = self.look()
            refuse(states.faults(state, self.care))
            if self.armed:
                refuse(states.lost_torque(state, self.care))
        except (BusError, ServoError):
            self.disarm()
            raise
        return state

    def energize(self, check: Callable[[], None]) -> Array:
        """Switch torque on, goal where the arm is; return where that is [rad].

        `check` may raise when the goals are set and no torque is on yet.
        """
        self.armed = False
        state = self.healthy()
        refuse(self._outside(state))
        self.send(state.position, limits=True)
        seen = self.look()
        refuse(
            f"{name} did not take its goal: nothing is moved"
            for name, ok in zip(arm.JOINTS, seen.goal == state.position, strict=True)
            if not ok
        )
        check()
        for servo in self.ids:
            self.bus.write(servo, r.TORQUE_ENABLE, 1)
        self.armed = True
        self.healthy()
        return self.radians(state.position)

    def check_torque(self) -> None:
        """Refuse unless torque is on at this moment: it is not after a power cut."""
        if not self.armed:
            raise ServoError("torque is off: expected reset() before apply()")
        try:
            answers = self.bus.read(self.ids, r.TORQUE_ENABLE.address, 1)
            refuse(
                f"{name} lost its torque: power was cut, or it protects itself"
                for name, answer in zip(arm.JOINTS, answers, strict=True)
                if answer.data != b"\x01"
            )
        except (BusError, ServoError):
            self.disarm()
            raise

    def disarm(self) -> None:
        """Let nothing through until torque is given again, and nothing that waits."""
        self.armed = False
        self.bus.purge()

    def send(self, goal: Ticks, *, limits: bool = False) -> None:
        """Send a goal (6,) [tick] to all; with `limits`, their torque limits, too."""
        self.send_to(dict(zip(self.ids, goal.tolist(), strict=True)), limits=limits)

    def send_to(self, goals: Mapping[int, int], *, limits: bool = False) -> None:
        """Send goals [tick], never without speed and acceleration beside them."""
        speed = r.GOAL_VELOCITY.pack(round(self.care.servo_speed / RADIANS_PER_TICK))
        quick = round(self.care.servo_acceleration / RADIANS_PER_TICK / 100)
        most = dict(zip(self.ids, self.care.torque_limit, strict=True))
        rows = {
            servo: r.ACCELERATION.pack(quick)
            + r.GOAL_POSITION.pack(goal)
            + r.GOAL_TIME.pack(0)
            + speed
            + (r.TORQUE_LIMIT.pack(most[servo]) if limits else b"")
            for servo, goal in goals.items()
        }
        self.bus.write_all(r.ACCELERATION.address, rows)

    def radians(self, ticks: Ticks) -> Array:
        """Return the angles (6,) [rad] at `ticks` (6,)."""
        return self.calibration.radians(ticks)  # type: ignore[return-value]

    def _outside(self, state: State) -> Iterable[str]:
        angles = self.radians(state.position)
        for name, x, low, high in zip(
            arm.JOINTS, angles.tolist(), arm.LOW, arm.HIGH, strict=True
        ):
            if not low - self.care.outside <= x <= high + self.care.outside:
                yield (
                    f"{name} is at {x:.2f} rad, outside {low:.2f} to {high:.2f}: "
                    f"move it there by hand"
                )


def apart(state: State, goal: Ticks, most: float, what: str) -> Iterable[str]:
    """Return which joints are further than `most` [rad] from `goal` (6,) [tick]."""
    gaps = np.asarray(state.position - goal) * RADIANS_PER_TICK
    for name, gap in zip(arm.JOINTS, gaps.tolist(), strict=True):
        if abs(gap) > most:
            yield f"{name} {what}: {abs(gap):.2f} rad from its target"
