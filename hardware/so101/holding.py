"""Holding the arm where it is: every joint that has torque, and no other."""

from __future__ import annotations

import numpy as np

from . import state as states
from .calibration import RADIANS_PER_TICK
from .servos import Servos

_TRIES = 3


def hold(servos: Servos) -> list[int]:
    """Goal := where it is, of every joint with torque; return ids without an answer.

    A joint that rests near its goal keeps it, so that holds in a row do not let the arm
    creep.
    """
    rest, missing = servos.care.rest / RADIANS_PER_TICK, list[int]()
    for _ in range(_TRIES):
        found, bad = servos.bus.poll(servos.ids, states.START, states.SIZE)
        missing = list(bad)
        state = states.parse(list(found.values()))
        away = state.torque & (np.abs(state.goal - state.position) > rest)
        if not away.any():
            break
        ids = np.array(list(found))[away].tolist()
        servos.send_to(dict(zip(ids, state.position[away].tolist(), strict=True)))
    return missing
