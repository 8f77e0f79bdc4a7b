"""Reading a robot's sensors, and refusing what its spec does not promise."""

from __future__ import annotations

import math

import numpy as np

from robostack.messages import Tensor
from robostack.robot import Robot
from robostack.spec import Array

_FLOAT32 = np.dtype(np.float32)


class SensorError(RuntimeError):
    """The robot sensed what its spec does not allow."""


class Sensors:
    """The observation arrays of one robot, checked."""

    def __init__(self, robot: Robot) -> None:
        self._robot = robot
        spec = robot.spec
        self._shapes = {name: (a.size,) for name, a in spec.observation.items()}
        self.arrays: dict[str, Array] = {}  # as read last

    def read(self) -> dict[str, Tensor]:
        """Return the newest reading of every array, as message fields.

        Raises:
            SensorError: an array is missing, misshapen or not finite.
        """
        arrays = self._robot.read()
        if arrays.keys() != self._shapes.keys():
            raise SensorError(
                f"expected readings {list(self._shapes)}, got {list(arrays)}"
            )
        tensors = {}
        for name, shape in self._shapes.items():
            array = arrays[name]
            if array.dtype != _FLOAT32 or array.shape != shape:
                raise SensorError(
                    f"expected {name} as float32 {shape}, got {array.dtype} "
                    f"{array.shape}"
                )
            if not math.isfinite(sum(array.tolist())):  # a fifth of numpy's time
                raise SensorError(f"{name} is not finite: {array}")
            tensors[name] = Tensor("<f4", shape, array.tobytes())
        self.arrays = arrays
        return tensors
