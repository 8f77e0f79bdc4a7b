"""What a hostile client sends: one kind of malice for a while, then another."""

from __future__ import annotations

from collections import Counter

import msgspec
import numpy as np

from robostack.link.client import arrays
from robostack.messages import Command, Reading, Tensor


class Attack:
    """Gives the commands of one period, one kind of malice for a while."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._old: list[Command] = []
        self._kind, self._left, self._seen = "polite", 0, 0
        self._goal = np.zeros(2)
        self.sent: Counter[str] = Counter()

    def begin(self) -> None:
        """Start an episode: where commands are too far they are only refused."""
        self._kind, self._left, self._seen = "polite", 3, 0

    def commands(self, reading: Reading, session: str) -> list[Command]:
        """Return what to send in answer to `reading`."""
        position = arrays(reading.arrays)["joint_position"]
        self._left, self._seen = self._left - 1, self._seen + 1
        if self._left < 0:
            self._kind = str(self._random.choice(KINDS, p=WEIGHTS))
            self._left = int(self._random.integers(1, 40))
            self._goal = self._random.uniform(-1.5, 1.5, 2)
        commands = self._malice(reading, session, position)
        self.sent[self._kind] += len(commands)
        self._old = [*self._old, *commands][-50:]
        return commands

    def _malice(self, reading, session, position) -> list[Command]:
        def command(values, **fields) -> Command:
            action = values
            if not isinstance(values, Tensor):
                action = Tensor.pack(np.asarray(values, np.float32))
            good = Command(
                session, reading.generation, reading.seq, 0.0, 9.0, False, action
            )
            return msgspec.structs.replace(good, **fields)

        def anywhere():
            return self._random.uniform(-1.6, 1.6, 2)

        k, random, kind = self._seen, self._random, self._kind
        with np.errstate(over="ignore"):
            table = {
                "polite": lambda: [command(position)],
                "random": lambda: [command(anywhere())],
                "bang-bang": lambda: [command([1.5 * (-1) ** (k // 12)] * 2)],
                "far": lambda: [command(self._goal)],
                "ramp": lambda: [command(position + 0.2 * np.sign(self._goal))],
                "sine": lambda: [command(1.4 * np.sin([0.1 * k, 0.2 * k]))],
                "tiny": lambda: [command([1e-42, -1e-42])],
                "huge": lambda: [command([1e30, -3e38])],
                "not finite": lambda: [command(random.choice(NOT_FINITE, 2))],
                "misshapen": lambda: [command(MISSHAPEN[k % len(MISSHAPEN)])],
                "replayed": lambda: [command(self._goal), *self._old[-20:]],
                "reordered": lambda: [
                    *(self._old[i] for i in random.permutation(len(self._old))),
                    command(anywhere()),
                ],
                "stale": lambda: [command(anywhere(), seq=reading.seq - 30)],
                "ttl": lambda: [command(anywhere(), ttl_s=-1.0)],
                "generation": lambda: [command(anywhere(), generation=k)],
                "unknown": lambda: [command(anywhere(), seq=reading.seq + 5)],
                "tenfold": lambda: [
                    command(anywhere(), seq=reading.seq - i) for i in range(9, -1, -1)
                ],
                "late": lambda: (
                    [command(self._goal, seq=reading.seq - 1)] if k % 2 else []
                ),
                "silent": list,
                "gaps": lambda: [command(self._goal)] if k % 4 == 0 else [],
            }
            return list(table[kind]())


NOT_FINITE = [np.nan, np.inf, -np.inf, 0.0]
MISSHAPEN = [
    Tensor.pack(np.zeros(3, np.float32)),
    Tensor.pack(np.zeros(2, np.float64)),
    Tensor.pack(np.zeros((2, 1), np.float32)),
    Tensor("<f4", (2,), b"123"),
    Tensor("<f4", (-1,), b"12345678"),
]
_RARE = ("not finite", "misshapen", "huge", "silent")
KINDS = [
    "polite", "random", "bang-bang", "far", "ramp", "sine", "tiny", "huge",
    "not finite", "misshapen", "replayed", "reordered", "stale", "ttl", "generation",
    "unknown", "tenfold", "late", "silent", "gaps",
]  # fmt: skip
_SHARES = np.array([0.3 if kind in _RARE else 1.0 for kind in KINDS])
WEIGHTS = _SHARES / _SHARES.sum()
