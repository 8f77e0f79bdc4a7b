"""The command line: find the verb, parse its flags, run it, and put errors in words.

A verb is a frozen struct whose fields are the flags (the comment behind each is its
help) and a function from it to an exit code. Errors that robostack raises are one
sentence and exit code 1; anything else is a bug, and shows its traceback.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from typing import Any

import tyro
from rich.console import Console
from rich.logging import RichHandler

from robostack import __version__
from robostack.sentence import sentence
from robostack.verbs import (
    bundles,
    calibrate,
    data,
    doctor,
    keys,
    learn,
    record,
    robots,
    run,
    show,
    train,
    watch,
)
from robostack.verbs.verb import Verb

_ABOUT = (
    "A robot policy the whole way: logs, one ONNX file, a robot, practice, the gap."
)
_GROUPS: dict[str, tuple[str, dict[str, Verb]]] = {
    "data": ("Import, inspect, label and repair datasets.", data.VERBS),
    "bundle": (
        "Show, verify and sign bundles, or make one of a foreign policy.",
        bundles.VERBS,
    ),
    "keys": ("Make keys, and say which clients a node lets in.", keys.VERBS),
}
_VERBS: dict[str, Verb] = {
    **show.VERBS,
    **doctor.VERBS,
    **calibrate.VERBS,
    **train.VERBS,
    **learn.VERBS,
    **robots.VERBS,
    **run.VERBS,
    **record.VERBS,
    **watch.VERBS,
}
_STDERR = Console(stderr=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code, 0 only when it worked."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    handler = RichHandler(console=_STDERR, show_path=False, show_time=False)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler])
    if words[:1] == ["--version"]:
        print(__version__)
        return 0
    if not words or words[0] in ("-h", "--help"):
        _print_overview()
        return 0 if words else 2
    try:
        return _run(words)
    except KeyboardInterrupt:
        _STDERR.print("stopped", style="yellow")
        return 130
    except BrokenPipeError:
        return 1
    except Exception as error:
        told = sentence(error)
        if not told:
            raise
        _STDERR.print(f"[red]error:[/red] {_escape(told)}", highlight=False)
        return 1


def _run(words: list[str]) -> int:
    if words[0] in _GROUPS:
        about, verbs = _GROUPS[words[0]]
        program, rest = f"robostack {words[0]}", words[1:] or ["--help"]
    else:
        about, verbs, program, rest = _ABOUT, _VERBS, "robostack", words
    flags: dict[str, Callable[..., Any]] = {k: v.flags for k, v in verbs.items()}
    chosen = tyro.extras.subcommand_cli_from_dict(
        flags, prog=program, description=about, args=rest
    )
    verb = next(verb for verb in verbs.values() if type(chosen) is verb.flags)
    return verb.run(chosen)


def _print_overview() -> None:
    console = Console()
    console.print(f"[bold]robostack[/bold] {__version__}: {_ABOUT}\n", highlight=False)
    rows = {name: _first_line(verb) for name, verb in _VERBS.items()}
    for group, (_, verbs) in _GROUPS.items():
        rows |= {f"{group} {name}": _first_line(verb) for name, verb in verbs.items()}
    width = max(map(len, rows)) + 2
    for name, line in rows.items():
        console.print(f"  [cyan]{name:<{width}}[/cyan]{line}", highlight=False)
    console.print(
        "\nrobostack COMMAND --help tells the flags of each.", highlight=False
    )


def _first_line(verb: Verb) -> str:
    return (verb.flags.__doc__ or "").strip().splitlines()[0]


def _escape(text: str) -> str:
    return text.replace("[", r"\[")


if __name__ == "__main__":
    sys.exit(main())
