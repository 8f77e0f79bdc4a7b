"""Publishing camera frames, each camera at its own period, if anybody watches.

In real time a thread of its own looks and publishes, and the control thread only tells
it which period it is; one that cannot keep up skips periods, and counts them. In
lockstep the frames are of the very step, and the world waits for them.
"""

from __future__ import annotations

import threading
from typing import NamedTuple

from robostack.messages import Frame, Tensor
from robostack.node.freshness import SensorLimits, frozen_frames
from robostack.node.journal import Journal, Sensed
from robostack.node.supervisor import Supervisor
from robostack.robot import Robot

_END_S = 2.0  # for a last look; a camera that hangs must not keep a dying node alive


class _Moment(NamedTuple):
    generation: int
    seq: int
    stamp_s: float
    joints: bytes  # (N,) the array that the robot tracks; empty without


class Cameras:
    """The cameras of one robot."""

    def __init__(
        self,
        robot: Robot,
        journal: Journal,
        supervisor: Supervisor,
        *,
        lockstep: bool,
        sensor_limits: SensorLimits,
    ) -> None:
        """Look on nobody's behalf yet.

        Args:
            robot: whose cameras.
            journal: where frames go.
            supervisor: calls the driver; told of a camera that is dead.
            lockstep: whether the caller of `publish` waits for the frames.
            sensor_limits: when a camera is dead.
        """
        self.skipped = 0  # moments that came while the one before was being drawn
        self._robot = robot
        self._journal = journal
        self._supervisor = supervisor
        self._drive = supervisor.drive
        self._frozen = frozen_frames(robot.spec, sensor_limits)
        self._lockstep = lockstep
        self._due_s = dict.fromkeys(robot.spec.cameras, 0.0)
        self._moment: _Moment | None = None
        self._over = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def start(self, now: float) -> None:
        """Make all cameras due at `now` [s]."""
        self._due_s = dict.fromkeys(self._due_s, now)
        for frozen in self._frozen.values():
            frozen.start()

    def warm(self) -> bool:
        """Look once, before anything moves: the first look may take long."""
        if not self._due_s or not self._journal.watched():
            return True
        return self._drive(lambda: _ignore(self._robot.frames()))

    def publish(self, generation: int, sensed: Sensed) -> None:
        """Publish the frames that are due; take none if nobody watches."""
        if not self._due(sensed.stamp_s):
            return
        tracks = self._robot.spec.tracks
        joints = sensed.arrays[tracks].data if tracks else b""
        moment = _Moment(generation, sensed.seq, sensed.stamp_s, joints)
        if self._lockstep:
            self._drive(lambda: self._shoot(moment))
            return
        with self._changed:
            self.skipped += self._moment is not None
            self._moment = moment
            self._changed.notify()
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._work, name="cameras", daemon=True
            )
            self._thread.start()

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._over = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(_END_S)

    def _due(self, now: float) -> list[str]:
        slack_s = self._robot.spec.control_period_s / 2  # the nearest period will do
        return [name for name, at_s in self._due_s.items() if at_s <= now + slack_s]

    def _work(self) -> None:
        while True:
            with self._changed:
                while self._moment is None and not self._over:
                    self._changed.wait()
                moment, self._moment = self._moment, None
            if moment is None or self._over:
                return
            if not self._drive(lambda m=moment: self._shoot(m)):  # type: ignore[misc]
                return

    def _shoot(self, moment: _Moment) -> None:
        due = self._due(moment.stamp_s)
        if not due or not self._journal.watched():
            return
        frames = self._robot.frames()
        for name in due:
            period_s = self._robot.spec.cameras[name].period_s
            oldest_s = moment.stamp_s - period_s
            self._due_s[name] = max(self._due_s[name] + period_s, oldest_s)
            pixels = Tensor.pack(frames[name])
            self._journal.publish(Frame(*moment[:3], name, pixels))
            self._check_alive(moment, name, pixels)

    def _check_alive(self, moment: _Moment, name: str, pixels: Tensor) -> None:
        """HOLD if the frames stay the same although the robot moves."""
        frozen = self._frozen.get(name)
        if frozen is None:
            return
        dead = frozen.note(pixels, moment.joints, moment.stamp_s)
        if dead and moment.generation == self._supervisor.machine.generation:
            self._supervisor.leave(
                "hold",
                f"camera {name} has shown the same frame {frozen.run} times in a row "
                f"while the robot moved: is it alive?",
            )


def _ignore(_: object) -> None:
    """Take what nobody needs."""
