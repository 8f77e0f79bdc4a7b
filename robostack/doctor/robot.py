"""Whether a robot is fit to be served: its own examination, then its driver's contract.

    quick      examine, connect, limits, sensors, rate: what `serve` insists on
    thorough   the rate for longer and beside a busy process, frames; `move`: home

Torque is enabled by `move` only.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator

import numpy as np

from robostack import plugins
from robostack.clock import MonotonicClock, Ticker
from robostack.doctor.timing import hog
from robostack.doctor.verdict import UnfitError, Verdict, attempt, judge, sentence
from robostack.limits import Limits
from robostack.node import arming
from robostack.node.device import limits_of, make
from robostack.robot import Finding, Robot
from robostack.spec import float32

_QUICK_S = 0.5  # of readings
_LONG_S = 2.0
_MOST = 100  # readings
_HOLD_S = 0.5  # that a robot is watched at home
_CURE_SLOW = "use a faster bus or computer, end other programs, or lengthen the period"


def insist(address: str) -> Verdict:
    """Return the quick verdict on the robot at `address`.

    Raises:
        UnfitError: it must not be served; the ordered list says why.
    """
    verdict = examine(address, quick=True)
    if not verdict.passed:
        listed = [
            f"{i}. {sentence(finding)}"
            for i, finding in enumerate(verdict.of("fault"), 1)
        ]
        told = "\n".join(
            [f"{address} is not served, for it is not fit to be:", *listed]
        )
        raise UnfitError(f"{told}\nrobostack doctor {address} tells more")
    return verdict


def examine(address: str, *, quick: bool = False, move: bool = False) -> Verdict:
    """Return the verdict on the robot at `address`."""
    kind, name, argument = plugins.parse(address)
    found: list[Finding] = []
    own = None
    try:
        own = getattr(plugins.load(kind, name), "examine", None)
    except plugins.PluginError as error:
        found.append(Finding("fault", "driver", str(error), ""))
    if own is not None:
        found += attempt("examination", lambda: own(argument))
    if judge(found).passed:  # else the driver would say the same once more
        found += attempt("driver", lambda: _contract(address, quick=quick, move=move))
    return judge(found)


def _contract(address: str, *, quick: bool, move: bool) -> Iterator[Finding]:
    """Yield what the driver shows; it is closed again whatever happens."""
    with contextlib.closing(make(address)) as robot:
        robot.connect()
        yield Finding("ok", "driver", f"{robot.spec.name} answers", "")
        if hasattr(robot, "seed"):  # a world senses nothing before its reset
            robot.reset()
        limits = limits_of(robot, address)
        found = attempt("sensors", lambda: _sensors(robot, limits, quick=quick))
        yield from found
        yield from attempt("home", lambda: _home(robot))
        if not judge(found).passed or quick:
            return
        yield from attempt("cameras", lambda: _frames(robot))
        if move:
            yield from attempt("motion", lambda: _motion(robot, limits))


def _sensors(robot: Robot, limits: Limits, *, quick: bool) -> Iterator[Finding]:
    try:
        arming.rehearse(robot, limits)
    except arming.ArmingError as error:
        yield Finding("fault", "sensors", str(error), "")
        return
    yield _rate(robot, _QUICK_S if quick else _LONG_S, "idle")
    if not quick:
        with hog():
            yield _rate(robot, _LONG_S, "beside a busy process")


def _rate(robot: Robot, seconds: float, when: str) -> Finding:
    """Read in a loop of the robot's period; say how long that takes."""
    period_s = robot.spec.control_period_s
    count = max(arming.READINGS, min(_MOST, int(seconds / period_s)))
    ticker, took = Ticker(MonotonicClock(), period_s), list[float]()
    for _ in range(count):
        ticker.wait()
        took += arming.sense(robot, 1)
    p99_s = arming.p99(took)
    words = (
        f"{count} readings {when}: {1e3 * sorted(took)[count // 2]:.2f} ms in the "
        f"median, {1e3 * p99_s:.2f} ms p99, of a period of {1e3 * period_s:g} ms; "
        f"{ticker.overruns} periods missed"
    )
    if p99_s > period_s and when == "idle":
        return Finding("fault", "rate", words, _CURE_SLOW)
    level = "advice" if p99_s > period_s / 2 or ticker.overruns > count // 20 else "ok"
    return Finding(
        "advice" if level == "advice" else "ok",
        "rate",
        words,
        _CURE_SLOW if level == "advice" else "",
    )


def _home(robot: Robot) -> Iterator[Finding]:
    """Yield how far home is, by the array that actions are targets of."""
    spec = robot.spec
    if not spec.tracks:
        yield Finding(
            "ok", "home", "actions are no targets: home is a place to rest", ""
        )
        return
    away = np.abs(robot.read()[spec.tracks] - float32(spec.home))
    farthest = int(away.argmax())
    steps = float((away / float32(spec.max_action_step)).max())
    yield Finding(
        "ok",
        "home",
        f"{spec.action.names[farthest]} is {away[farthest]:.2f} "
        f"{spec.action.units[farthest]} from home; at the largest step it takes "
        f"{steps * spec.control_period_s:.1f} s",
        "",
    )


def _frames(robot: Robot) -> Iterator[Finding]:
    frames = robot.frames() if robot.spec.cameras else {}
    for name, camera in robot.spec.cameras.items():
        shape = camera.height, camera.width, 3
        got = frames[name].shape if name in frames else "no frame"
        if got != shape:
            yield Finding(
                "fault", "cameras", f"expected {name} as {shape}, got {got}", ""
            )
        elif not frames[name].any():
            yield Finding("advice", "cameras", f"{name} is black", "take its cap off")
        else:
            yield Finding("ok", "cameras", f"{name} sees {shape}", "")


def _motion(robot: Robot, limits: Limits) -> Iterator[Finding]:
    """Go home, and stay there."""
    start = time.monotonic()
    robot.reset()
    took_s = time.monotonic() - start
    tracks, home = robot.spec.tracks, float32(robot.spec.home)
    robot.apply(home)
    MonotonicClock().sleep_until(time.monotonic() + _HOLD_S)
    if tracks:
        away = np.abs(robot.read()[tracks] - home) > float32(limits.first)
        if changed := list(itertools.compress(limits.names, away)):
            yield Finding(
                "fault",
                "motion",
                f"not at home after reset: {', '.join(changed)}",
                "look for what blocks it, and calibrate again",
            )
            return
    yield Finding("ok", "motion", f"home in {took_s:.1f} s, and stays there", "")
