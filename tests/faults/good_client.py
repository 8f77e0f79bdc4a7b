"""Drive a node until SIGINT, then print counts: good_client.py ENDPOINT [KEYS]."""

from __future__ import annotations

import contextlib
import json
import math
import signal
import sys
from pathlib import Path

import numpy as np

from robostack.link.client import Client
from robostack.link.errors import LeftError, LinkError
from robostack.link.keys import load_client


def main(endpoint: str, *folder: str) -> None:
    """Follow a slow sine; after a HOLD, begin again."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's & ignores it
    keys = load_client(Path(folder[0])) if folder else None
    counts = {"steps": 0, "holds": 0, "lost": 0, "longest_hold_free": 0}
    with (
        contextlib.suppress(KeyboardInterrupt),
        Client(endpoint, name="good", timeout_s=2.0, keys=keys) as client,
    ):
        client.hello()
        client.begin()
        print("driving", flush=True)
        while True:
            try:
                _drive(client, counts)
            except LeftError:
                counts["holds"] += 1
                client.begin()
            except LinkError:
                counts["lost"] += 1
                client.hello()
                client.begin()
    print(json.dumps(counts))


def _drive(client: Client, counts: dict[str, int]) -> None:
    for i in range(10**9):
        client.step(np.full(2, 0.3 * math.sin(0.02 * i), np.float32))
        counts["steps"] += 1
        counts["longest_hold_free"] = max(counts["longest_hold_free"], i + 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
