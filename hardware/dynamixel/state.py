"""What the servos say, as arrays, and what is wrong with it, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .._servo_bus import Answer
from . import registers as r
from .chain import BLOCK_START, Chain, Joint, Ticks

_REVERSED, _BY_TIME, _TORQUE_BY_GOAL = 0x01, 0x04, 0x08  # bits of DRIVE_MODE
_PROTECTS = r.OVERHEATED | r.OVERLOADED


class State(NamedTuple):
    """One value (n,) for each joint."""

    position: Ticks
    velocity: Ticks  # [0.229 rev/min]
    goal: Ticks
    torque: npt.NDArray[np.bool_]
    watchdog: Ticks  # [20 ms]
    pwm: Ticks  # the limit
    temperature: Ticks  # [C]
    voltage: Ticks  # [0.1 V]
    errors: Ticks  # bits


def parse(answers: Sequence[Answer]) -> State:
    """Return the state that is in the answers to a read of the whole block."""

    def column(register: r.Register) -> Ticks:
        return np.array([register.get(a.data, BLOCK_START) for a in answers], np.int64)

    return State(
        position=column(r.PRESENT_POSITION),
        velocity=column(r.PRESENT_VELOCITY),
        goal=column(r.GOAL_POSITION),
        torque=column(r.TORQUE_ENABLE) == 1,
        watchdog=column(r.BUS_WATCHDOG),
        pwm=column(r.GOAL_PWM),
        temperature=column(r.PRESENT_TEMPERATURE),
        voltage=column(r.PRESENT_VOLTAGE),
        errors=column(r.HARDWARE_ERROR),
    )


def faults(state: State, chain: Chain) -> Iterator[str]:
    """Return what forbids to move, a phrase for each joint."""
    hottest_c = chain.care.hottest_c
    for name, bits, degrees in zip(
        chain.joints, state.errors.tolist(), state.temperature.tolist(), strict=True
    ):
        if bits:
            yield f"{name} is {r.describe(bits)}: switch its power off and on"
        if degrees >= hottest_c:
            yield f"{name} is at {degrees} C (limit {hottest_c} C): let it cool"


def lost(state: State, chain: Chain) -> Iterator[str]:
    """Return which servos forgot what they were told, or stopped by themselves."""
    for i, (name, joint) in enumerate(chain.joints.items()):
        if not state.torque[i]:
            yield f"{name} has no torque: its power was cut, or it protects itself"
        elif state.watchdog[i] > r.WATCHDOG_LAST:
            yield (
                f"{name} stopped by itself: it heard nothing for "
                f"{chain.bus_watchdog_s:g} s"
            )
        elif state.watchdog[i] != chain.watchdog:
            yield f"{name} has no bus watchdog any more: somebody else wrote to it"
        elif state.pwm[i] != joint.pwm:
            yield f"{name} has another PWM limit than it was given"


def misfits(memories: Sequence[Answer], chain: Chain) -> Iterator[str]:
    """Return how the servos' EEPROMs differ from what the chain file says."""
    for (name, joint), answer in zip(chain.joints.items(), memories, strict=True):
        for wrong in (
            *_wrong_kind(answer.data, joint),
            *_wrong_drive(answer.data),
            *_wrong_limits(answer.data, joint, chain.care.hottest_c),
        ):
            yield f"{name} {wrong}"


def _wrong_kind(memory: bytes, joint: Joint) -> Iterator[str]:
    number = r.MODEL.get(memory)
    model = r.BY_NUMBER.get(number)
    if model is None:
        yield f"is model {number}, expected one of {', '.join(r.BY_NAME)}"
    elif joint.model not in ("auto", model.name):
        yield f"is an {model.name}, expected {joint.model}"
    elif joint.current_limit_a and not model.ampere:
        yield f"is an {model.name} and cannot limit its current: remove the limit"
    if (mode := r.OPERATING_MODE.get(memory)) != joint.mode:
        yield f"is in operating mode {mode}, expected {joint.mode}"
    if (offset := r.HOMING_OFFSET.get(memory)) != joint.homing_offset:
        yield f"has homing offset {offset}, expected {joint.homing_offset}"


def _wrong_drive(memory: bytes) -> Iterator[str]:
    drive = r.DRIVE_MODE.get(memory)
    if drive & _REVERSED:
        yield "is reversed in the servo: clear that and use sign = -1"
    if drive & _BY_TIME:
        yield "has time-based profiles: set drive mode to 0"
    if drive & _TORQUE_BY_GOAL:
        yield "takes a goal as leave to enable torque: set drive mode to 0"
    if startup := r.STARTUP.get(memory):
        yield (
            f"has startup configuration {startup}, expected 0: it would move when "
            f"its power returns"
        )
    if ~r.SHUTDOWN.get(memory) & _PROTECTS:
        yield "does not protect itself from heat and overload: set shutdown to 52"


def _wrong_limits(memory: bytes, joint: Joint, hottest_c: int) -> Iterator[str]:
    low, high = r.MIN_POSITION.get(memory), r.MAX_POSITION.get(memory)
    if not low <= joint.ends[0] < joint.ends[1] <= high:
        yield f"may go to ticks {joint.ends}, and the servo only to {(low, high)}"
    if (most := r.VELOCITY_LIMIT.get(memory)) < joint.velocity:
        yield f"has velocity limit {most * r.VELOCITY_UNIT:.2f} rad/s, below ours"
    if (most := r.PWM_LIMIT.get(memory)) < joint.pwm:
        yield f"has PWM limit {most / r.PWM_FULL:.0%}, below {joint.pwm_limit:.0%}"
    if (most := r.MAX_TEMPERATURE.get(memory)) < hottest_c:
        yield f"switches off at {most} C, before our limit of {hottest_c} C"
    if joint.current_limit_a:
        model = r.BY_NUMBER.get(r.MODEL.get(memory))
        amperes = r.CURRENT_LIMIT.get(memory) * (model.ampere if model else 0)
        if amperes < joint.current_limit_a:
            yield f"has current limit {amperes:.2f} A, below {joint.current_limit_a} A"
