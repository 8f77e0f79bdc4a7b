"""Where the episodes of a D4RL-layout table end, and whether they terminated there."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from robostack.data.episode import Mask, Steps
from robostack.data.formats import Note
from robostack.robot import Columns, Task
from robostack.spec import Array, RobotSpec

CONTINUITY = 1e-6  # largest distance of a next observation from the next row's (IQL)
JUMP = 10.0  # steps longer than so many mean steps are worth a note


class Table(NamedTuple):
    """A file as it is: N rows."""

    name: str
    environment: str
    observations: Array  # (N, O)
    actions: Array  # (N, A)
    rewards: Array  # (N,)
    terminals: Mask  # (N,)
    timeouts: Mask | None  # (N,)
    next_observations: Array | None  # (N, O)
    truth: dict[str, Array]  # (N, n)


def last_rows(table: Table, max_episode_steps: int, note: Note) -> Steps:
    """Return the last row (E,) of every episode; the file's last row is one."""
    ends = table.terminals.copy()
    if table.timeouts is not None:
        ends |= table.timeouts
    flagged = int(ends.sum())
    ends |= _jumps(table)
    if ends.sum() > flagged:
        note(
            f"{ends.sum() - flagged} episodes end, by the next observations, where no "
            f"flag is set: the data is believed, not the flags"
        )
    ends[-1] = True
    if max_episode_steps:
        _cut(ends, max_episode_steps, note)
    elif table.timeouts is None and table.next_observations is None:
        note(
            "there are neither timeouts nor next_observations: ends that are not "
            "terminal cannot be seen; max_episode_steps=N gives the time limit"
        )
    _note_hidden_resets(table, ends, note)
    return np.flatnonzero(ends)


def terminated(
    table: Table,
    last: Steps,
    spec: RobotSpec,
    task: Task | None,
    note: Note,
) -> Mask:
    """Return which episodes (E,) truly terminated."""
    flags = table.terminals[last]
    if table.timeouts is not None and (
        both := int((flags & table.timeouts[last]).sum())
    ):
        note(f"{both} episodes have terminal and timeout set: taken as terminated")
    if task is not None and table.next_observations is not None:
        return _asked(table, last, spec, task, note)
    if not _looks_like_limit(table, last):
        return flags
    note(
        f"all {flags.sum()} terminals come after exactly {last[0] + 1} steps: that is "
        f"a time limit, so these episodes are truncated, not terminated "
        f"(trust_terminals=true keeps the flags)"
    )
    return np.zeros_like(flags)


def _jumps(table: Table) -> Mask:
    """Return where the next observation is not the next row's; (N,)."""
    jumps = np.zeros(len(table.terminals), np.bool_)
    if table.next_observations is not None:
        gap = table.observations[1:] - table.next_observations[:-1]
        jumps[:-1] = np.linalg.norm(gap, axis=1) > CONTINUITY
    return jumps


def _cut(ends: Mask, limit: int, note: Note) -> None:
    """Set an end after every `limit` steps without one."""
    cuts, start = 0, 0
    for last in np.flatnonzero(ends).tolist():
        missed = range(start + limit - 1, last, limit)
        ends[missed] = True
        cuts += len(missed)
        start = last + 1
    if cuts:
        note(f"{cuts} episodes were longer than max_episode_steps={limit}, and are cut")


def _note_hidden_resets(table: Table, ends: Mask, note: Note) -> None:
    if table.next_observations is not None:
        return
    step = np.linalg.norm(np.diff(table.observations, axis=0), axis=1)
    inside = ~ends[:-1]
    if not inside.any():
        return
    known = np.median(step[~inside]) if (~inside).any() else 0.0
    hidden = inside & (step > max(JUMP * step[inside].mean(), known))
    if hidden.any():
        note(
            f"{hidden.sum()} steps without a flag are as long as a reset, the first at "
            f"row {np.argmax(hidden)}: if they are resets, the flags miss them"
        )


def _looks_like_limit(table: Table, last: Steps) -> bool:
    """Return whether all terminals come after one and the same number of steps.

    That takes two episodes at least, and no flag that says timeout; the rest of an
    unfinished last episode does not count.
    """
    flags = table.terminals[last]
    lengths = np.diff(np.concatenate([[-1], last]))
    if table.timeouts is not None and table.timeouts.any():
        return False
    finished = lengths[flags]
    same = len(finished) >= 2 and (finished == finished[0]).all()
    return bool(same and finished[0] == lengths.max() and flags[:-1].all())


def _asked(table: Table, last: Steps, spec: RobotSpec, task: Task, note: Note) -> Mask:
    """Return what the task says of the last step of every episode."""
    assert table.next_observations is not None
    flags = table.terminals[last]
    says = np.array([_says(table, row, spec, task) for row in last], np.bool_)
    if (flags & ~says).any():
        note(
            f"{(flags & ~says).sum()} of {flags.sum()} episodes are flagged terminal "
            f"where the task does not terminate: they are truncated"
        )
    if (says & ~flags).any():
        note(
            f"{(says & ~flags).sum()} episodes end where the task terminates, without "
            f"the flag: they are terminated"
        )
    return says


def _says(table: Table, row: int, spec: RobotSpec, task: Task) -> bool:
    assert table.next_observations is not None
    pair = np.stack([table.observations[row], table.next_observations[row]])
    step: Columns = {**split(pair, spec), "action": table.actions[row : row + 1]}
    return bool(task.terminated(step)[0])


def split(rows: Array, spec: RobotSpec) -> dict[str, Array]:
    """Return the arrays of `spec` that lie end to end in `rows` (R, O)."""
    sizes = [array.size for array in spec.observation.values()]
    parts = np.split(rows, np.cumsum(sizes)[:-1], axis=1)
    return dict(zip(spec.observation, map(np.ascontiguousarray, parts), strict=True))
