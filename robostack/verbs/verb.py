"""What a command is made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
from rich.console import Console

console = Console()


class Verb(NamedTuple):
    """A command: its flags, and what it does with them."""

    flags: type[msgspec.Struct]
    run: Callable[[Any], int]


class VerbError(ValueError):
    """Flags that do not go together."""


def print_json(value: object) -> None:
    """Print `value` as JSON that a program can read."""
    print(msgspec.json.encode(value).decode())  # noqa: T201 (this is the command line)
