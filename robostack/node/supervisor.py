"""The robot and its state, safe to call from any thread.

Three threads meet here: the control thread applies actions, the guard watches the time,
the stop thread stops. Whoever leaves ACTIVE first bumps the generation, *then* stops
the robot; an action passes the gate only with the present generation, and one that was
in the driver meanwhile is followed by another stop. So the last word is always a stop,
even while the control thread is stuck in the driver.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from robostack.clock import Clock
from robostack.limits import Limits
from robostack.messages import Notice, State
from robostack.node.arming import rehearse
from robostack.node.journal import Journal
from robostack.robot import Robot, ending_of
from robostack.safety import Machine, Watchdog
from robostack.spec import Array

_GATE_S = 0.02  # how long a stop waits for the driver to come back before it goes in


class Supervisor:
    """Owns the robot; decides when it may move."""

    def __init__(
        self, robot: Robot, clock: Clock, limits: Limits, journal: Journal
    ) -> None:
        self.machine = Machine()
        self.notice: Notice | None = None  # for the client, sent by the control thread
        self.changed = threading.Event()  # wakes the guard
        self._robot = robot
        self._clock = clock
        self._journal = journal
        self._limits = limits
        self._hold = Watchdog(limits.command_timeout_s)
        self._safe = Watchdog(limits.safe_after_s)
        self._state = threading.RLock()
        self._gate = threading.Lock()
        self._connected = False
        self._ending = ending_of(robot)

    def connect(self) -> bool:
        """Open the device: DISABLED to ARMING to HOLD; return whether it holds.

        A device that does not answer, or whose limits, sensors or rate are not right,
        is a FAULT with its cause.
        """
        if not self.enter("arming", "connecting"):
            return False
        self._connected = self.drive(self._robot.connect)
        fit = self._connected and self.drive(self._rehearse)
        if fit and self.enter("hold", "connected"):
            return True
        self._robot.stop()
        return False

    def enter(self, state: State, cause: str) -> bool:
        """Go to `state` where that needs no stop; return whether a way leads there."""
        with self._state:
            entered = self.machine.enter(state, cause)
        if entered:
            self._journal.state(state, cause)
        return entered

    def reset(self) -> bool:
        """Bring the robot home: HOLD or SAFE to ARMING to HOLD; return whether it is.

        A stop on the way wins. DISABLED is left by who is beside the robot alone.
        """
        if self.machine.state == "disabled" or not self.enter("arming", "reset"):
            return False
        self._disarm()
        if self.drive(self._robot.reset) and self.enter("hold", "reset"):
            return True
        self._robot.stop()
        return False

    def activate(self) -> bool:
        """Accept commands from now on; return whether it may."""
        with self._state:
            if not self.machine.enter("active", "an episode is open"):
                return False
            self.notice = None
            self._hold.feed(self._clock.now())  # grace for the first command
        self.changed.set()
        return True

    def apply(
        self, action: Array, generation: int, now: float, *, feed: bool = True
    ) -> Array | None:
        """Send `action` (A,) to the robot and feed the watchdog; return what was sent.

        Args:
            action: within limits.
            generation: in which it was wanted.
            now: [s]
            feed: a client wants it; False does not keep the watchdog quiet.

        Returns:
            None if the node is no longer ACTIVE in this generation.
        """
        machine, error, applied = self.machine, None, action
        with self._gate:
            if machine.generation != generation or machine.state != "active":
                return None
            if feed:
                self._hold.feed(now)
            try:
                applied = self._robot.apply(action)
            except Exception as raised:  # whatever a driver raises is a fault
                error = raised
        if error is not None:
            self.fault(error)
        if machine.generation != generation:  # left while we were in the driver
            self._robot.stop()
            return None
        return applied

    def drive(self, call: Callable[[], None]) -> bool:
        """Run a driver's `call`; FAULT if it raises. Return whether it did not."""
        try:
            call()
        except Exception as error:  # whatever a driver raises is a fault
            self.fault(error)
            return False
        return True

    def fault(self, error: Exception) -> None:
        """Stop and latch FAULT, because of what a driver raised."""
        self.leave("fault", f"{type(error).__name__}: {error}")

    def leave(
        self,
        state: State,
        cause: str,
        *,
        terminated: bool = False,
        asked: bool = False,
    ) -> bool:
        """Stop the robot and go to `state`; close the episode if one is open.

        Args:
            state: where to.
            cause: in words.
            terminated: the episode's task has ended; else it is truncated.
            asked: the client wants it, and needs no notice.

        Returns:
            Whether the state changed: False if another thread, or a latch, was first.
        """
        with self._state:
            was_active = self.machine.state == "active"
            entered = self.machine.enter(state, cause)
            if entered and (asked or state != "hold"):
                self._disarm()
            elif entered:
                self._safe.feed(self._hold.fed_s)
            if entered and was_active and not asked:
                self.notice = Notice(self.machine.generation, state, cause)
        self._halt()
        if state == "safe" and self._ending.safe == "damp":
            self.drive(self._robot.damp)  # type: ignore[attr-defined]  # optional
        if entered:
            self._journal.state(state, cause)
        if entered and was_active:
            self._journal.close(terminated=terminated, reason=cause)
        return entered

    def guard(self) -> float:
        """Act if time is up; return how long [s] nothing can happen."""
        now, state = self._clock.now(), self.machine.state
        if state == "active" and self._hold.expired(now):
            timeout_s = self._hold.timeout_s
            self.leave("hold", f"no fresh command for {timeout_s:g} s")
        elif state == "hold" and self._safe.expired(now):
            timeout_s = self._safe.timeout_s
            self.leave("safe", f"no fresh command for {timeout_s:g} s")
        watchdog = self._hold if self.machine.state == "active" else self._safe
        return watchdog.deadline - self._clock.now()

    def clear(self, acknowledged: str) -> bool:
        """Leave FAULT or ESTOP, by whoever stands beside the robot.

        Only local code calls this: no message leads here.

        Returns:
            Whether the node holds again.
        """
        self._robot.stop()
        with self._state:
            latched, why = self.machine.state, self.machine.cause
            if not self.machine.clear(acknowledged):
                return False
        self._journal.event("cleared", f"{latched}: {why}; {acknowledged}")
        return self.enable(f"cleared: {acknowledged}")

    def enable(self, cause: str) -> bool:
        """Leave DISABLED for HOLD; return whether the node holds.

        Like `clear`, for local code only.
        """
        if self.machine.state != "disabled":
            return False
        if not self._connected:
            return self.connect()
        if not self.enter("arming", cause):
            return False
        return self.drive(self._rehearse) and self.enter("hold", cause)

    def unguarded(self, cause: str) -> None:
        """Latch FAULT: nobody would act if this process died."""
        self.leave("fault", cause)

    def park(self, cause: str, told: Callable[[], None]) -> None:
        """Close the episode; go home slowly if the robot ends so and no fault stands.

        Args:
            cause: in words.
            told: lets the client know; called before anything moves.
        """
        calm = self.machine.state in ("hold", "active", "safe")
        self.leave("disabled", cause)
        told()
        if calm and self._ending.close == "home":
            self.drive(self._robot.park)  # type: ignore[attr-defined]  # optional

    def close(self, cause: str) -> None:
        """Stop, close the episode, release the device."""
        try:
            self.leave("disabled", cause)
        finally:
            self._robot.close()

    def _rehearse(self) -> None:
        rehearse(self._robot, self._limits)

    def _disarm(self) -> None:
        self._hold.disarm()
        self._safe.disarm()

    def _halt(self) -> None:
        """Stop the robot, if possible not in the middle of another call."""
        free = self._gate.acquire(timeout=_GATE_S)
        try:
            self._robot.stop()
        finally:
            if free:
                self._gate.release()
