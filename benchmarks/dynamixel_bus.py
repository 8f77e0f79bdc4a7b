"""One cycle of the Dynamixel driver against the bare pseudo-terminal.

    python benchmarks/dynamixel_bus.py

Both sides talk to the same emulated six-servo bus. The driver reads all servos and
writes all goals (SYNC READ, SYNC WRITE), once through `read` and `apply`, once with
the same bytes through os.write and os.read. Pairs in turn; the median of the ratios.
"""

from __future__ import annotations

import contextlib
import os
import select
import statistics
import time

from robostack.hardware.dynamixel import protocol as p
from robostack.hardware.dynamixel import registers as r
from robostack.hardware.dynamixel.chain import (
    BLOCK_SIZE,
    BLOCK_START,
    NOMINAL,
    load,
)
from robostack.hardware.dynamixel.driver import Dynamixel
from robostack.hardware.dynamixel.emulator import emulate
from robostack.spec import float32

PAIRS, CYCLES = 40, 25


def main() -> None:
    """Print the medians and their ratio."""
    chain = load(NOMINAL)
    with emulate(chain) as bus:
        arm = Dynamixel(lambda: contextlib.nullcontext(bus.path), chain)
        arm.connect()
        arm.reset()
        home = float32(arm.spec.home)
        fd = os.open(bus.path, os.O_RDWR | os.O_NOCTTY)
        ids = bytes(chain.ids)
        head = BLOCK_START.to_bytes(2, "little") + BLOCK_SIZE.to_bytes(2, "little")
        ask = p.pack(p.BROADCAST, bytes((p.SYNC_READ,)) + head + ids)
        arm.apply(home)
        arm.read()
        goals = bus.written[-1]
        tell = p.pack(goals.servo, bytes((goals.instruction,)) + goals.parameters)
        answer = len(ids) * (11 + BLOCK_SIZE)
        pairs = []
        for _ in range(PAIRS):
            ours = timed(lambda: (arm.read(), arm.apply(home)))
            bare = timed(lambda: exchange(fd, ask, tell, answer))
            pairs.append((ours, bare))
        os.close(fd)
        arm.close()
    ours, bare = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    print(f"driver {ours * 1e3:.2f} ms, bare {bare * 1e3:.2f} ms, ratio {ratio:.2f}")
    wire_s = chain.wire_s
    print(f"on the wire at {chain.baud} baud: {wire_s * 1e3:.2f} ms (not emulated)")
    print(f"one goal: {r.GOAL_POSITION.size} bytes, one state: {BLOCK_SIZE} bytes")


def timed(cycle) -> float:  # noqa: ANN001
    """Return the median time [s] of a cycle."""
    times = []
    for _ in range(CYCLES):
        begin = time.perf_counter()
        cycle()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def exchange(fd: int, ask: bytes, tell: bytes, size: int) -> None:
    """Send two packets; wait for as many bytes as the first is answered with."""
    os.write(fd, ask)
    while size > 0:
        select.select([fd], [], [])
        size -= len(os.read(fd, 4096))
    os.write(fd, tell)


if __name__ == "__main__":
    main()
