"""D4RL-layout HDF5 files: N rows of all episodes in one go, flags where they end.

    observations (N, O)   actions (N, A)   rewards (N,)   terminals (N,)       needed
    timeouts (N,)   next_observations (N, O)   infos/qpos, infos/qvel (N, .)   if there

An episode ends at a terminal, at a timeout, where the next observation is not the next
row's (the test of IQL: in some files the flags are out of step with the resets), after
`max_episode_steps`, and where the file ends. Only a true terminal terminates it: flags
that merely mark the time limit are noticed, and made truncations.

The final observation of an episode is its last next_observation. In files without, a
truncated episode loses its last transition; a terminated one keeps it, with the final
observation repeated, since nothing is bootstrapped from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import numpy.typing as npt

from robostack.data.d4rl_ends import Table, last_rows, split, terminated
from robostack.data.episode import INCOMPLETE, End, Episode, Mask, Steps
from robostack.data.formats import FormatError, Note, ignore
from robostack.data.guess import numbered, robot, seen, usual
from robostack.robot import Task
from robostack.spec import Array, RobotSpec, float32

NEEDED = ("observations", "actions", "rewards", "terminals")
OPTIONAL = ("timeouts", "next_observations")
TRUTHS = ("qpos", "qvel", "goal")
ROUNDING = 1e-6  # an action may be outside its bounds by so much, from float32
MAGIC = b"\x89HDF\r\n\x1a\n"


def sniff(path: Path) -> bool:
    """Return whether `path` is an HDF5 file."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def read(  # noqa: PLR0913 (all but the first two are options)
    path: Path,
    spec: RobotSpec,
    *,
    note: Note = ignore,
    task: Task | None = None,
    never_terminates: bool = False,
    trust_terminals: bool = False,
    max_episode_steps: int = 0,
) -> Iterator[Episode]:
    """Give the episodes of `path`, one at a time; the file is checked at once.

    Args:
        path: a D4RL-layout HDF5 file.
        spec: names, units and bounds; sizes must match.
        note: hears what was noticed, corrected or dropped, a sentence each.
        task: whose `terminated` is asked about every end.
        never_terminates: the task has no terminal states, whatever the flags say.
        trust_terminals: believe the flags also where they look like a time limit.
        max_episode_steps: end episodes after so many steps; 0: no limit known.
    """
    table = load(path)
    _check_sizes(table, spec)
    _note_actions(table, spec, note)
    last = last_rows(table, max_episode_steps, note)
    if never_terminates:
        true = np.zeros(len(last), np.bool_)
        if flags := int(table.terminals[last].sum()):
            note(f"{flags} terminals are taken as time limits: the task has no others")
    elif trust_terminals:
        true = table.terminals[last]
    else:
        true = terminated(table, last, spec, task, note)
    spans = [span for span in _spans(table, last, true) if span.steps]
    if dropped := len(last) - len(spans):
        note(f"{dropped} episodes had no whole transition, and are left out")
    if not spans:
        raise FormatError(f"{path}: expected an episode of at least one transition")
    return (_episode(table, spec, span) for span in spans)


def guess(
    path: Path, *, note: Note = ignore, control_period_s: float = 0.02
) -> RobotSpec:
    """Return a spec with names such as obs_0, and the bounds that the data has."""
    table = load(path)
    note(
        f"{path.name} says nothing of names, units, bounds and rate: names are obs_0, "
        f"action_0, ..., bounds are what the data has, and the control period is taken "
        f"as {control_period_s} s (--robot, or control_period_s=, says better)"
    )
    if (beyond := np.abs(table.actions) > 1 + ROUNDING).any():
        note(
            f"{beyond.sum()} of {beyond.size} action values, in "
            f"{beyond.any(axis=1).sum()} of {len(beyond)} steps, are beyond the usual "
            f"-1 .. 1, so the bounds are those of the data"
        )
    actions, observations = table.actions, table.observations
    return robot(
        table.environment or path.stem,
        {"state": seen(numbered("obs", observations.shape[1]), observations)},
        usual(numbered("action", actions.shape[1]), actions),
        control_period_s,
        f"guessed from the data in {path.name}",
    )


def load(path: Path) -> Table:
    """Return the content of `path`, checked to be whole, even and finite."""
    try:
        with h5py.File(path, "r") as file:
            return _table(path, file)
    except (OSError, RuntimeError) as error:
        raise FormatError(
            f"{path} cannot be read as HDF5, it may be cut short: {error}"
        ) from error


