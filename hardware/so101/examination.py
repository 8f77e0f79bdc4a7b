"""What is wrong with an SO-101, from its port to the angles: for `robostack doctor`.

Reads only; nothing is written to a servo and no torque is enabled. Questions are
asked without the driver's repetitions, too, so that it is seen what those hide: lost
and corrupt answers, two servos with one id.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from robostack.robot import Finding

from .._servo_bus import PATIENCE_S, BusError
from . import arm
from . import registers as r
from . import state as states
from .bus import Bus
from .calibration import RADIANS_PER_TICK, Calibration
from .state import State

READINGS = 100  # that times and failures are counted over
_LONGEST_S = 2.0  # for all of them
_MOST_FAILURES = 0.02  # of single questions; three tries make that 1 in 100,000
_STRANGERS = range(1, 21)  # ids among which a servo with a wrong id is looked for
_WARM_C = 10  # below the limit
_SLOW_REPLY = 250  # [2 us] a servo waits before it answers: the factory's 500 us

_POWER = "check the servos' power supply and the plug at the adapter"
_PLUG = "plug it in: the cable from the joint before it, at both ends"
_NOISE = "check for a loose ground, and keep the bus away from motor cables"


class _Seen(NamedTuple):
    """What the servos that answered said, in the order of joints."""

    names: list[str]
    ids: list[int]
    memories: list[bytes]  # the first 40 bytes of each
    state: State


def examine_arm(
    port: str, calibration: Calibration, care: arm.Care = arm.CARE
) -> Iterator[Finding]:
    """Yield what is wrong with the arm at `port`, causes before effects."""
    names = dict(zip(calibration.ids, arm.JOINTS, strict=True))
    try:
        bus = Bus(port, names)
    except BusError as error:
        yield Finding("fault", "port", str(error), _why_closed(port))
        return
    with contextlib.closing(bus):
        bus.purge()
        yield from _bus(bus, calibration, care, names)


def _bus(
    bus: Bus, calibration: Calibration, care: arm.Care, names: dict[int, str]
) -> Iterator[Finding]:
    found, bad = bus.poll(calibration.ids, 0, r.EEPROM_END)
    yield from _silent(bus, bad, names)
    sram, lost = bus.poll(list(found), states.START, states.SIZE) if found else ({}, {})
    yield from _silent(bus, lost, names)
    ids = [
        i for i in calibration.ids if i in sram
    ]  # the rest: worth a look all the same
    if not ids:
        return
    seen = _Seen(
        [names[i] for i in ids],
        ids,
        [found[i].data for i in ids],
        states.parse([sram[i] for i in ids]),
    )
    yield from _kind(seen)
    yield from _power(seen, care)
    yield from _condition(seen)
    yield from _calibration(seen, calibration, care)
    yield from _doubles(bus, seen)
    yield from _traffic(bus, seen)


def _silent(bus: Bus, bad: dict[int, int], names: dict[int, str]) -> Iterator[Finding]:
    """Yield who does not answer, and who answers garbage."""
    if len(bad) == len(names) and Bus.corrupt not in bad.values():
        words = f"none of the {len(names)} servos answers"
        yield Finding("fault", "bus", words, f"{_POWER}; or name another --port")
        return
    garbled = [f"{names[i]} (id {i})" for i, why in bad.items() if why == Bus.corrupt]
    if garbled:
        words = f"only corrupt answers from {', '.join(garbled)}"
        cure = f"{_NOISE}; or two servos have this id: plug them in one at a time"
        yield Finding("fault", "bus", words, cure)
    silent = {i: names[i] for i, why in bad.items() if why != Bus.corrupt}
    strangers = _strangers(bus, set(names)) if silent else []
    for servo, name in silent.items():
        hint = f"; id {_list(strangers)} answers: was it {name}?" if strangers else ""
        words = f"{name} (id {servo}) does not answer{hint}"
        yield Finding("fault", "ids", words, _PLUG)


def _strangers(bus: Bus, ids: set[int]) -> list[int]:
    """Return ids that nobody should have and that answer."""
    return [i for i in _STRANGERS if i not in ids and bus.ask([i], r.ID.address, 1)[0]]


def _kind(seen: _Seen) -> Iterator[Finding]:
    """Yield what is not the servo, mode or firmware that it should be."""
    firmware = {}
    for name, memory in zip(seen.names, seen.memories, strict=True):
        if (model := r.MODEL.get(memory)) != r.MODEL_STS3215:
            words = f"{name} is model {model}, expected {r.MODEL_STS3215} (STS3215)"
            yield Finding("fault", "model", words, "put an STS3215 in its place")
        if mode := r.OPERATING_MODE.get(memory):
            words = f"{name} is in operating mode {mode}, expected 0 (position)"
            yield Finding("fault", "mode", words, "set register 33 to 0")
        if (level := r.STATUS_LEVEL.get(memory)) != 1:
            words = f"{name} acknowledges no writes: status level {level}, expected 1"
            yield Finding("fault", "status level", words, "set register 8 to 1")
        if (delay := r.RETURN_DELAY.get(memory)) >= _SLOW_REPLY:
            words = f"{name} waits {2 * delay} us before it answers"
            yield Finding("advice", "return delay", words, "set register 7 to 0")
        major, minor = r.FIRMWARE_MAJOR.get(memory), r.FIRMWARE_MINOR.get(memory)
        firmware[name] = f"{major}.{minor}"
    versions = sorted(set(firmware.values()))
    if len(versions) == 1:
        yield Finding("ok", "firmware", f"{versions[0]} in all servos", "")
    else:
        words = ", ".join(f"{name} {version}" for name, version in firmware.items())
        cure = "bring them to one version with Feetech's FD software"
        yield Finding("advice", "firmware", words, cure)


def _power(seen: _Seen, care: arm.Care) -> Iterator[Finding]:
    """Yield who has the wrong voltage, or is hot."""
    volts, degrees = seen.state.voltage.tolist(), seen.state.temperature.tolist()
    for name, memory, volt in zip(seen.names, seen.memories, volts, strict=True):
        low, high = r.MIN_VOLTAGE.get(memory), r.MAX_VOLTAGE.get(memory)
        if not low <= volt <= high:
            words = (
                f"{name} has {volt / 10:g} V, expected {low / 10:g} to {high / 10:g} V"
            )
            cure = "the servos' label says which supply: 7.4 V or 12 V; check its cable"
            yield Finding("fault", "voltage", words, cure)
    for name, hot in zip(seen.names, degrees, strict=True):
        words = f"{name} is at {hot} C, the limit is {care.hottest_c} C"
        if hot >= care.hottest_c:
            cure = "let it cool, and look for what it strains against"
            yield Finding("fault", "temperature", words, cure)
        elif hot >= care.hottest_c - _WARM_C:
            yield Finding("advice", "temperature", words, "give it a rest soon")
    words = (
        f"{min(volts) / 10:g} to {max(volts) / 10:g} V, warmest servo {max(degrees)} C"
    )
    yield Finding("ok", "power", words, "")


def _condition(seen: _Seen) -> Iterator[Finding]:
    """Yield who complains, and who drives already."""
    for name, bits in zip(seen.names, seen.state.errors.tolist(), strict=True):
        if bits:
            words = f"{name} is {r.describe(bits)}"
            yield Finding("fault", "error bits", words, "cure it, then cycle its power")
    driven = [n for n, on in zip(seen.names, seen.state.torque, strict=True) if on]
    if driven:
        words = f"torque is on at {', '.join(driven)}"
        cure = "end the program that moves it; support the arm, then cycle its power"
        yield Finding("advice", "torque", words, cure)


def _calibration(
    seen: _Seen, calibration: Calibration, care: arm.Care
) -> Iterator[Finding]:
    """Yield which servo is not as it was when the arm was calibrated."""
    again = "another program changed it: calibrate again, see hardware/so101/README.md"
    places = dict(zip(seen.names, seen.state.position.tolist(), strict=True))
    bounds = dict(zip(arm.JOINTS, zip(arm.LOW, arm.HIGH, strict=True), strict=True))
    for name, memory in zip(seen.names, seen.memories, strict=True):
        joint = calibration.joints[name]
        if (offset := r.HOMING_OFFSET.get(memory)) != joint.homing_offset:
            words = (
                f"{name} has homing offset {offset}, and had {joint.homing_offset} "
                f"when it was calibrated"
            )
            yield Finding("fault", "calibration", words, again)
        low, high = r.MIN_POSITION.get(memory), r.MAX_POSITION.get(memory)
        if (low or high) and (low > joint.low or high < joint.high):
            words = (
                f"{name} limits itself to {low} to {high} ticks, calibrated were "
                f"{joint.low} to {joint.high}"
            )
            cure = "it stops short without a word: set registers 9 and 11 to 0 and 4095"
            yield Finding("advice", "calibration", words, cure)
        angle = joint.sign * (places[name] - joint.zero) * RADIANS_PER_TICK
        least, most = bounds[name]
        if not least - care.outside <= angle <= most + care.outside:
            words = f"{name} is at {angle:.2f} rad, outside {least:.2f} to {most:.2f}"
            cure = "move it there by hand; if it is there already, calibrate again"
            yield Finding("fault", "position", words, cure)


def _doubles(bus: Bus, seen: _Seen) -> Iterator[Finding]:
    """Yield ids to which two servos answer."""
    for name, servo in zip(seen.names, seen.ids, strict=True):
        if bus.count(servo, PATIENCE_S) > 1:
            words = f"two servos answer to id {servo}, that of {name}"
            cure = "plug them in one at a time, and give one its own id (register 5)"
            yield Finding("fault", "ids", words, cure)


def _traffic(bus: Bus, seen: _Seen) -> Iterator[Finding]:
    """Yield how long a reading takes, and how many answers are lost or corrupt."""
    took, failures = list[float](), dict.fromkeys(seen.ids, 0)
    deadline = time.monotonic() + _LONGEST_S
    while len(took) < READINGS and time.monotonic() < deadline:
        start = time.perf_counter()
        _, bad = bus.ask(seen.ids, states.START, states.SIZE)
        took.append(time.perf_counter() - start)
        for servo in bad:
            failures[servo] += 1
    for name, servo in zip(seen.names, seen.ids, strict=True):
        if count := failures[servo]:
            words = (
                f"{name} (id {servo}): {count} of {len(took)} answers lost or corrupt"
            )
            worst = count > _MOST_FAILURES * len(took)
            yield Finding("fault" if worst else "advice", "bus", words, _NOISE)
    p50, p99 = (1e3 * float(x) for x in np.percentile(took, (50, 99)))
    words = f"a reading takes {p50:.1f} ms in the median, {p99:.1f} ms p99"
    if p99 > 500 * arm.PERIOD_S:
        words += f", of a period of {1e3 * arm.PERIOD_S:g} ms"
        cure = "set the adapter's latency timer to 1 ms, and the return delays to 0"
        late = p99 > 1e3 * arm.PERIOD_S
        yield Finding("fault" if late else "advice", "round trip", words, cure)
    else:
        yield Finding("ok", "round trip", words, "")


def _why_closed(port: str) -> str:
    if not os.path.exists(port):
        return "plug the adapter in, or name another port with --port"
    if not os.access(port, os.R_OK | os.W_OK):
        return "sudo usermod -aG dialout $USER, then log in again"
    return f"end the program that has it: fuser -v {port}"


def _list(ids: list[int]) -> str:
    return ", ".join(map(str, ids))
