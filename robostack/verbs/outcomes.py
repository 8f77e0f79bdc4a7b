"""What became of episodes, in words, as a table and as JSON."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from rich.table import Table

if TYPE_CHECKING:
    from robostack.runtime.loop import Outcome
    from robostack.runtime.timing import Spread

_ROWS = {
    "period_s": "period",
    "inference_s": "inference",
    "age_s": "reading's age at send",
    "reply_s": "sent to next reading",
}


class Summary(msgspec.Struct, frozen=True):
    """What `run --json` prints."""

    episodes: int
    steps: list[int]
    returns: list[float] | None
    success: list[bool] | None
    period_s: Spread | None
    inference_s: Spread | None
    age_s: Spread | None  # of a reading when its answer left
    reply_s: Spread | None  # from there to the next reading
    late: int  # readings that came more than half a period late
    late_inferences: int  # that came after their deadline, and were not used
    starved: int  # readings for which there was no action
    interventions: int  # steps in which a person moved the robot
    held: list[str]  # why the node ended each episode by itself, or ""
    clamps: int
    refused: dict[str, int]


def summarize(outcomes: list[Outcome]) -> Summary:
    """Return the outcomes of a run in numbers."""
    from robostack.runtime.timing import joined, spread

    judged = [o for o in outcomes if o.returns is not None]
    refused: Counter[str] = Counter()
    for outcome in outcomes:
        refused.update(outcome.ended.refused)
    times = joined([o.times for o in outcomes])
    return Summary(
        episodes=len(outcomes),
        steps=[o.steps for o in outcomes],
        returns=[o.returns or 0.0 for o in judged] or None,
        success=[bool(o.success) for o in judged] or None,
        period_s=spread(times.period_s),
        inference_s=spread(times.inference_s),
        age_s=spread(times.age_s),
        reply_s=spread(times.reply_s),
        late=sum(o.late for o in outcomes),
        late_inferences=sum(o.counts.late for o in outcomes),
        starved=sum(o.counts.starved for o in outcomes),
        interventions=sum(o.interventions for o in outcomes),
        held=[o.held for o in outcomes],
        clamps=sum(o.ended.clamps for o in outcomes),
        refused=dict(refused),
    )


def line_of(i: int, outcome: Outcome) -> str:
    """Return what became of episode `i`, in a line."""
    words = [f"episode {i}: {outcome.steps} steps"]
    if outcome.returns is not None:
        words.append(f"return {outcome.returns:.4g}")
        words.append("success" if outcome.success else "no success")
    words.append("terminated" if outcome.terminated else "truncated")
    counted = {
        "actions limited": outcome.ended.clamps,
        "late readings": outcome.late,
        "late inferences": outcome.counts.late,
        "readings without an action": outcome.counts.starved,
        "steps by a person": outcome.interventions,
    }
    words += [f"{n} {what}" for what, n in counted.items() if n]
    words += [f"{n} refused: {cause}" for cause, n in outcome.ended.refused.items()]
    if outcome.held:
        words.append(outcome.held)
    return ", ".join(words)


def timing_table(outcomes: list[Outcome]) -> Table:
    """Return median, 99th percentile and largest of every duration."""
    summary = summarize(outcomes)
    table = Table("[ms]", "p50", "p99", "max")
    for field, name in _ROWS.items():
        found = getattr(summary, field)
        if found is not None:
            values = (found.p50, found.p99, found.max)
            table.add_row(name, *(f"{1e3 * value:.3f}" for value in values))
    return table


def write_timing(path: Path, outcomes: list[Outcome]) -> None:
    """Write the times of every cycle of every episode, and their summary, as JSON."""
    content = {
        "summary": summarize(outcomes),
        "episodes": [
            {k: v.tolist() for k, v in o.times._asdict().items()} for o in outcomes
        ],
    }
    path.write_bytes(msgspec.json.encode(content))
