"""`robostack serve`, `run` and `stop`: nodes, and what drives them."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import numpy as np
import tyro
from rich.table import Table
from tyro.conf import Positional

from robostack.data.label import task_of
from robostack.link import endpoints
from robostack.link.client import Client
from robostack.link.errors import LinkError, RefusedError
from robostack.link.keys import ClientKeys, load_client, load_node
from robostack.link.stop import request_stop
from robostack.messages import Welcome
from robostack.robot import Variant
from robostack.spec import Array

from .verb import Verb, console, print_json

if TYPE_CHECKING:
    from robostack.node.loops import Node
    from robostack.runtime.loop import Outcome
    from robostack.runtime.session import Session

_STEPS = 1000  # of an episode without a task
_RETRY_S = 0.2
_RECORDER_S = 10.0  # to start, and to hear the node


class Serve(msgspec.Struct, frozen=True):
    """Serve a robot or a world to clients, until Ctrl-C.

    Limits, watchdog and latched faults are on. Real time unless --lockstep.
    """

    robot: Positional[str]  # sim:WORLD[/ARGUMENT] or hardware:ROBOT[/ARGUMENT]
    bind: str = endpoints.DEFAULT  # where to listen; beyond this computer needs --keys
    lockstep: bool = False  # worlds only: advance when a command arrives
    keys: Path | None = None  # folder of CURVE keys
    black_box: Path | None = None  # folder for the last minute before a fault
    variant: Annotated[
        Variant, tyro.conf.arg(help="worlds only: how it differs from its nominal self")
    ] = Variant()


class Run(msgspec.Struct, frozen=True):
    """Run a bundle against a node.

    The bundle tests itself on its golden vectors and warms up before anything moves; a
    robot it was not made for refuses it and shows what differs.
    """

    bundle: Positional[Path]  # .onnx file
    robot: str = endpoints.DEFAULT  # endpoint of the node
    episodes: int = 1
    steps: int = 0  # of an episode at most; 0: the task's horizon, or 1000
    task: str = ""  # of the node's world: judges the episodes, and ends them
    seed: int | None = (
        None  # worlds only: seed of the first episode, then one more each
    )
    sample: bool = False  # sample actions; else their mean
    record: Path | None = None  # folder for one MCAP file an episode
    provider: Literal["auto", "cpu", "cuda"] = "auto"  # auto: the faster, measured
    keys: Path | None = None  # folder of this client's CURVE keys
    wait: float = 0.0  # seconds to wait for the node to come up
    json: bool = False  # the outcome as JSON


class Stop(msgspec.Struct, frozen=True):
    """Stop a robot now and latch it; needs no lease, and works while others command."""

    robot: Positional[str] = endpoints.DEFAULT  # endpoint of the node
    keys: Path | None = None  # folder of this client's CURVE keys


class Summary(msgspec.Struct, frozen=True):
    """What `run --json` prints."""

    episodes: int
    steps: list[int]
    returns: list[float] | None
    success: list[bool] | None
    period_s: dict[str, float]
    inference_s: dict[str, float]
    late: int
    clamps: int
    refused: dict[str, int]


def serve(flags: Serve) -> int:
    """Serve until told to end."""
    from robostack.node import serve as node_serve
    from robostack.node.black_box import default_folder
    from robostack.node.keyboard import stdin
    from robostack.node.terminal import HELP, terminal

    def say(sentence: str) -> None:
        console.print(sentence, markup=False, highlight=False, soft_wrap=True)

    ending = threading.Event()
    options = node_serve.Options(
        lockstep=flags.lockstep,
        keys=None if flags.keys is None else load_node(flags.keys),
        black_box=flags.black_box or default_folder(),
        say=say,
    )
    variant = None if flags.variant == Variant() else flags.variant
    robot = node_serve.make(flags.robot, variant)
    with contextlib.ExitStack() as stack:

        def ready(node: Node) -> None:
            mode = "in lockstep" if flags.lockstep else "in real time"
            where = f"serving {flags.robot} at {flags.bind}, {mode}"
            say(f"{where}; Ctrl-C ends it")
            keys = terminal(stdin(), node, ending.set, say)
            if stack.enter_context(keys):
                say(HELP)

        node_serve.serve(
            robot, flags.robot, flags.bind, options, stop_event=ending, on_ready=ready
        )
    return 0


def run(flags: Run) -> int:
    """Run a bundle for some episodes."""
    from robostack import bundle
    from robostack.runtime.session import Session

    policy = bundle.read(flags.bundle)
    session = Session(policy, flags.provider)
    test = session.self_test
    if not flags.json:
        console.print(
            f"{flags.bundle}: self-test passed on {test.provider} in "
            f"{test.seconds * 1e3:.0f} ms, {test.inference_s * 1e6:.0f} µs an inference"
        )
    keys = load_client(flags.keys) if flags.keys else None
    with (
        connected(flags.robot, keys, flags.wait) as client,
        recording(flags.robot, flags.record, flags.keys) as stopped,
    ):
        welcome = client.hello(policy.manifest.robot, policy.sha256)
        outcomes = list(_episodes(flags, client, welcome, session, stopped))
    if flags.json:
        print_json(summarize(outcomes))
    else:
        console.print(_timing(outcomes))
    return 0


def stop(flags: Stop) -> int:
    """Latch ESTOP at a node."""
    keys = load_client(flags.keys) if flags.keys else None
    stopped = request_stop(flags.robot, who="robostack stop", keys=keys)
    console.print(f"{flags.robot} is stopped: {stopped.state}, until it is restarted")
    return 0


@contextlib.contextmanager
def connected(
    endpoint: str, keys: ClientKeys | None, wait_s: float = 0.0
) -> Iterator[Client]:
    """Give a client to whom the node at `endpoint` answers, waiting for it to come up.

    Raises:
        LinkError: it did not come up in time.
    """
    deadline = time.monotonic() + wait_s
    while True:
        client = Client(endpoint, name="robostack run", timeout_s=2.0, keys=keys)
        try:
            client.hello()
            break
        except RefusedError:
            client.close()
            raise
        except LinkError:
            client.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_S)
    with client:
        yield client


@contextlib.contextmanager
def recording(
    endpoint: str, folder: Path | None, keys: Path | None
) -> Iterator[Callable[[], str]]:
    """Record what a node does into `folder`, if one is given.

    Gives a function that tells why to stop: nothing moves while nothing is recorded.
    """
    if folder is None:
        yield lambda: ""
        return
    from robostack.node.recorder_process import RecorderProcess

    folder.mkdir(parents=True, exist_ok=True)
    with RecorderProcess(endpoint, folder, keys) as recorder:
        recorder.wait_ready(_RECORDER_S)
        yield (
            lambda: "" if recorder.alive else f"the recorder died {recorder.complaint}"
        )
    for path in recorder.saved:
        console.print(f"recorded {path}")


def summarize(outcomes: list[Outcome]) -> Summary:
    """Return the outcomes of a run in numbers."""
    judged = [o for o in outcomes if o.returns is not None]
    refused: Counter[str] = Counter()
    for outcome in outcomes:
        refused.update(outcome.ended.refused)
    return Summary(
        episodes=len(outcomes),
        steps=[o.steps for o in outcomes],
        returns=[o.returns or 0.0 for o in judged] or None,
        success=[bool(o.success) for o in judged] or None,
        period_s=percentiles(np.concatenate([o.period_s for o in outcomes])),
        inference_s=percentiles(np.concatenate([o.inference_s for o in outcomes])),
        late=sum(o.late for o in outcomes),
        clamps=sum(o.ended.clamps for o in outcomes),
        refused=dict(refused),
    )


def percentiles(seconds: Array) -> dict[str, float]:
    """Return median, 99th percentile and largest of durations [s]."""
    if not len(seconds):
        return {}
    p50, p99 = np.percentile(seconds, (50, 99))
    return {"p50": float(p50), "p99": float(p99), "max": float(seconds.max())}


def _episodes(
    flags: Run,
    client: Client,
    welcome: Welcome,
    session: Session,
    stopped: Callable[[], str],
) -> Iterator[Outcome]:
    from robostack.runtime.loop import Job, run_episode

    task = task_of(welcome.address, flags.task) if flags.task else None
    rng = np.random.default_rng(flags.seed or 0) if flags.sample else None
    for i in range(flags.episodes):
        job = Job(
            max_steps=flags.steps or (task.horizon if task else _STEPS),
            task=task,
            seed=None if flags.seed is None else flags.seed + i,
            labels={
                "task": flags.task,
                "policy": session.policy.sha256,
                "behaviour": session.policy.manifest.provenance.algorithm,
            },
        )
        session.reset()
        outcome = run_episode(
            client, welcome, lambda a: session.act(a, rng), job, stopped=stopped
        )
        if not flags.json:
            console.print(_line(i, outcome))
        yield outcome
        if why := stopped():
            raise LinkError(f"stopped after {i + 1} episodes: {why}")


def _line(i: int, outcome: Outcome) -> str:
    words = [f"episode {i}: {outcome.steps} steps"]
    if outcome.returns is not None:
        words.append(f"return {outcome.returns:.4g}")
        words.append("success" if outcome.success else "no success")
    words.append("terminated" if outcome.terminated else "truncated")
    if outcome.ended.clamps:
        words.append(f"{outcome.ended.clamps} actions limited")
    if outcome.late:
        words.append(f"{outcome.late} late readings")
    words += [f"{n} refused: {cause}" for cause, n in outcome.ended.refused.items()]
    return ", ".join(words)


def _timing(outcomes: list[Outcome]) -> Table:
    table = Table("[ms]", "p50", "p99", "max")
    summary = summarize(outcomes)
    rows = {"period": summary.period_s, "inference": summary.inference_s}
    for name, values in rows.items():
        table.add_row(name, *(f"{1e3 * value:.3f}" for value in values.values()))
    return table


VERBS = {"serve": Verb(Serve, serve), "run": Verb(Run, run), "stop": Verb(Stop, stop)}
