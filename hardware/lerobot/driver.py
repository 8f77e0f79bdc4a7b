"""The driver of whatever LeRobot drives: our units outside, LeRobot's inside.

connect   LeRobot's connect, without calibrating; then hold where it is
reset     slowly home: LeRobot knows of none
read      get_observation, all of it; images are kept for `frames`
apply     send_action; what it says it sent is what is returned
stop      send_action with the measured positions
close     stop, LeRobot's disconnect (many types go limp in it)
"""

from __future__ import annotations

import logging
import math
import threading
from typing import Any

import numpy as np

from robostack.clock import Clock, MonotonicClock, Ticker
from robostack.spec import Array, CameraSpec, Control, Image, RobotSpec, float32

from . import features
from .features import Channels, FeatureError
from .settings import Settings

log = logging.getLogger(__name__)

_GROUPS = {"pos": "joint_position", "vel": "velocity"}


class LeRobotError(RuntimeError):
    """LeRobot's robot is not, or does not do, what is expected of it."""


class LeRobot:
    """A robot of LeRobot's. A lock guards it: LeRobot's are not for two threads."""

    def __init__(
        self, robot: Any, settings: Settings, clock: Clock | None = None
    ) -> None:
        """Take over LeRobot's `robot`, not connected."""
        self._robot = robot
        self._settings = settings
        self._clock = clock or MonotonicClock()
        told = robot.observation_features
        self._groups = _groups(features.channels(robot, told, settings.ranges))
        self._action = features.channels(robot, robot.action_features, settings.ranges)
        self._sizes = features.images(told)
        self.spec = self._make_spec()
        self._lock = threading.RLock()
        self._open = False
        self._images: dict[str, Image] = {}
        self._measured: Array | None = None  # as an action, where it has positions
        self._stops = 0  # so often was stop() called

    def connect(self) -> None:
        """Let LeRobot connect, and check that the calibration is this robot's.

        LeRobot's own types enable torque here; they are told to hold at once.

        Raises:
            LeRobotError: it is not calibrated, or not as the file says.
        """
        with self._lock:
            if self._open:
                return
            try:
                self._open_robot()
            except BaseException:
                self._release()
                raise
            self._open = True

    def reset(self) -> None:
        """Move home slowly, in a straight line of all elements.

        Raises:
            LeRobotError: it does not get there, or somebody stopped it on its way.
        """
        stops = self._stops
        try:
            self._travel(stops)
        except BaseException:
            self.stop()
            raise

    def read(self) -> dict[str, Array]:
        """Return the newest readings, in our units."""
        with self._lock:
            return self._observe()

    def frames(self) -> dict[str, Image]:
        """Return the images that came with the last reading."""
        return {name: self._images[name].copy() for name in self._sizes}

    def apply(self, action: Array) -> Array:
        """Send an action; return what LeRobot says it sent."""
        wanted = self.spec.action.clip(self.spec.action.validate(action))
        with self._lock:
            return self._send(wanted)

    def stop(self) -> None:
        """Hold where it is, as far as it takes positions; velocities become zero."""
        self._stops += 1
        try:
            with self._lock:
                if self._open:
                    self._observe()
                    self._hold()
        except Exception as error:  # the last thing that stands when all else failed
            log.warning("could not hold %s: %s", self._robot, error)

    def close(self) -> None:
        """Hold, then let LeRobot disconnect."""
        self.stop()
        with self._lock:
            self._open = False
            self._release()

    def facts(self) -> dict[str, str]:
        """Return what LeRobot knows of this very robot."""
        limit = getattr(self._robot.config, "max_relative_target", None)
        return {
            "type": str(self._robot.name),
            "id": str(self._robot.id),
            "calibration": str(self._file()),
            "max_relative_target": str(limit),
        }

    def _open_robot(self) -> None:
        self._robot.connect(calibrate=False)
        if not self._robot.is_calibrated:
            raise LeRobotError(
                f"{self._robot} is not calibrated as {self._file()} says: run "
                f"lerobot-calibrate"
            )
        self._observe()
        self._hold()

    def _release(self) -> None:
        """Let LeRobot disconnect, also where it connected in part only."""
        try:
            if self._robot.is_connected:
                self._robot.disconnect()
        except Exception as error:  # whatever LeRobot's classes raise
            log.warning("could not disconnect %s: %s", self._robot, error)

    def _file(self) -> object:
        return getattr(self._robot, "calibration_fpath", "no file")

    def _make_spec(self) -> RobotSpec:
        settings, action = self._settings, self._action.spec()
        kinds = {channel.key.rpartition(".")[2] for channel in self._action}
        control: Control = "normalized"
        if kinds == {"pos"}:
            control = "position"
        elif kinds == {"vel"}:
            control = "velocity"
        positions = self._groups.get("joint_position")
        tracks = positions is not None and positions.spec().names == action.names
        home = self._home(action.names, action.low, action.high)
        cameras = getattr(self._robot.config, "cameras", {})
        return RobotSpec(
            name=f"lerobot_{self._robot.name}",
            control_period_s=settings.period_s,
            command_timeout_s=3 * settings.period_s,
            control=control,
            tracks="joint_position" if tracks and control == "position" else "",
            observation={name: group.spec() for name, group in self._groups.items()},
            cameras={
                name: CameraSpec(height, width, _period(cameras, name, settings))
                for name, (height, width) in self._sizes.items()
            },
            action=action,
            home=home,
            max_action_step=(settings.speed * settings.period_s,) * action.size,
            conventions=self._conventions(),
        )

    def _conventions(self) -> dict[str, str]:
        """Return by which factor each of LeRobot's numbers was multiplied."""
        return {
            "sign": "LeRobot's",
            "zero pose": "LeRobot's: the middle of each calibrated range; [1] from 0",
            **{c.key: f"[{c.unit}] = {c.scale:.9g} x LeRobot's" for c in self._action},
        }

    def _home(
        self, names: tuple[str, ...], low: tuple[float, ...], high: tuple[float, ...]
    ) -> tuple[float, ...]:
        told = self._settings.home
        if odd := sorted(set(told) - set(names)):
            raise FeatureError(f"expected home of {names}, got {', '.join(odd)}")
        middle = [(a + b) / 2 for a, b in zip(low, high, strict=True)]
        return tuple(told.get(n, m) for n, m in zip(names, middle, strict=True))

    def _observe(self) -> dict[str, Array]:
        told = self._robot.get_observation()
        for name in self._sizes:
            self._images[name] = np.ascontiguousarray(told[name], np.uint8)
        reading = {name: group.pack(told) for name, group in self._groups.items()}
        for name, array in reading.items():
            self.spec.observation[name].validate(array)
        missing = dict.fromkeys((c.key for c in self._action), 0.0)
        self._measured = self._action.pack({**missing, **_positions(told)})
        return reading

    def _send(self, wanted: Array) -> Array:
        sent = self._robot.send_action(self._action.unpack(wanted))
        return self._action.pack(sent)

    def _hold(self) -> None:
        if self._measured is not None:
            self._send(self.spec.action.clip(self._measured))

    def _travel(self, stops: int) -> None:
        if not self.spec.tracks:
            self._check_stops(stops)
            return
        period_s, home = self._settings.period_s, float32(self.spec.home)
        with self._lock:
            start = self._observe()[self.spec.tracks]
        way = home - start
        seconds = float(np.abs(way).max()) / self._settings.homing_speed
        steps = max(1, math.ceil(seconds / period_s))
        ticker = Ticker(self._clock, period_s)
        for k in range(1, steps + 1):
            with self._lock:
                self._check_stops(stops)
                self._send(self.spec.action.clip(float32(start + way * k / steps)))
            ticker.wait()
        deadline = self._clock.now() + self._settings.settle_s
        while (apart := self._apart(home, stops)).max() > self._settings.arrival:
            if self._clock.now() > deadline:
                name = self.spec.action.names[int(apart.argmax())]
                raise LeRobotError(
                    f"{name} did not come home: {apart.max():.2f} away, expected "
                    f"{self._settings.arrival} or less"
                )
            ticker.wait()

    def _apart(self, home: Array, stops: int) -> Array:
        with self._lock:
            self._check_stops(stops)
            return float32(np.abs(self._observe()[self.spec.tracks] - home))

    def _check_stops(self, stops: int) -> None:
        if self._stops != stops:
            raise LeRobotError("somebody stopped the robot on its way home")


def _groups(channels: Channels) -> dict[str, Channels]:
    """Sort channels into arrays by the ending of LeRobot's name."""
    groups: dict[str, list[features.Channel]] = {}
    for channel in channels:
        ending = channel.key.rpartition(".")[2]
        groups.setdefault(_GROUPS.get(ending, "state"), []).append(channel)
    return {name: Channels(group) for name, group in groups.items()}


def _positions(told: dict[str, Any]) -> dict[str, Any]:
    """Return positions only: to hold is to repeat these, and no velocity."""
    return {key: value for key, value in told.items() if key.endswith(".pos")}


def _period(cameras: Any, name: str, settings: Settings) -> float:
    fps = getattr(cameras.get(name), "fps", None)
    return 1.0 / fps if fps else settings.period_s
