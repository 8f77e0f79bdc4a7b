"""`robostack demo` and `robostack list`: look around."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec
from tyro.conf import Positional

from robostack import plugins

from .verb import Verb, console, print_json

_KINDS = {"robots": "hardware", "worlds": "sim", "algorithms": "policies"}


class Demo(msgspec.Struct, frozen=True):
    """Run the whole circle on an embedded twin: minutes, no display, GPU or network.

    Collects logs with an imperfect operator, learns from them, exports, serves the twin
    in a process of its own, drives it, records, and writes report.html.
    """

    directory: Path = Path("robostack-demo")  # everything goes here; new or empty
    task: Literal["push_left", "push_right"] = "push_left"
    episodes: int = 400  # logs to collect
    updates: int = 8_000  # gradient steps of IQL
    trials: int = 50  # episodes that judge the policy, over ZMQ
    seed: int = 0


class List(msgspec.Struct, frozen=True):
    """List what is installed, ours and other packages'."""

    what: Positional[Literal["robots", "worlds", "algorithms"]]
    json: bool = False  # as JSON


def demo(flags: Demo) -> int:
    """Run the demo."""
    from robostack.demo.circle import Plan, run

    plan = Plan(
        flags.directory,
        flags.task,
        flags.episodes,
        flags.updates,
        flags.trials,
        flags.seed,
    )
    return run(plan, console)


def list_names(flags: List) -> int:
    """Print names with the first line of each plug-in's description."""
    kind = _KINDS[flags.what]
    found = {}
    for name in plugins.names(kind):
        try:
            text = (plugins.load(kind, name).__doc__ or "").strip().splitlines()[0]
        except plugins.PluginError as error:
            text = str(error)
        found[name] = text
    if flags.json:
        print_json(found)
        return 0
    for name, text in found.items():
        console.print(f"[bold]{name}[/bold]  {text}", highlight=False)
    return 0


VERBS = {"demo": Verb(Demo, demo), "list": Verb(List, list_names)}
