"""What could be taken away from the node, and the tests that have to notice."""

from __future__ import annotations

from typing import NamedTuple


class Mutation(NamedTuple):
    """One piece of source replaced by another."""

    name: str
    promise: str  # of the node, P1 to P12
    file: str  # from the repository's root
    old: str  # occurs once in it
    new: str
    tests: tuple[str, ...]


MUTATIONS = (
    Mutation(
        "watchdog off",
        "P4",
        "robostack/safety.py",
        "        return now >= self.deadline\n",
        "        return False\n",
        ("tests/unit/test_node_supervisor.py", "tests/unit/test_safety.py"),
    ),
    Mutation(
        "latch off",
        "P6",
        "robostack/safety.py",
        '    "fault": frozenset({"estop"}),',
        '    "fault": frozenset({"estop", "arming", "hold"}),',
        ("tests/unit/test_node_commands.py", "tests/unit/test_safety.py"),
    ),
)
