"""Slowly home: on the straight line of joint angles, watching for what is in the way.

It knows of no table and of no person: a joint that falls behind its goal ends it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import numpy as np

from robostack.clock import Clock, Ticker
from robostack.spec import Array, float32

from .._servo_bus import refuse
from . import arm
from .servos import Servos, apart

Turn = Callable[[], AbstractContextManager[None]]  # has the bus; raises if told to end


def go_home(servos: Servos, start: Array, clock: Clock, turn: Turn) -> None:
    """Move from `start` (6,) [rad] to home, blocking.

    Args:
        servos: armed.
        start: where the arm is.
        clock: by which it is moved.
        turn: gives the bus for a moment, or raises where somebody stopped the arm.

    Raises:
        BusError: a servo does not answer.
        ServoError: a joint is blocked or ill, or does not arrive.
    """
    ticker = Ticker(clock, servos.care.homing_tick_s)
    for target in _line(start, servos.care):
        with turn():
            state = servos.healthy()
            refuse(apart(state, state.goal, servos.care.lag, "is blocked"))
            servos.send(servos.calibration.ticks(target))
        ticker.wait()
    _settle(servos, clock, ticker, turn)


def _line(start: Array, care: arm.Care) -> Iterator[Array]:
    way = np.array(arm.HOME) - start
    seconds = float(np.abs(way).max()) / care.homing_speed
    steps = max(1, math.ceil(seconds / care.homing_tick_s))
    for k in range(1, steps + 1):
        yield float32(start + way * k / steps)


def _settle(servos: Servos, clock: Clock, ticker: Ticker, turn: Turn) -> None:
    goal = servos.calibration.ticks(float32(arm.HOME))
    deadline = clock.now() + servos.care.settle_s
    while True:
        with turn():
            state = servos.healthy()
        away = list(apart(state, goal, servos.care.arrival, "is not home"))
        if not away:
            return
        if clock.now() > deadline:
            refuse(away)
        ticker.wait()
