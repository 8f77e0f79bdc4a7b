"""What commands that talk to a node share: client, recorder, and who has the robot."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from robostack.link.client import Client
from robostack.link.errors import LinkError, RefusedError
from robostack.link.keys import ClientKeys
from robostack.spec import RobotSpec
from robostack.teleop import teleoperator
from robostack.teleop.teleoperator import Teleoperator

from .verb import console

_RETRY_S = 0.2
_RECORDER_S = 10.0  # to start, and to hear the node


@contextlib.contextmanager
def connected(
    endpoint: str,
    keys: ClientKeys | None,
    wait_s: float = 0.0,
    *,
    name: str = "robostack run",
) -> Iterator[Client]:
    """Give a client to whom the node at `endpoint` answers, waiting for it to come up.

    Raises:
        LinkError: it did not come up in time.
    """
    deadline = time.monotonic() + wait_s
    while True:
        client = Client(endpoint, name=name, timeout_s=2.0, keys=keys)
        try:
            client.hello()
            break
        except RefusedError as error:
            if error.refusal.code == "signature":
                break  # it is there, and wants to know what we run
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


@contextlib.contextmanager
def operator(what: str, robot: RobotSpec) -> Iterator[Teleoperator]:
    """Give the teleoperator called `what`, connected.

    Raises:
        TeleopError: it is not there, or cannot move `robot`.
    """
    person = teleoperator.make(what, robot)
    with contextlib.closing(person):
        person.connect()
        yield person


def ended_by(person: Teleoperator) -> str:
    """Return why an episode is to end, if its operator wants it to."""
    return "the operator ended it" if person.finished else ""
