"""What a node tells in the text of some events, as JSON, for programs that watch it.

counts    Tally: what happened in the open episode so far, now and then
reading   Glance: what is sensed between episodes, now and then
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import msgspec

from robostack.messages import Tensor


class Counts(msgspec.Struct):
    """What happened in one episode."""

    steps: int = 0
    overruns: int = 0
    clamps: int = 0
    refused: Counter[str] = msgspec.field(default_factory=Counter)


class Tally(msgspec.Struct, frozen=True):
    """The counts of one episode, as they travel."""

    steps: int
    overruns: int
    clamps: int
    refused: dict[str, int]


class Glance(msgspec.Struct, frozen=True):
    """What the sensors say while no episode is open."""

    arrays: dict[str, list[float]]
    ages_s: dict[str, float]


def counts_text(counts: Counts) -> str:
    """Return `counts` as the text of an event."""
    return msgspec.json.encode(counts).decode()


def glance_text(arrays: Mapping[str, Tensor], ages_s: dict[str, float]) -> str:
    """Return a reading as the text of an event."""
    values = {name: tensor.unpack().tolist() for name, tensor in arrays.items()}
    return msgspec.json.encode(Glance(values, ages_s)).decode()


# Raise msgspec.MsgspecError for any other text.
parse_counts = msgspec.json.Decoder(Tally).decode
parse_glance = msgspec.json.Decoder(Glance).decode
