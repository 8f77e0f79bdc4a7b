"""From findings to an ordered list and a verdict.

A check is a function that yields findings. One that raises has found a fault, too: the
doctor never dies of what it looks at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from robostack.robot import Finding

_ORDER = {"fault": 0, "advice": 1, "ok": 2}


class UnfitError(RuntimeError):
    """A robot that must not be served as it is."""


class Verdict(msgspec.Struct, frozen=True):
    """What was found, worst first."""

    passed: bool  # no fault
    findings: tuple[Finding, ...]

    def of(self, level: str) -> list[Finding]:
        """Return the findings of one level."""
        return [finding for finding in self.findings if finding.level == level]


def judge(findings: Iterable[Finding]) -> Verdict:
    """Return the verdict; findings of one level stay in the order they came in."""
    ordered = tuple(sorted(findings, key=lambda finding: _ORDER[finding.level]))
    return Verdict(all(finding.level != "fault" for finding in ordered), ordered)


def attempt(about: str, check: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """Return what `check` finds; whatever it raises is a fault about `about`."""
    try:
        return list(check())
    except Exception as error:  # of a driver or a package: any kind is possible
        words = str(error) or "no message"
        return [Finding("fault", about, f"{type(error).__name__}: {words}", "")]


def sentence(finding: Finding) -> str:
    """Return a finding as one line of text."""
    cure = f" -> {finding.cure}" if finding.cure else ""
    return f"{finding.about}: {finding.found}{cure}"
