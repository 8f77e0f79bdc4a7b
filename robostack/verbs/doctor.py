"""`robostack doctor`: what is wrong with this computer or robot, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
from tyro.conf import Positional

from robostack import plugins
from robostack.doctor.verdict import Verdict, attempt, judge
from robostack.robot import Finding

from .verb import Verb, VerbError, console, print_json

_COLOURS = {"fault": "red", "advice": "yellow", "ok": "green"}


class Doctor(msgspec.Struct, frozen=True):
    """Say what is wrong with this computer, or a robot, and what to do; worst first.

    Exit code 0 only if there is no fault. A robot is not moved, and gets no torque,
    unless --move is given.
    """

    robot: Positional[str] = ""  # hardware:ROBOT or sim:WORLD; none: this computer
    port: str = ""  # of the robot, such as /dev/ttyACM0 or emulated
    move: bool = False  # enable torque, and go home: keep clear of the robot
    recordings: Path = Path()  # folder where recordings will go
    json: bool = False  # the findings as JSON


def doctor(flags: Doctor) -> int:
    """Examine; return 0 on a pass."""
    if flags.robot:
        from robostack.doctor.robot import examine

        address = plugins.with_port(flags.robot, flags.port)
        verdict = examine(address, move=flags.move)
    elif flags.port or flags.move:
        raise VerbError("expected a robot beside --port and --move")
    else:
        verdict = judge(_computer(flags.recordings))
    if flags.json:
        print_json(verdict)
    else:
        show(verdict)
    return 0 if verdict.passed else 1


def show(verdict: Verdict) -> None:
    """Print findings, numbered, and the verdict."""
    for i, finding in enumerate(verdict.findings, 1):
        show_finding(finding, f"{i:2}. ")
    counts = {level: len(verdict.of(level)) for level in _COLOURS}
    word, colour = ("PASS", "green") if verdict.passed else ("FAIL", "red")
    console.print(
        f"[{colour}]{word}[/{colour}]: {counts['fault']} faults, "
        f"{counts['advice']} advice, {counts['ok']} ok",
        highlight=False,
        soft_wrap=True,
    )


def show_finding(finding: Finding, prefix: str = "") -> None:
    """Print a finding, and under it what to do."""
    colour = _COLOURS[finding.level]
    head = (
        f"{prefix}[{colour}]{finding.level:<6}[/{colour}] [bold]{finding.about}[/bold]"
    )
    console.print(
        f"{head}: {finding.found.replace('[', chr(92) + '[')}",
        highlight=False,
        soft_wrap=True,
    )
    if finding.cure:
        cure = finding.cure.replace("[", r"\[")
        console.print(
            f"{' ' * len(prefix)}       {cure}", highlight=False, soft_wrap=True
        )


def _computer(recordings: Path) -> Iterator[Finding]:
    from robostack.doctor import inference, installation, machine, rendering, timing

    yield from attempt("installation", installation.installation)
    yield from attempt("inference", inference.inference)
    yield from attempt("rendering", rendering.rendering)
    yield from attempt("timing", timing.timing)
    yield from attempt("priority", timing.priority)
    yield from attempt("sleep", timing.sleep)
    yield from attempt("clock", machine.clock_source)
    yield from attempt("disk", lambda: machine.disk(recordings))
    yield from attempt("ports", machine.ports)


VERBS = {"doctor": Verb(Doctor, doctor)}
