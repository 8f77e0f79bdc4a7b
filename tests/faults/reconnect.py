"""Connect to one node again and again; its descriptors, memory and threads stay flat.

python tests/faults/reconnect.py --times 10000
python tests/faults/reconnect.py --times 10000 --curve

In turn a client that says hello, and goodbye; one that opens an episode, and vanishes;
and a request to be told about the robot by the watch socket. Exit code 0 if flat.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import zmq
from vitals import Served, Vitals, look, serving

from robostack.link import endpoints, keys, sockets
from robostack.link.client import Client
from robostack.link.errors import RefusedError
from robostack.link.keys import ClientKeys

MOST_RSS_MB = 8.0  # more at the end than after the first tenth
MOST_DESCRIPTORS = 3


def reconnect(node: Served, times: int) -> list[Vitals]:
    """Connect `times` times; return what the node used, ten times on the way."""
    mine = keys.load_client(node.friend) if node.friend else None
    seen = []
    for i in range(times):
        [_polite, _rude, _watching][i % 3](node.endpoint, mine)
        if (i + 1) % max(times // 10, 1) == 0:
            seen.append(look(node.pid))
    return seen


def growth(seen: list[Vitals]) -> Vitals:
    """Return how much more the node used at the end than after the first tenth."""
    return Vitals(*(b - a for a, b in zip(seen[0], seen[-1], strict=True)))


def _polite(endpoint: str, mine: ClientKeys | None) -> None:
    with Client(endpoint, keys=mine) as client, contextlib.suppress(RefusedError):
        client.hello()


def _rude(endpoint: str, mine: ClientKeys | None) -> None:
    with Client(endpoint, keys=mine) as client:
        with contextlib.suppress(RefusedError):  # the last one may still have it
            client.hello()
            client.begin()
        client.session = ""  # and no word of goodbye


def _watching(endpoint: str, mine: ClientKeys | None) -> None:
    with _subscribed(endpoints.parse(endpoint).watch, mine) as socket:
        socket.poll(5)


@contextlib.contextmanager
def _subscribed(address: str, mine: ClientKeys | None) -> Iterator[sockets.Socket]:
    context: sockets.Context = zmq.Context()
    try:
        socket = sockets.make(context, zmq.SUB)
        socket.subscribe(b"")
        sockets.connect(socket, address, mine)
        yield socket
    finally:
        context.destroy(linger=0)


def main() -> int:
    """Reconnect; return 0 if nothing grew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=1000)
    parser.add_argument("--curve", action="store_true", help="a node with keys")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:  # noqa: SIM117
        with serving(Path(folder), curve=given.curve) as node:
            seen = reconnect(node, given.times)
    for tenth, now in enumerate(seen, 1):
        print(
            f"after {tenth * given.times // 10} connections: {now.descriptors} "
            f"descriptors, {now.threads} threads, {now.rss_mb:.1f} MB",
            flush=True,
        )
    more = growth(seen)
    flat = more.descriptors <= MOST_DESCRIPTORS and more.rss_mb <= MOST_RSS_MB
    print("flat" if flat else f"NOT FLAT: {more}")
    return 0 if flat else 1


if __name__ == "__main__":
    sys.exit(main())
