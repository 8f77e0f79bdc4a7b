"""An emulated controller: registers, safety, an arm, and ur_rtde's control program.

The program is the side of ur_rtde's `rtde_control.script` (1.6) that answers: it looks
at input register 0 every 2 ms; output register 0 says 1 (ready) or 2 (done). A servo
target is followed until another comes, by a thread of its own, as in the script.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .kinematics import flange, rotation_vector
from .models import HOME, Model
from .rtde import Value
from .status import RobotMode, Runtime, Safety

TICK_S = 0.002
COMMAND, READY, DONE = "input_int_register_0", 1, 2
ANSWER = "output_int_register_0"
_NOTHING, _SERVOJ, _SERVO_STOP, _PROTECT = 0, 11, 16, 31
_STOPJ, _SET_WATCHDOG, _STOP_SCRIPT = 34, 35, 255
_LOADING_S = 0.03  # from a script's last byte to its first line
_AWAY = (0.08, -0.06, 0.05, 0.06, -0.05, 0.04)  # [rad] from home, where the arm begins
_GAIN, _BRAKING, _ACCELERATION = 20.0, 4.0, 15.0  # [1/s], [rad/s^2], [rad/s^2]

Joints = npt.NDArray[np.float64]


class Watchdog(NamedTuple):
    """How long the command register may go without a write [s]."""

    patience_s: float
    fed_s: float


class Controller:
    """What happens in 2 ms, and what of it is told."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.now_s = 0.0
        self.position: Joints = np.array(HOME) + np.array(_AWAY)
        self.velocity: Joints = np.zeros(6)
        self.target: Joints = self.position.copy()
        self.inputs: dict[str, float] = {}
        self.outputs: dict[str, float] = {}
        self.robot_mode = RobotMode.RUNNING
        self.safety = Safety.NORMAL
        self.remote = True
        self.runtime = Runtime.STOPPED
        self.servoing = False
        self.commands = Counter[int]()  # how often each was carried out
        self.watchdog: Watchdog | None = None
        self.watchdog_trips = 0
        self._start_s = 0.0
        self._executing = False
        self._braking = False

    def write(self, values: Mapping[str, float]) -> None:
        """Take input registers from a client."""
        self.inputs.update(values)
        if COMMAND in values and self.watchdog:
            self.watchdog = self.watchdog._replace(fed_s=self.now_s)

    def load(self) -> None:
        """Start the program that came over the script port, if one may run."""
        self.end_program()
        if self.remote and self.robot_mode == RobotMode.RUNNING and not self.is_stopped:
            self.runtime, self._start_s = Runtime.RESUMING, self.now_s + _LOADING_S

    def end_program(self) -> None:
        """Stop the program: the arm brakes, and holds."""
        self.runtime = Runtime.STOPPED
        self.servoing = self._executing = self._braking = False
        self.watchdog = None

    def trip(self, stop: Safety) -> None:
        """Let the safety system stop the arm; the program pauses, or ends."""
        self.safety = stop
        emergency = stop not in (Safety.PROTECTIVE_STOPPED, Safety.SAFEGUARD_STOPPED)
        if emergency:
            self.end_program()
            self.robot_mode = RobotMode.POWER_OFF
        elif self.runtime == Runtime.PLAYING:
            self.runtime = Runtime.PAUSED

    def release(self) -> None:
        """End the safety stop; a paused program stays paused."""
        self.safety, self.robot_mode = Safety.NORMAL, RobotMode.RUNNING

    @property
    def is_stopped(self) -> bool:
        """Whether the safety system forbids motion."""
        return self.safety not in (Safety.NORMAL, Safety.REDUCED)

    def step(self) -> None:
        """Let 2 ms pass."""
        self.now_s += TICK_S
        self._watch()
        if self.runtime == Runtime.RESUMING and self.now_s >= self._start_s:
            self.runtime = Runtime.PLAYING
            self.outputs[ANSWER] = READY
        elif self.runtime == Runtime.PLAYING:
            self._run()
        self._move()

    def variables(self) -> dict[str, Value]:
        """Return what RTDE tells."""
        frame = flange(self._model, self.position)
        pose = [*frame[:3, 3].tolist(), *rotation_vector(frame[:3, :3]).tolist()]
        playing = self.runtime == Runtime.PLAYING
        return {
            **self.outputs,
            "timestamp": self.now_s,
            "actual_q": self.position.tolist(),
            "actual_qd": self.velocity.tolist(),
            "target_q": self.target.tolist(),
            "target_qd": [0.0] * 6,
            "actual_TCP_pose": pose,
            "target_TCP_pose": pose,
            "actual_TCP_speed": [0.0] * 6,
            "actual_TCP_force": [0.0] * 6,
            "robot_mode": int(self.robot_mode),
            "safety_mode": 1,
            "runtime_state": int(self.runtime),
            "robot_status_bits": 1 | playing << 1,
            "safety_status_bits": self._safety_bits(),
            "speed_scaling": 1.0,
            "target_speed_fraction": 1.0,
        }

    def _safety_bits(self) -> int:
        bits = 1 << self.safety
        if self.safety in (
            Safety.ROBOT_EMERGENCY_STOPPED,
            Safety.SYSTEM_EMERGENCY_STOPPED,
        ):
            bits |= 1 << Safety.EMERGENCY_STOPPED
        return bits | (1 << Safety.STOPPED_DUE_TO_SAFETY if self.is_stopped else 0)

    def _watch(self) -> None:
        if (
            self.watchdog
            and self.now_s - self.watchdog.fed_s > self.watchdog.patience_s
        ):
            self.watchdog_trips += 1
            self.end_program()

    def _run(self) -> None:
        """Go once around the script's main loop."""
        if self._braking:
            if not self.velocity.any():
                self._braking = False
                self.outputs[ANSWER] = DONE
            return
        command = int(self.inputs.get(COMMAND, _NOTHING))
        if command == _SERVOJ:
            self.target, self.servoing = np.array(self._doubles(6)), True
            self.outputs[ANSWER] = READY
            self._count(command)
        elif command == _NOTHING:
            self._executing = False
            self.outputs[ANSWER] = READY
        elif not self._executing:
            self._executing = True
            self._count(command)
            self._execute(command)

    def _execute(self, command: int) -> None:
        if command in (_SERVO_STOP, _STOPJ):
            self.servoing, self._braking = False, True
            return
        if command == _STOP_SCRIPT:
            self.end_program()
            return
        if command == _SET_WATCHDOG:
            patience_s = 1.0 / max(self._doubles(1)[0], 1e-3)
            self.watchdog = Watchdog(patience_s, self.now_s)
        elif command == _PROTECT:
            self.trip(Safety.PROTECTIVE_STOPPED)
        else:  # not emulated: end, where the real script would go on
            self.end_program()
        self.outputs[ANSWER] = DONE

    def _count(self, command: int) -> None:
        self.commands[command] += 1

    def _doubles(self, count: int) -> list[float]:
        names = (f"input_double_register_{k}" for k in range(count))
        return [float(self.inputs.get(name, 0.0)) for name in names]

    def _move(self) -> None:
        if self.servoing and self.runtime == Runtime.PLAYING:
            most = np.array(self._model.speed)
            wanted = np.clip(_GAIN * (self.target - self.position), -most, most)
            change = _ACCELERATION * TICK_S
        else:
            wanted, change = np.zeros(6), _BRAKING * TICK_S
        self.velocity = self.velocity + np.clip(wanted - self.velocity, -change, change)
        self.position = self.position + self.velocity * TICK_S
        if not self.servoing:
            self.target = self.position.copy()
