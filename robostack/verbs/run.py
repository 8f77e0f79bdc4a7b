"""`robostack run`: a bundle drives a node."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec
import numpy as np
from tyro.conf import Positional

from robostack.data.label import task_of
from robostack.link import endpoints
from robostack.link.client import Client
from robostack.link.errors import LinkError
from robostack.link.keys import load_client
from robostack.messages import Welcome
from robostack.robot import Task

from .connection import connected, ended_by, operator, recording
from .outcomes import line_of, summarize, timing_table, write_timing
from .verb import Verb, console, print_json

if TYPE_CHECKING:
    from robostack.runtime.author import Author
    from robostack.runtime.loop import Outcome
    from robostack.runtime.permute import Permutation
    from robostack.runtime.session import Session

STEPS = 1000  # of an episode without a task


class Run(msgspec.Struct, frozen=True):
    """Run a bundle against a node.

    The bundle tests itself on its golden vectors and warms up before anything moves; a
    robot it was not made for refuses it and shows what differs. Elements in another
    order are matched by name. What the policy cannot answer in time is not answered,
    and the node holds: that ends the episode.
    """

    bundle: Positional[Path]  # .onnx file
    robot: str = endpoints.DEFAULT  # endpoint of the node
    episodes: int = 1
    steps: int = 0  # of an episode at most; 0: the task's horizon, or 1000
    task: str = ""  # of the node's world: judges the episodes, and ends them
    seed: int | None = None  # worlds only: of the first episode, then one more each
    sample: bool = False  # sample actions; else their mean
    execute: int = 0  # actions of a chunk to use at most; 0: all of them
    deadline: float = 0.0  # [s] of an inference; 0: as long as its actions are due
    intervene: str = ""  # who may take over: keyboard, gamepad or leader:hardware:ROBOT
    record: Path | None = None  # folder for one MCAP file an episode
    provider: Literal["auto", "cpu", "cuda"] = "auto"  # auto: the faster, measured
    keys: Path | None = None  # folder of this client's CURVE keys
    wait: float = 0.0  # seconds to wait for the node to come up
    timing: Path | None = None  # file for the times of every cycle, as JSON
    json: bool = False  # the outcome as JSON


def run(flags: Run) -> int:
    """Run a bundle for some episodes; 0 only if the node ended none by itself."""
    from robostack import bundle
    from robostack.runtime.permute import greet
    from robostack.runtime.session import Session

    policy = bundle.read(flags.bundle)
    session = Session(policy, flags.provider)
    test = session.self_test
    say = _say(flags)
    say(
        f"{flags.bundle}: self-test passed on {test.provider} in "
        f"{test.seconds * 1e3:.0f} ms, {test.inference_s * 1e6:.0f} µs an inference"
    )
    keys = load_client(flags.keys) if flags.keys else None
    with (
        connected(flags.robot, keys, flags.wait) as client,
        recording(flags.robot, flags.record, flags.keys) as stopped,
    ):
        welcome, permutation = greet(client, policy)
        for sentence in permutation.sentences if permutation else ():
            say(f"adapted to the node's order: {sentence}")
        labels = {
            "task": flags.task,
            "policy": policy.sha256,
            "behaviour": policy.manifest.provenance.algorithm,
        }
        with _author(flags, session, welcome, permutation) as (author, over):
            stops = Stops(stopped, over)
            outcomes = list(_episodes(flags, client, welcome, author, stops, labels))
    if flags.timing:
        write_timing(flags.timing, outcomes)
    if flags.json:
        print_json(summarize(outcomes))
    else:
        console.print(timing_table(outcomes))
    return 1 if any(o.held for o in outcomes) else 0


class Stops(NamedTuple):
    """Why to stop: the whole run, or one episode; each tells why, or ""."""

    run: Callable[[], str]
    episode: Callable[[], str]

    def either(self) -> str:
        """Return why the episode has to end."""
        return self.run() or self.episode()


def _say(flags: Run) -> Callable[[str], None]:
    if flags.json:
        return lambda sentence: None
    return lambda sentence: console.print(sentence, highlight=False)


@contextlib.contextmanager
def _author(
    flags: Run, session: Session, welcome: Welcome, permutation: Permutation | None
) -> Iterator[tuple[Author, Callable[[], str]]]:
    """Give who answers readings, and why an episode is to end."""
    from robostack.runtime.policy import planner

    rng = np.random.default_rng(flags.seed or 0) if flags.sample else None
    with contextlib.ExitStack() as stack:
        policy = stack.enter_context(
            planner(
                session,
                welcome,
                permutation,
                rng=rng,
                execute=flags.execute,
                deadline_s=flags.deadline,
            )
        )
        if not flags.intervene:
            yield policy, lambda: ""
            return
        from robostack.runtime.operator import Shared

        person = stack.enter_context(operator(flags.intervene, welcome.robot))
        say = _say(flags)
        say(person.help)
        yield Shared(policy, person, welcome.robot, say), lambda: ended_by(person)


def _episodes(
    flags: Run,
    client: Client,
    welcome: Welcome,
    author: Author,
    stops: Stops,
    labels: dict[str, str],
) -> Iterator[Outcome]:
    from robostack.runtime.loop import Job, attempt

    task = task_or_none(welcome.address, flags.task)
    for i in range(flags.episodes):
        job = Job(
            max_steps=flags.steps or (task.horizon if task else STEPS),
            task=task,
            seed=None if flags.seed is None else flags.seed + i,
            labels=labels,
        )
        outcome = attempt(client, welcome, author, job, stops.either)
        _say(flags)(line_of(i, outcome))
        yield outcome
        if why := stops.run():
            raise LinkError(f"stopped after {i + 1} episodes: {why}")


def task_or_none(address: str, name: str) -> Task | None:
    """Return the task `name` of the world at `address`; None without a name."""
    return task_of(address, name) if name else None


VERBS = {"run": Verb(Run, run)}
