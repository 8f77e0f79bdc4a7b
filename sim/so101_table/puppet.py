"""The table with its arm on strings: moved servo by servo, in steps of the physics.

For whoever stands in for the servos' electronics, such as an emulated bus. Each joint
has a target, which its actuator pulls it to with the gains of the model, and a strength
from 0 (limp: gravity and friction alone) to 1 (all the force that the model gives it).
"""

from __future__ import annotations

import numpy as np

from robostack.robot import Variant

from .._mujoco import Values
from . import table
from .world import TableWorld


class Puppet(TableWorld):
    """The SO-101 at its table, limp at first; `sleep_until` steps it."""

    def __init__(self, argument: str, seed: int) -> None:
        super().__init__(table.start(argument), Variant())
        self.step_s = float(self.model.opt.timestep)
        self._strongest = self.model.actuator_forcerange.copy()  # (6, 2) [N m]
        self.seed(seed)
        self.reset()
        self.pull(self.angles(), np.zeros(len(table.JOINTS)))

    def angles(self) -> Values:
        """Return the joint angles (6,) [rad]."""
        return np.array(self.data.qpos[self._qpos])

    def speeds(self) -> Values:
        """Return the joint speeds (6,) [rad/s]."""
        return np.array(self.data.qvel[self._qvel])

    def efforts(self) -> Values:
        """Return how hard each actuator pulls (6,), -1 to 1."""
        return np.array(self.data.actuator_force / self._strongest[:, 1])

    def pull(self, targets: Values, strengths: Values) -> None:
        """Set the targets (6,) [rad] and strengths (6,) of the joints."""
        self.data.ctrl[:] = targets
        self.model.actuator_forcerange[:] = self._strongest * strengths[:, None]

    def turn(self, angles: Values) -> None:
        """Be turned to `angles` (6,) [rad] by a hand."""
        with self._lock:
            self.data.qpos[self._qpos] = angles
            self.data.qvel[self._qvel] = 0.0
