"""What the servos say, as arrays, and what is wrong with it, in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .._servo_bus import Answer
from . import registers as r
from .arm import JOINTS, Care
from .calibration import Calibration, Ticks

START, SIZE = r.TORQUE_ENABLE.address, 30  # one read has it all: 40 ... 69


class State(NamedTuple):
    """One value (6,) for each joint."""

    position: Ticks
    goal: Ticks
    torque: npt.NDArray[np.bool_]
    torque_limit: Ticks  # [0.1 %]
    temperature: Ticks  # [C]
    voltage: Ticks  # [0.1 V]
    errors: Ticks  # bits


def parse(answers: list[Answer]) -> State:
    """Return the state that is in the answers to a read of `SIZE` from `START`."""

    def column(register: r.Register) -> Ticks:
        return np.array([register.get(a.data, START) for a in answers], np.int64)

    said = np.array([a.errors for a in answers], np.int64)
    return State(
        position=column(r.PRESENT_POSITION),
        goal=column(r.GOAL_POSITION),
        torque=column(r.TORQUE_ENABLE) == 1,
        torque_limit=column(r.TORQUE_LIMIT),
        temperature=column(r.PRESENT_TEMPERATURE),
        voltage=column(r.PRESENT_VOLTAGE),
        errors=said | column(r.STATUS),
    )


def faults(state: State, care: Care) -> Iterator[str]:
    """Return what forbids to move the arm, a phrase for each joint."""
    for name, bits, degrees in zip(
        JOINTS, state.errors.tolist(), state.temperature.tolist(), strict=True
    ):
        if bits:
            yield f"{name} is {r.describe(bits)}"
        if degrees >= care.hottest_c:
            yield f"{name} is at {degrees} C (limit {care.hottest_c} C): let it cool"


def lost_torque(state: State, care: Care) -> Iterator[str]:
    """Return which servos forgot what they were told: power was away."""
    limits = np.array(care.torque_limit)
    for name, on, limit, told in zip(
        JOINTS, state.torque, state.torque_limit, limits, strict=True
    ):
        if not on:
            yield f"{name} has no torque: its power was cut, or it protects itself"
        elif limit != told:
            yield f"{name} has the torque limit {limit / 10:g} %, not {told / 10:g} %"


def misfits(
    memories: list[Answer], state: State, calibration: Calibration
) -> Iterator[str]:
    """Return what differs from an STS3215 calibrated so, by its first 40 bytes."""
    joints = calibration.joints.items()
    volts = state.voltage.tolist()
    for (name, joint), (memory, _), volt in zip(joints, memories, volts, strict=True):
        if (model := r.MODEL.get(memory)) != r.MODEL_STS3215:
            yield f"{name} is model {model}, expected {r.MODEL_STS3215} (STS3215)"
        if mode := r.OPERATING_MODE.get(memory):
            yield f"{name} is in operating mode {mode}, expected 0 (position)"
        if (offset := r.HOMING_OFFSET.get(memory)) != joint.homing_offset:
            yield (
                f"{name} has homing offset {offset}, and {joint.homing_offset} when it "
                f"was calibrated: another program changed it; calibrate again"
            )
        low, high = r.MIN_VOLTAGE.get(memory), r.MAX_VOLTAGE.get(memory)
        if not low <= volt <= high:
            yield f"{name} has {volt / 10} V, expected {low / 10} to {high / 10} V"
