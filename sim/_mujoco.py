"""What all MuJoCo worlds share: `ModelWorld`, a World out of a compiled model.

A world gives it a spec and a model, and overrides what differs (the hooks, all of them
called with the lock held and never by anybody else):

    _place(random)   put everything where an episode begins: self.data.qpos, qvel
    _drive(action)   hand an action to the actuators    default: data.ctrl[:] = action
    _sense()         what the sensors would say         default: joints of the spec
    _know()          what only a referee may know       default: the same, unspoilt
    _safe()          the actuators in their safe state  default: drive `spec.home`
    _step(ticks)     advance by so many ticks           default: mj_step, watched

    class World(ModelWorld):
        def __init__(self, spec: RobotSpec, variant: Variant) -> None:
            path = Path(__file__).with_name("world.xml")
            model = compile_variant(mujoco.MjSpec.from_file(str(path)), variant)
            super().__init__(spec, model, variant)

Import mujoco from here (`from .._mujoco import ModelWorld, mujoco`), so that it comes
after the choice of how to draw. The file that does so is imported by `make` only: specs
and tasks are to be had without mujoco.

Time is counted in physics steps and goes on across resets. Nothing moves an actuator
from `stop` to the next `reset`, whoever calls `apply` in between.
"""

from __future__ import annotations

import collections
import math
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from robostack.robot import Variant
from robostack.spec import Array, Image, RobotSpec, float32

from ._headless import choose_gl

choose_gl()  # before the import, which reads it

import mujoco as mujoco  # noqa: E402, PLC0414

from ._camera import Cameras, RenderError  # noqa: E402
from ._variant import PLAY, compile_variant, vary  # noqa: E402

mujoco.MjLogConfig().set()  # else warnings become MUJOCO_LOG.TXT in the user's folder

__all__ = [
    "PLAY",
    "Cameras",
    "ModelWorld",
    "RenderError",
    "Values",
    "WorldError",
    "compile_variant",
    "mujoco",
    "vary",
]

Values = npt.NDArray[np.float64]

_DIVERGED = (
    mujoco.mjtWarning.mjWARN_BADQPOS,
    mujoco.mjtWarning.mjWARN_BADQVEL,
    mujoco.mjtWarning.mjWARN_BADQACC,
)


class WorldError(RuntimeError):
    """The physics of a world did what no robot can."""


