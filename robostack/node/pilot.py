"""One episode, period by period: read, admit a command, apply it, write it down.

    begin -> observe -> (admit ...) -> observe -> (admit ...) -> ...

Only the control thread calls this. What a client waits for (`observe`, `admit`) is kept
short; `file`, which publishes, comes after the reading was sent.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from robostack.clock import Clock
from robostack.limiting import ActionLimiter, CommandError, Limited
from robostack.limits import Limits
from robostack.messages import Command, Reading, Tensor
from robostack.node.cameras import Cameras
from robostack.node.freshness import Ages, SensorLimits, frozen_readings
from robostack.node.journal import Action, Journal, Sensed
from robostack.node.sensors import Sensors
from robostack.node.supervisor import Supervisor
from robostack.robot import Robot, World, facts_of
from robostack.safety import Chatter, Posture, RateLimit
from robostack.spec import Array, float32

_SENSOR_LIMITS = SensorLimits()


class Pilot:
    """Drives one robot on behalf of one client."""

    def __init__(  # noqa: PLR0913 (the last two are options)
        self,
        robot: Robot,
        clock: Clock,
        limits: Limits,
        supervisor: Supervisor,
        journal: Journal,
        *,
        lockstep: bool,
        sensor_limits: SensorLimits = _SENSOR_LIMITS,
    ) -> None:
        self._robot = robot
        self._world: World | None = as_world(robot)
        self._clock = clock
        self._limits = limits
        self._supervisor = supervisor
        self._machine = supervisor.machine
        self._journal = journal
        self._limiter = ActionLimiter(limits)
        self._outside = RateLimit(limits.outside_per_s)
        self._chatter = Chatter(limits)
        self._posture = Posture(limits)
        self._lockstep = lockstep
        self._sensors = Sensors(robot)
        self._ages = Ages(robot, sensor_limits)
        self._frozen = frozen_readings(robot.spec, sensor_limits)
        self._cameras = Cameras(
            robot,
            journal,
            supervisor,
            lockstep=lockstep,
            sensor_limits=sensor_limits,
        )
        self.objection = ""  # why no episode can begin
        periods = math.ceil(limits.command_timeout_s / robot.spec.control_period_s) + 2
        self._stamps: deque[float] = deque(maxlen=periods)  # of the newest readings
        self._home = float32(robot.spec.home)
        self._start("")

    def _start(self, session: str) -> None:
        self._session = session
        self._seq = -1
        self._answered = -1
        self._stamps.clear()
        self._chatter.start()
        self._frozen.start()
        self._sensed: Sensed | None = None
        self._applied: Array | None = None
        self._answer: Action | None = None  # to the newest reading
        self._in_effect = Tensor.pack(self._home)

    @property
    def period_s(self) -> float:
        """The robot's control period [s]."""
        return self._robot.spec.control_period_s

    @property
    def timeout_s(self) -> float:
        """The time without commands [s] after which the robot holds."""
        return self._limits.command_timeout_s

    def facts(self) -> dict[str, str]:
        """Return labels for an episode: what is true of this very device."""
        return {f"robot.{key}": said for key, said in facts_of(self._robot).items()}

    def begin(self, session: str, seed: int | None) -> bool:
        """Reset the robot for a new episode; return whether it is home."""
        self._start(session)
        if not self._supervisor.drive(self._look_before):
            return False
        if self.objection:
            return False
        if seed is not None and self._world is not None:
            world, number = self._world, seed
            if not self._supervisor.drive(lambda: world.seed(number)):
                return False
        return self._supervisor.reset() and self._cameras.warm()

    def observe(self) -> Reading | None:
        """Read the sensors for the next period; None and FAULT if they are bad."""
        if self._answer is None and self._seq >= 0 and not self._lockstep:
            self._bridge()
        try:
            arrays, truth = self._sensors.read(), self._read_truth()
            ages_s = self._ages.read()
        except Exception as error:  # whatever a driver raises is a fault
            self._supervisor.fault(error)
            return None
        if cause := self._posture.broken(self._sensors.arrays):
            self._supervisor.leave("fault", cause)
            return None
        if ages_s and (complaint := self._ages.complaint(ages_s)):
            self._supervisor.leave("hold", complaint)
            return None
        now, answer = self._clock.now(), self._answer
        self._seq += 1
        self._stamps.append(now)
        self._sensed = Sensed(self._seq, now, arrays, truth, ages_s)
        return Reading(
            self._session,
            self._machine.generation,
            self._seq,
            now,
            arrays,
            truth,
            self._in_effect,
            answer is not None and bool(answer.clamped),
        )

    def file(self) -> None:
        """Publish the period that is over, and prepare for the one that began."""
        if self._sensed is None:
            return
        action = self._answer or Action(None, self._in_effect, (), 0.0, False)
        self._journal.sensed(self._sensed, action)
        self._answer = None
        if self._seq == 0:
            tracks = self._robot.spec.tracks
            measured = self._sensors.arrays[tracks] if tracks else self._home
            self._limiter.start(measured)
            self._cameras.start(self._sensed.stamp_s)
        elif self._applied is not None:
            self._limiter.settle(self._applied)
        self._check_alive(self._sensed)
        if self._robot.spec.cameras:
            self._cameras.publish(self._machine.generation, self._sensed)

    def admit(self, command: Command) -> bool:
        """Apply `command` if it is good; else drop, count and perhaps FAULT."""
        now = self._clock.now()
        cause = self._objection(command, now)
        if cause:
            self._journal.refuse(cause, "")
            return False
        try:
            requested = self._limiter.unpack(command.action)
            limited = self._limiter(requested)
        except CommandError as error:
            self._journal.refuse(error.cause, str(error))
            self._supervisor.leave("fault", f"bad command: {error}")
            return False
        if self._answered < 0 and (far := self._limiter.objection(requested)):
            self._journal.refuse("gate", far)
            self._supervisor.leave("hold", far)
            return False
        action = limited.action
        applied = self._supervisor.apply(action, command.generation, now)
        if applied is None:
            self._journal.refuse("generation", "the node left ACTIVE meanwhile")
            return False
        same = applied is action and not limited.changed
        if not (same or _is_action(applied, action)):
            self._supervisor.leave("fault", f"the driver says it sent {applied}")
            return False
        self._in_effect = command.action if same else Tensor.pack(applied)
        self._answered, self._applied = command.seq, applied
        self._answer = Action(
            command.action,
            self._in_effect,
            limited.changed,
            now - self._stamp(command.seq),
            command.intervention,
        )
        self._note(limited, now)
        return True

    def _bridge(self) -> None:
        """Lead the targets on to rest: a period is over that brought no command.

        Staying where they are would be a jump of their velocity. It does not feed the
        watchdog, and a late command goes on from here.
        """
        machine = self._machine
        if machine.state != "active" or (target := self._limiter.brake()) is None:
            return
        generation, now = machine.generation, self._clock.now()
        applied = self._supervisor.apply(target, generation, now, feed=False)
        if applied is not None and _is_action(applied, target):
            self._in_effect, self._applied = Tensor.pack(applied), applied

    def look(self) -> None:
        """Read the sensors between episodes, so that a fault is seen before a motion.

        A sensor that is older than the time to SAFE ends HOLD.
        """
        if self._machine.state not in {"hold", "safe"}:
            return
        try:
            arrays, ages_s = self._sensors.read(), self._ages.read()
        except Exception as error:  # whatever a driver raises is a fault
            self._supervisor.fault(error)
            return
        self._journal.idle(Sensed(-1, self._clock.now(), arrays, {}, ages_s))
        complaint = self._ages.complaint(ages_s)
        late = any(not age_s <= self._limits.safe_after_s for age_s in ages_s.values())
        if complaint and late and self._machine.state == "hold":
            self._supervisor.leave("safe", complaint)

    def advance(self) -> bool:
        """Let a world run for one control period; return whether it did."""
        world = self._world
        if world is None:
            return True
        period_s = self.period_s
        return self._supervisor.drive(lambda: world.sleep_until(world.now() + period_s))

    def close(self) -> None:
        """End what runs beside the control thread."""
        self._cameras.close()

    def _look_before(self) -> None:
        """Note why the robot must not move now, if its sensors are a reason."""
        self.objection = self._ages.complaint(self._ages.read())

    def _check_alive(self, sensed: Sensed) -> None:
        """HOLD if the readings stay the same although the targets move."""
        if not self._robot.spec.tracks:
            return
        if self._frozen.note(sensed.arrays, self._in_effect.data, sensed.stamp_s):
            run = self._frozen.run
            self._supervisor.leave(
                "hold",
                f"{self._robot.spec.tracks} has been the same {run} times in a row, "
                f"bit for bit, while the targets moved: is its sensor alive?",
            )

    def _read_truth(self) -> dict[str, Tensor]:
        if self._world is None:
            return {}
        truth = self._world.truth()
        return {name: Tensor.pack(array) for name, array in truth.items()}

    def _objection(self, command: Command, now: float) -> str:
        """Return why `command` must not move the robot, or an empty string."""
        if self._machine.state != "active":
            return "state"
        if command.generation != self._machine.generation:
            return "generation"
        if command.seq <= self._answered:
            return "replayed"
        if command.seq > self._seq:
            return "unknown"
        age_s = now - self._stamp(command.seq)
        if not age_s <= min(command.ttl_s, self._limits.command_timeout_s):  # or NaN
            return "stale"
        return ""

    def _stamp(self, seq: int) -> float:
        """Return when reading `seq` was taken [s]; long ago if that is forgotten."""
        back = self._seq - seq
        return self._stamps[-1 - back] if back < len(self._stamps) else -math.inf

    def _note(self, limited: Limited, now: float) -> None:
        """Count a clamp; FAULT if there are too many, or they go back and forth."""
        if limited.changed:
            self._journal.counts.clamps += 1
        limits = self._limits
        if limited.outside and self._outside.exceeded(now):
            self._supervisor.leave(
                "fault",
                f"more than {limits.outside_per_s:g} commands out of bounds "
                f"within one second: does their author use other units?",
            )
        if self._chatter.exceeded(limited.pushed, now):
            self._supervisor.leave(
                "fault",
                f"more than {limits.reversals} commands within {limits.reversals_s:g} "
                f"s went back and forth beyond the largest step: is the scale of their "
                f"author's actions wrong?",
            )


def as_world(robot: Robot) -> World | None:
    """Return `robot` as a world if it is one: it can be seeded, and has a time."""
    if all(hasattr(robot, name) for name in ("seed", "truth", "now", "sleep_until")):
        return robot  # type: ignore[return-value]
    return None


def _is_action(applied: Array, action: Array) -> bool:
    """Return whether what a driver says it sent can have been sent."""
    like = applied.dtype == action.dtype and applied.shape == action.shape
    return like and bool(np.isfinite(applied).all())
