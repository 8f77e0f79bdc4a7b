"""Publishing camera frames, each camera at its own period, if anybody watches."""

from __future__ import annotations

from robostack.messages import Frame, Tensor
from robostack.node.journal import Journal
from robostack.robot import Robot


class Cameras:
    """The cameras of one robot."""

    def __init__(self, robot: Robot, journal: Journal) -> None:
        self._robot = robot
        self._journal = journal
        self._due_s = dict.fromkeys(robot.spec.cameras, 0.0)

    def start(self, now: float) -> None:
        """Make all cameras due at `now` [s]."""
        self._due_s = dict.fromkeys(self._due_s, now)

    def publish(self, generation: int, seq: int, now: float) -> None:
        """Publish the frames that are due at `now` [s]; take none if nobody watches."""
        cameras = self._robot.spec.cameras
        slack_s = self._robot.spec.control_period_s / 2  # the nearest period will do
        due = [name for name, at_s in self._due_s.items() if at_s <= now + slack_s]
        if not due or not self._journal.watched():
            return
        frames = self._robot.frames()
        for name in due:
            period_s = cameras[name].period_s
            self._due_s[name] = max(self._due_s[name] + period_s, now - period_s)
            pixels = Tensor.pack(frames[name])
            self._journal.publish(Frame(generation, seq, now, name, pixels))