class ModelWorld:
    """A simulated robot and the clock of its world: sleeping steps the physics."""

    def __init__(
        self,
        spec: RobotSpec,
        model: mujoco.MjModel,
        variant: Variant,
        *,
        joints: Sequence[str] | None = None,
        tick_s: float | None = None,
    ) -> None:
        """Build the world, at rest and without torque until the first `reset`.

        Args:
            spec: what it is; its control period is a multiple of the physics step.
            model: compiled, with the variant applied (`compile_variant` or `vary`).
            variant: for what is no matter of the model: delay, noise, dropped frames.
            joints: names in the model of the joints that the default `_sense` reads,
                in the order of the spec; default: the names in the spec.
            tick_s: least time that `_step` can advance; default: the physics step.
        """
        self.spec = spec
        self.variant = variant
        self.model = model
        self.data = mujoco.MjData(model)
        self._lock = threading.RLock()
        self._sight = threading.Lock()  # one look at a time
        self._seen = mujoco.MjData(model)
        self._ticks = 0  # ticks since the world was made
        self._tick_s = tick_s or float(model.opt.timestep)
        self._period = _multiple(spec.control_period_s, self._tick_s)  # [ticks]
        self._enabled = False
        self._due: collections.deque[tuple[int, Array]] = collections.deque()
        self._reading: dict[str, Array] | None = None
        self._place_random = np.random.default_rng()
        self._noise_random = np.random.default_rng()
        self.cameras = Cameras(model, spec.cameras, variant.dropped_frames)
        names = _joints(spec) if joints is None else joints
        self._qpos, self._qvel = _addresses(model, names)
        mujoco.mj_forward(model, self.data)

    # --- Robot

    def connect(self) -> None:
        """Do nothing: there is no device."""

    def reset(self) -> None:
        """Begin an episode: everything in its place, actuators on, at `spec.home`."""
        with self._lock:
            self._restart()
            self._due.clear()
            self._reading = None
            self.cameras.reset()
            self._enabled = True

    def read(self) -> dict[str, Array]:
        """Return the readings of this moment; reading twice gives the same."""
        with self._lock:
            if self._reading is None:
                self._reading = self._measure()
            return {name: array.copy() for name, array in self._reading.items()}

    def frames(self) -> dict[str, Image]:
        """Return the newest frame of each camera.

        What is drawn is a copy, so that nobody waits for the drawing but the caller.
        """
        with self._sight:
            with self._lock:
                mujoco.mj_copyData(self._seen, self.model, self.data)
                now_s = self.now()
            return self.cameras.frames(self._seen, now_s)

    def apply(self, action: Array) -> Array:
        """Send `action`, limited to its bounds; return what was sent.

        With a delay it reaches the actuators that many control periods later. While
        the world is stopped nothing is sent, and `spec.home` returned.
        """
        sent = self.spec.action.clip(self.spec.action.validate(action))
        with self._lock:
            if not self._enabled:
                return float32(self.spec.home)
            self._due.append((self._ticks + self.variant.delay * self._period, sent))
            self._take_due()
        return sent.copy()

    def stop(self) -> None:
        """Enter the safe state at once, until the next `reset`."""
        with self._lock:
            self._enabled = False
            self._due.clear()
            self._safe()

    def close(self) -> None:
        """Stop, and free what draws."""
        self.stop()
        self.cameras.close()

    # --- Clock

    def now(self) -> float:
        """Return simulated time [s] since the world was made."""
        return self._ticks * self._tick_s

    def sleep_until(self, deadline: float) -> None:
        """Step the physics until it is `deadline` [s], or just past."""
        end = math.ceil(deadline / self._tick_s - 1e-6)
        while self._ticks < end:
            with self._lock:
                self._take_due()
                stop = min(end, self._due[0][0]) if self._due else end
                self._step(stop - self._ticks)
                self._ticks = stop
                self._reading = None

    # --- World

    def seed(self, seed: int) -> None:
        """Fix everything random from the next `reset` on."""
        place, noise, drops = np.random.SeedSequence(seed).spawn(3)
        self._place_random = np.random.default_rng(place)
        self._noise_random = np.random.default_rng(noise)
        self.cameras.seed(drops)

    def truth(self) -> dict[str, Array]:
        """Return what only a referee may know."""
        with self._lock:
            return {name: float32(value) for name, value in self._know().items()}

    # --- hooks

    def _place(self, random: np.random.Generator) -> None:
        """Put everything where an episode begins."""

    def _drive(self, action: Array) -> None:
        """Hand `action` (A,) to the actuators."""
        self.data.ctrl[:] = action

    def _sense(self) -> dict[str, Values]:
        """Return what the sensors would say without noise."""
        return {
            "joint_position": self.data.qpos[self._qpos],
            "joint_velocity": self.data.qvel[self._qvel],
        }

    def _know(self) -> dict[str, Values]:
        """Return what only a referee may know, (n,) each."""
        return self._sense()

    def _safe(self) -> None:
        """Put the actuators in their safe state."""
        self._drive(float32(self.spec.home))

    def _step(self, ticks: int) -> None:
        """Advance by `ticks`, and complain where the physics diverged."""
        mujoco.mj_step(self.model, self.data, nstep=ticks)
        warnings = self.data.warning
        if any(warnings[int(kind)].number for kind in _DIVERGED):
            raise WorldError(
                f"the physics of {self.spec.name} diverged at {self.now():.3f} s; "
                f"variant: {self.variant}"
            )

    # --- private

    def _restart(self) -> None:
        mujoco.mj_resetData(self.model, self.data)
        self._place(self._place_random)
        self._drive(float32(self.spec.home))
        mujoco.mj_forward(self.model, self.data)

    def _take_due(self) -> None:
        while self._due and self._due[0][0] <= self._ticks:
            self._drive(self._due.popleft()[1])

    def _measure(self) -> dict[str, Array]:
        """Return the readings with noise, within the bounds of the spec."""
        sensed = self._sense()
        reading = {}
        for name, array in self.spec.observation.items():
            value = sensed[name]
            if self.variant.noise:
                width = np.subtract(array.high, array.low) * self.variant.noise
                value = value + width * self._noise_random.standard_normal(array.size)
            reading[name] = array.clip(float32(value))
        return reading


def _multiple(period_s: float, tick_s: float) -> int:
    count = round(period_s / tick_s)
    if count < 1 or abs(count * tick_s - period_s) > 1e-9:
        raise WorldError(
            f"expected a control period that is a multiple of the physics step "
            f"{tick_s} s, got {period_s} s"
        )
    return count


def _joints(spec: RobotSpec) -> Sequence[str]:
    array = spec.observation.get("joint_position")
    return array.names if array else ()


def _addresses(model: mujoco.MjModel, joints: Sequence[str]) -> tuple[Any, Any]:
    """Return the indices of `joints` in qpos and in qvel."""
    ids = [model.joint(name).id for name in joints]
    return model.jnt_qposadr[ids], model.jnt_dofadr[ids]