def _table(path: Path, file: h5py.File) -> Table:
    parts = [file]
    if "virtual" in file:  # big files are cut into groups 0, 1, ...
        parts = [file["virtual"][k] for k in sorted(file["virtual"], key=int)]
    missing = [name for name in NEEDED if name not in parts[0]]
    if missing:
        raise FormatError(
            f"{path}: expected the keys {', '.join(NEEDED)}, found no "
            f"{', '.join(missing)} among {', '.join(parts[0])}"
        )
    found = [name for name in (*NEEDED, *OPTIONAL) if name in parts[0]]
    arrays = {n: np.concatenate([part[n][()] for part in parts]) for n in found}
    _check_even(path, arrays)
    rows = len(arrays["observations"])
    infos = {n: file[f"infos/{n}"] for n in TRUTHS if f"infos/{n}" in file}
    follows = arrays.get("next_observations")
    timeouts = arrays.get("timeouts")
    table = Table(
        name=path.name,
        environment=str(file.attrs.get("env", "")),
        observations=_rows(arrays["observations"]),
        actions=_rows(arrays["actions"]),
        rewards=float32(arrays["rewards"].reshape(-1)),
        terminals=arrays["terminals"].reshape(-1).astype(np.bool_),
        timeouts=None if timeouts is None else timeouts.reshape(-1).astype(np.bool_),
        next_observations=None if follows is None else _rows(follows),
        truth={n: _rows(v[()]) for n, v in infos.items() if len(v) == rows},
    )
    _check_finite(path, table)
    return table


def _rows(array: npt.NDArray[np.generic]) -> Array:
    with np.errstate(over="ignore"):  # what is too large is found as not finite
        return float32(array.reshape(len(array), -1))


def _check_even(path: Path, arrays: dict[str, npt.NDArray[np.generic]]) -> None:
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) != 1:
        raise FormatError(f"{path}: expected as many rows of everything, got {lengths}")
    if not lengths["observations"]:
        raise FormatError(f"{path}: expected transitions, found none")
    for name in ("rewards", "terminals", "timeouts"):
        if name in arrays and arrays[name].size != lengths[name]:
            raise FormatError(
                f"{path}: expected {name} of shape (N,) or (N, 1), got "
                f"{arrays[name].shape}"
            )


def _check_finite(path: Path, table: Table) -> None:
    for name in ("observations", "actions", "rewards", "next_observations"):
        array = getattr(table, name)
        if array is None:
            continue
        bad = ~np.isfinite(array.reshape(len(array), -1)).all(axis=1)
        if bad.any():
            raise FormatError(
                f"{path}: expected finite {name}, {bad.sum()} of {len(bad)} rows are "
                f"not, the first is row {np.argmax(bad)}"
            )


def _check_sizes(table: Table, spec: RobotSpec) -> None:
    found = table.observations.shape[1], table.actions.shape[1]
    expected = spec.observation_size, spec.action.size
    if found != expected:
        raise FormatError(
            f"{table.name}: expected {expected[0]} observations and {expected[1]} "
            f"actions as {spec.name} has them, found {found[0]} and {found[1]}"
        )


def _note_actions(table: Table, spec: RobotSpec, note: Note) -> None:
    over = np.maximum(
        table.actions - float32(spec.action.high),
        float32(spec.action.low) - table.actions,
    )
    outside = over > ROUNDING
    if outside.any():
        note(
            f"{outside.sum()} of {outside.size} action values, in "
            f"{outside.any(axis=1).sum()} of {len(outside)} steps, are outside the "
            f"bounds of {spec.name}, by up to {over.max():.3g}: they are kept so"
        )


class _Span(NamedTuple):
    """The rows of one episode."""

    first: int
    last: int
    steps: int  # fewer than the rows by one where the final observation is unknown
    stops: bool  # terminated


def _spans(table: Table, last: Steps, true: Mask) -> Iterator[_Span]:
    firsts = np.concatenate([[0], last[:-1] + 1])
    for first, end, stops in zip(firsts.tolist(), last.tolist(), true, strict=True):
        final = table.next_observations is not None or stops
        yield _Span(first, end, end - first + bool(final), bool(stops))


def _observations(table: Table, span: _Span) -> Array:
    """Return those of an episode (steps + 1, O)."""
    rows = table.observations[span.first : span.last + 1]
    if table.next_observations is not None:
        return np.concatenate([rows, table.next_observations[span.last][None]])
    return np.concatenate([rows, rows[-1:]]) if span.stops else rows


def _episode(table: Table, spec: RobotSpec, span: _Span) -> Episode:
    steps = slice(span.first, span.first + span.steps)
    labels = {"source": table.name, "rows": f"{steps.start}-{steps.stop - 1}"}
    if table.environment:
        labels["environment"] = table.environment
    if span.stops and table.next_observations is None:
        labels["final_observation"] = "copy of the one before"
    if _unfinished(table, span):
        labels[INCOMPLETE] = "the file ends"
    return Episode(
        observation=split(_observations(table, span), spec),
        action=table.actions[steps],
        requested=table.actions[steps],
        time_s=np.arange(span.steps + 1, dtype=np.float64) * spec.control_period_s,
        end=End.TERMINATED if span.stops else End.TRUNCATED,
        reward=table.rewards[steps],
        truth={n: _truth(rows, steps) for n, rows in table.truth.items()},
        frames={},
        labels=labels,
    )


def _unfinished(table: Table, span: _Span) -> bool:
    """Return whether the file ends before the episode does."""
    flags = table.terminals[-1] or (table.timeouts is not None and table.timeouts[-1])
    return not flags and span.last == len(table.observations) - 1


def _truth(rows: Array, steps: slice) -> Array:
    """Return (T+1, n); what was true at the end is not in the file."""
    unknown = np.full((1, rows.shape[1]), np.nan, np.float32)
    return np.concatenate([rows[steps], unknown])
