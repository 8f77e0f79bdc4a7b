"""`robostack record`: a person moves a robot, and what happens is recorded."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
import tyro
from tyro.conf import Positional

from robostack.link import endpoints
from robostack.link.errors import LinkError
from robostack.link.keys import load_client
from robostack.teleop import teleoperator

from .connection import connected, ended_by, operator, recording
from .outcomes import line_of
from .run import STEPS, task_or_none
from .verb import Verb, VerbError, console


class Record(msgspec.Struct, frozen=True):
    """Move a robot by hand; with --record, keep one MCAP file an episode.

    Space takes over and gives back in `run --intervene`; here the robot is yours from
    the first reading on. Enter, or the start button, ends an episode; Ctrl-C ends all,
    and what was recorded is whole. A leader arm must be within 0.8 rad of the robot,
    which goes to it slowly.
    """

    robot: Positional[str] = endpoints.DEFAULT  # endpoint of the node, or its address
    with_: Annotated[
        str,
        tyro.conf.arg(
            name="with",
            help=teleoperator.KINDS,
        ),
    ] = "keyboard"
    episodes: int = 1
    steps: int = 0  # of an episode at most; 0: the task's horizon, or 1000
    task: str = ""  # of the node's world: judges the episodes, and ends them
    label: str = ""  # what is being done, in words; recorded
    seed: int | None = None  # worlds only: of the first episode, then one more each
    record: Path | None = None  # folder for the recordings; without: only move it
    keys: Path | None = None  # folder of this client's CURVE keys
    wait: float = 0.0  # seconds to wait for the node to come up


def record(flags: Record) -> int:
    """Let a person move a robot for some episodes."""
    from robostack.runtime.loop import Job, attempt
    from robostack.runtime.operator import Operated

    keys = load_client(flags.keys) if flags.keys else None
    held = 0
    with (
        _node(flags.robot) as endpoint,
        connected(endpoint, keys, flags.wait, name="robostack record") as client,
        recording(endpoint, flags.record, flags.keys) as stopped,
    ):
        welcome = client.hello()
        if welcome.lockstep:
            raise VerbError(
                "expected a node in real time, got one in lockstep: serve the world "
                "without --lockstep"
            )
        task = task_or_none(welcome.address, flags.task)
        with operator(flags.with_, welcome.robot) as person:
            console.print(person.help, highlight=False)
            author = Operated(person, welcome.robot)
            for i in range(flags.episodes):
                job = Job(
                    max_steps=flags.steps or (task.horizon if task else STEPS),
                    task=task,
                    seed=None if flags.seed is None else flags.seed + i,
                    labels={
                        "task": flags.task,
                        "instruction": flags.label,
                        "behaviour": f"operator with {flags.with_.partition(':')[0]}",
                    },
                )
                outcome = attempt(
                    client, welcome, author, job, lambda: stopped() or ended_by(person)
                )
                console.print(line_of(i, outcome), highlight=False)
                held += bool(outcome.held)
                if why := stopped():
                    raise LinkError(f"stopped after {i + 1} episodes: {why}")
    return 1 if held else 0


@contextlib.contextmanager
def _node(robot: str) -> Iterator[str]:
    """Give the endpoint of `robot`; serve it for as long, if it is an address."""
    if not robot.startswith(("sim:", "hardware:")):
        yield robot
        return
    from robostack.node.embedded import subprocess_node

    with subprocess_node(robot) as node:
        yield node.endpoint


VERBS = {"record": Verb(Record, record)}
