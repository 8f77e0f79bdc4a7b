"""`robostack watch`: what a node does, live."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text
from tyro.conf import Positional

from robostack.link import endpoints
from robostack.link.errors import LinkError
from robostack.link.keys import load_client
from robostack.link.stop import request_stop

from .verb import Verb, VerbError, console, print_json

if TYPE_CHECKING:
    from robostack.node.keyboard import Keys
    from robostack.node.listener import Listener
    from robostack.node.picture import Picture, Snapshot

_BACKLOG_BYTES = 16 * 1024 * 1024  # of messages that wait to be looked at
_REFRESH_HZ = 10
_COLORS = {"active": "green", "hold": "cyan", "safe": "yellow"}  # others: red


class Watch(msgspec.Struct, frozen=True):
    """Watch a node live; any number may, and none of them can hold it up.

    Keys: s stops the robot and latches it, q ends the watching.
    """

    robot: Positional[str] = endpoints.DEFAULT  # endpoint of the node
    keys: Path | None = None  # folder of this client's CURVE keys
    once: bool = False  # look for --seconds, print, and end
    json: bool = False  # with --once: as JSON
    seconds: float = 1.0  # with --once: how long to look


def watch(flags: Watch) -> int:
    """Watch until told to end."""
    if flags.json and not flags.once:
        raise VerbError("expected --once with --json: one look is one document")
    with _listening(flags) as listener:
        if flags.once:
            snapshot = _look(flags, listener)
            if flags.json:
                print_json(snapshot)
            else:
                console.print(render(snapshot, 0))
            return 0
        _follow(flags, listener)
    return 0


def render(snapshot: Snapshot, dropped: int) -> RenderableType:
    """Return a snapshot as a page of text."""
    return Group(_head(snapshot), _table(snapshot, dropped), _log(snapshot))


@contextlib.contextmanager
def _listening(flags: Watch) -> Iterator[Listener]:
    import zmq

    from robostack.node.listener import Listener

    context = zmq.Context()
    try:
        listener = Listener(context, flags.robot, flags.keys, backlog=_BACKLOG_BYTES)
        with contextlib.closing(listener):
            yield listener
    finally:
        context.destroy(linger=0)


def _look(flags: Watch, listener: Listener) -> Snapshot:
    """Return what is heard within the time to look.

    Raises:
        LinkError: nothing was heard.
    """
    from robostack.node.picture import Picture

    picture, deadline = Picture(), time.monotonic() + flags.seconds
    while (left_s := deadline - time.monotonic()) > 0:
        message = listener.receive(left_s)
        if message is not None:
            picture.take(message)
    snapshot = picture.snapshot()
    if not snapshot.state:
        raise LinkError(
            f"nothing was heard of a node at {flags.robot} in {flags.seconds:g} s: is "
            f"it up, and are the keys right?"
        )
    return snapshot


def _follow(flags: Watch, listener: Listener) -> None:
    from robostack.node.keyboard import keyboard, stdin
    from robostack.node.picture import Picture

    picture = Picture()
    with (
        keyboard(stdin()) as keys,
        Live(console=console, refresh_per_second=_REFRESH_HZ, screen=True) as live,
    ):
        while True:
            _hear(listener, picture)
            live.update(_page(flags, listener, picture))
            if keys is not None and not _obey(flags, keys):
                return


def _hear(listener: Listener, picture: Picture) -> None:
    """Take what comes within one refresh."""
    deadline = time.monotonic() + 1 / _REFRESH_HZ
    while (left_s := deadline - time.monotonic()) > 0:
        message = listener.receive(left_s)
        if message is not None:
            picture.take(message)


def _page(flags: Watch, listener: Listener, picture: Picture) -> RenderableType:
    page = render(picture.snapshot(), listener.dropped)
    gone_s = listener.gone_s()
    where = Text(f"{flags.robot}   s stop   q quit", "dim")
    if gone_s:
        where = Text(f"{flags.robot}: no node for {gone_s:.0f} s", "red")
    return Group(where, page)


def _obey(flags: Watch, keys: Keys) -> bool:
    """Act on the keys that were pressed; return whether to go on."""
    pressed = keys(0.0)
    if "s" in pressed or " " in pressed:
        client = load_client(flags.keys) if flags.keys else None
        request_stop(flags.robot, who="robostack watch", keys=client)
    return "q" not in pressed


def _head(snapshot: Snapshot) -> Text:
    state = snapshot.state or "not heard yet"
    text = Text(state.upper(), f"bold {_COLORS.get(snapshot.state, 'red')}")
    return text.append(f"  {snapshot.cause}", "default")


def _table(snapshot: Snapshot, dropped: int) -> Table:
    table = Table.grid(padding=(0, 2))
    rows = {
        "episode": f"generation {snapshot.generation}, step {snapshot.seq}, "
        f"{snapshot.client or 'client unknown'} at {snapshot.address or '?'}",
        "rate": f"{snapshot.rate_hz:.1f} Hz, period p50 "
        f"{1e3 * snapshot.period_p50_s:.2f} ms, p99 {1e3 * snapshot.period_p99_s:.2f} "
        f"ms, {snapshot.overruns} overruns",
        "requested": _numbers(snapshot.requested),
        "applied": _numbers(snapshot.applied),
        "clamps": f"{snapshot.clamps}  {' '.join(snapshot.clamped)}",
        "refused": "  ".join(f"{k} {n}" for k, n in snapshot.refused.items()) or "none",
        "missed here": f"{snapshot.missed} steps on the way, {dropped} messages",
    }
    rows |= {name: _numbers(values) for name, values in snapshot.arrays.items()}
    rows |= {f"age {k}": f"{1e3 * s:.1f} ms" for k, s in snapshot.ages_s.items()}
    rows |= {f"camera {k}": f"{hz:.1f} Hz" for k, hz in snapshot.cameras_hz.items()}
    for name, text in rows.items():
        table.add_row(Text(name, "dim"), Text(text))
    return table


def _log(snapshot: Snapshot) -> Text:
    return Text("\n".join(snapshot.events), "dim")


def _numbers(values: list[float]) -> str:
    return " ".join(f"{value:+.3f}" for value in values)


VERBS = {"watch": Verb(Watch, watch)}
