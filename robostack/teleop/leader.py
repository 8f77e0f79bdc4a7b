"""A second robot, moved by hand, leads the first: joint by joint, matched by name.

The leader is only ever connected and read: that enables no torque, so it can be moved.
It is read on a thread of its own, at its own pace, so that its bus never delays the
robot; a reading that grew old is no reading.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np

from robostack import plugins
from robostack.robot import Robot
from robostack.spec import Array, RobotSpec
from robostack.teleop.keyboard import Keyboard, terminal
from robostack.teleop.teleoperator import TeleopError

_OLD_S = 0.2  # a leader that was not read for so long has told nothing
_END_S = 2.0


class Leader:
    """A robot that is moved by hand."""

    help = (
        "leader: move it by hand; in this terminal, space takes over and gives back, "
        "enter ends the episode"
    )

    def __init__(
        self,
        robot: RobotSpec,
        leader: str | Robot,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Match the joints of `leader`, an address or a driver, with those of `robot`.

        Raises:
            TeleopError: it lacks a joint, or the robot does not take positions.
        """
        self._leader = _driver(leader) if isinstance(leader, str) else leader
        self._order = match(robot, self._leader.spec)
        self._action = robot.action
        self._now = now
        self._lock = threading.Lock()
        self._newest: Array | None = None
        self._stamp_s = 0.0
        self._error: Exception | None = None
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="leader", daemon=True)
        self._keys = Keyboard(robot)

    @property
    def intervening(self) -> bool:
        """Whether space was pressed last to take over."""
        return self._keys.intervening

    @property
    def finished(self) -> bool:
        """Whether enter was pressed."""
        return self._keys.finished

    def connect(self) -> None:
        """Open the leader, and enable nothing."""
        self._leader.connect()
        self.look()
        self._thread.start()
        if terminal() is not None:
            self._keys.connect()

    def begin(self) -> None:
        """Heed that an episode begins."""
        self._keys.begin()

    def start(self, action: Array) -> None:
        """Keep the leader where the person has it; the robot comes to it."""
        self._keys.start(action)

    def look(self) -> None:
        """Read the leader once."""
        reading = self._leader.read()[self._leader.spec.tracks]
        with self._lock:
            self._newest, self._stamp_s = reading[self._order], self._now()

    def read(self) -> Array | None:
        """Return where the leader is, within the robot's bounds; None if that is old.

        Raises:
            TeleopError: the leader can no longer be read.
        """
        with self._lock:
            newest, stamp_s, error = self._newest, self._stamp_s, self._error
        if error is not None:
            raise TeleopError(f"the leader can no longer be read: {error}") from error
        if newest is None or self._now() - stamp_s > _OLD_S:
            return None
        return self._action.clip(newest)

    def join(self) -> None:
        """Return when the leader is no longer followed: it was closed, or broke."""
        if self._thread.is_alive():
            self._thread.join(_END_S)

    def close(self) -> None:
        """Release the leader."""
        self._ending.set()
        self.join()
        self._keys.close()
        self._leader.close()

    def _follow(self) -> None:
        while not self._ending.wait(self._leader.spec.control_period_s):
            try:
                self.look()
            except Exception as error:  # whatever a driver raises; told in `read`
                with self._lock:
                    self._error = error
                return


def match(robot: RobotSpec, leader: RobotSpec) -> np.typing.NDArray[np.intp]:
    """Return where each of `robot`'s action elements is in what `leader` measures."""
    if robot.control != "position":
        raise TeleopError(
            f"expected a robot that takes positions, to be led by an arm, got "
            f"{robot.name}, which takes {robot.control}"
        )
    if not leader.tracks:
        raise TeleopError(f"expected a leader that measures its joints: {leader.name}")
    measured = leader.observation[leader.tracks]
    units = dict(zip(measured.names, measured.units, strict=True))
    for name, unit in zip(robot.action.names, robot.action.units, strict=True):
        if units.get(name) != unit:
            raise TeleopError(
                f"expected {name} [{unit}] on the leader {leader.name}, it has "
                f"{', '.join(f'{n} [{u}]' for n, u in units.items())}"
            )
    return np.array([measured.names.index(n) for n in robot.action.names], np.intp)


def _driver(address: str) -> Robot:
    kind, name, argument = plugins.parse(address)
    if kind != "hardware":
        raise TeleopError(f"expected hardware:ROBOT as a leader, got {address}")
    driver: Robot = plugins.load(kind, name).make(argument)
    return driver
