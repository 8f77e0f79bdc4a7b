"""Logs of the DFKI's pendulums, as CSV with a header, one run per file.

    double pendulum   time,pos_meas1,pos_meas2,vel_meas1,...,tau_meas1,tau_meas2
    pendulum          time,position,velocity,torque

Stamps are uneven (2 to 30 ms) and do not match a control period, so every run is
resampled to the control period of the spec, from its first stamp on:

    position, velocity   value and slope of a parabola, least squares through the
                         measured positions within 10 ms (at least three samples)
    action               mean over the control period of the measured torque, straight
                         lines between samples

The logged velocities are not used: they are backward differences, late by half a
sample, which is 15 ms in the slowest logs. The torque is the measured one of the
driven motors, friction compensation included, because it is what reproduces the
motion; sim/double_pendulum/README.md has the comparison. Angles are as logged: 0 is
hanging down, the second joint is relative to the first, turns are counted.

There are no rewards in these logs: `robostack data label` computes them from a task.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from robostack.data.episode import End, Episode
from robostack.data.formats import FormatError, Note, ignore
from robostack.data.resample import Values, parabola, period_mean
from robostack.spec import Array, RobotSpec, float32

GAP_PERIODS = 5.0  # a gap is longer than so many usual sample intervals ...
GAP_S = 0.05  # ... and longer than this
ROUNDING = 1e-3  # [N m]


class Layout(NamedTuple):
    """Where a kind of log has what; {} stands for the number of a joint, from 1."""

    name: str
    joints: int
    position: str
    torque: str
    command: str  # of the torque; "" where it was not logged


LAYOUTS = (
    Layout("double pendulum", 2, "pos_meas{}", "tau_meas{}", "tau_con{}"),
    Layout("pendulum", 1, "position", "torque", ""),
)


class Run(NamedTuple):
    """One stretch of a log without a gap."""

    time_s: Values  # (N,)
    position: Values  # (N, J)
    torque: Values  # (N, J), measured
    command: Values  # (N, J), or (N, 0) where it was not logged


def sniff(path: Path) -> bool:
    """Return whether `path` is such a CSV, or a folder with one in it."""
    try:
        return any(_layout(_header(file)) is not None for file in _files(path))
    except OSError:
        return False


def read(
    path: Path,
    spec: RobotSpec,
    *,
    note: Note = ignore,
    passive_torque: float = 0.5,
) -> list[Episode]:
    """Return one episode for every run under `path`, two where a run has a gap.

    Args:
        path: a CSV file, or a folder with such files at any depth.
        spec: a robot with joint_position and joint_velocity, driven by torque.
        note: hears what was noticed, corrected or dropped, a sentence each.
        passive_torque: [N m] runs that asked a motor without an action in `spec` for
            more are of another robot. The DFKI's competition allows a passive motor
            0.5 N m, to cancel friction.
    """
    _check_spec(spec)
    files = [file for file in _files(path) if _layout(_header(file)) is not None]
    measured = [file for file in files if "desired" not in file.stem]
    if len(measured) < len(files):
        note(f"{len(files) - len(measured)} files of desired trajectories are left out")
    episodes: list[Episode] = []
    for file in measured:
        episodes += _episodes(file, spec, note, passive_torque)
    if not episodes:
        raise FormatError(
            f"{path}: expected runs of {spec.name} as CSV with the columns time, "
            f"pos_meas1, ... or time, position, velocity, torque; found none"
        )
    return episodes


def _files(path: Path) -> list[Path]:
    return sorted(path.rglob("*.csv")) if path.is_dir() else [path]


def _header(file: Path) -> list[str]:
    with file.open(errors="replace") as lines:
        return [name.strip() for name in lines.readline(4096).split(",")]


def _layout(header: list[str]) -> Layout | None:
    """Return the layout of a log whose first columns are `header`, if it is one."""
    for layout in LAYOUTS:
        if header[:2] == ["time", layout.position.format(1)]:
            return layout
    return None


def _check_spec(spec: RobotSpec) -> None:
    wanted = {"joint_position", "joint_velocity"}
    if set(spec.observation) != wanted or spec.control != "torque":
        raise FormatError(
            f"expected a robot with joint_position and joint_velocity, driven by "
            f"torque, for these logs, such as sim:double_pendulum; {spec.name} has "
            f"{sorted(spec.observation)} and is driven by {spec.control}"
        )


def _episodes(
    file: Path, spec: RobotSpec, note: Note, passive_torque: float
) -> Iterator[Episode]:
    run = _load(file, spec, note)
    joints = spec.observation["joint_position"].names
    driven = [joints.index(name) for name in spec.action.names]
    passive = [joint for joint in range(len(joints)) if joint not in driven]
    asked = float(np.abs(run.command[:, passive]).max(initial=0.0)) if passive else 0.0
    if asked > passive_torque + ROUNDING:
        note(
            f"{file.name} is left out: {asked:.2f} N m were asked of a motor that "
            f"{spec.name} does not drive (passive_torque={passive_torque})"
        )
        return
    parts = _split(run)
    if len(parts) > 1:
        note(f"{file.name} has {len(parts) - 1} gaps and became {len(parts)} episodes")
    for part in parts:
        episode = _resample(part, spec, driven)
        if episode is None:
            note(f"{file.name}: a stretch shorter than a control period is left out")
            continue
        _note_bounds(file, episode, spec, note)
        labels = _labels(file, part, run)
        if passive:
            labels["passive torque"] = f"at most {asked:.2f} N m asked of other motors"
        yield episode._replace(labels=labels)


def _load(file: Path, spec: RobotSpec, note: Note) -> Run:
    header = _header(file)
    layout = _layout(header)
    assert layout is not None
    joints = spec.observation["joint_position"].size
    if layout.joints != joints:
        raise FormatError(
            f"{file}: expected the log of a robot of {joints} joints, as {spec.name} "
            f"is, found one of a {layout.name}"
        )
    numbers = range(1, joints + 1)
    names = ["time"]
    for column in filter(None, (layout.position, layout.torque, layout.command)):
        names += [column.format(number) for number in numbers]
    if missing := [name for name in names if name not in header]:
        raise FormatError(f"{file}: expected the columns {names}, missing {missing}")
    table = _table(file, len(header), note)[:, [header.index(name) for name in names]]
    _check_rows(file, table, names)
    time_s, position, torque, command = np.split(
        table, (1, 1 + joints, 1 + 2 * joints), axis=1
    )
    return Run(time_s[:, 0], position, torque, command)


def _table(file: Path, columns: int, note: Note) -> Values:
    """Return the numbers of `file` (N, columns), without a last line cut short."""
    lines = file.read_text(errors="replace").splitlines()[1:]
    while lines and not lines[-1].strip():
        lines.pop()
    if lines and lines[-1].count(",") + 1 < columns:
        note(f"{file.name}: the last line is cut short and left out")
        lines.pop()
    rows = []
    for number, line in enumerate(lines, start=2):
        cells = line.split(",")
        try:
            row = [float(cell) for cell in cells]
        except ValueError as error:
            raise FormatError(f"{file}: line {number}: {error}") from error
        if len(row) != columns:
            raise FormatError(
                f"{file}: expected {columns} numbers in line {number}, got {len(row)}"
            )
        rows.append(row)
    if len(rows) < 3:
        raise FormatError(f"{file}: expected at least 3 samples, got {len(rows)}")
    return np.array(rows)


def _check_rows(file: Path, table: Values, names: list[str]) -> None:
    if not np.isfinite(table).all():
        row, column = np.argwhere(~np.isfinite(table))[0]
        raise FormatError(
            f"{file}: expected numbers, got {table[row, column]} as {names[column]} in "
            f"line {row + 2}"
        )
    step = np.diff(table[:, 0])
    if (step <= 0).any():
        row = int(np.argmax(step <= 0)) + 1
        raise FormatError(
            f"{file}: expected time to grow, it goes from {table[row - 1, 0]} to "
            f"{table[row, 0]} s in line {row + 2}"
        )


def _split(run: Run) -> list[Run]:
    """Return the stretches of `run` between its gaps."""
    interval = np.diff(run.time_s)
    longest = max(GAP_S, GAP_PERIODS * float(np.median(interval)))
    ends = [0, *(np.flatnonzero(interval > longest) + 1), len(run.time_s)]
    pieces = itertools.pairwise(ends)
    return [Run(*(column[first:last] for column in run)) for first, last in pieces]


def _resample(run: Run, spec: RobotSpec, driven: list[int]) -> Episode | None:
    period_s = spec.control_period_s
    steps = int((run.time_s[-1] - run.time_s[0]) / period_s + 1e-9)
    if steps < 1 or len(run.time_s) < 3:
        return None
    time_s = np.arange(steps + 1, dtype=np.float64) * np.float64(period_s)
    position, velocity = parabola(run.time_s, run.position, run.time_s[0] + time_s)
    torque = run.torque[:, driven]
    action = float32(period_mean(run.time_s, torque, run.time_s[0] + time_s))
    observation = {"joint_position": position, "joint_velocity": velocity}
    return Episode(
        observation={name: float32(observation[name]) for name in spec.observation},
        action=action,
        requested=action.copy(),
        time_s=time_s,
        end=End.TRUNCATED,
        reward=None,
        truth={},
        frames={},
        labels={},
    )


def _note_bounds(file: Path, episode: Episode, spec: RobotSpec, note: Note) -> None:
    bounds = {**spec.observation, "action": spec.action}
    columns: dict[str, Array] = {**episode.observation, "action": episode.action}
    for name, rows in columns.items():
        outside = (rows < float32(bounds[name].low)) | (
            rows > float32(bounds[name].high)
        )
        if outside.any():
            note(
                f"{file.name}: {name} is outside the bounds of {spec.name} in "
                f"{outside.any(axis=1).sum()} of {len(rows)} rows, and kept as measured"
            )


def _labels(file: Path, part: Run, run: Run) -> dict[str, str]:
    labels = {
        "source": f"{file.parent.name}/{file.name}",
        "policy": _policy(file),
        "torque": "measured at the driven motors, friction compensation included",
        "angles": "0 hanging down, second joint relative to the first, turns counted",
        "resampling": "position and velocity: local parabolas of measured positions; "
        "torque: mean over the control period of lines between samples",
    }
    if len(part.time_s) < len(run.time_s):
        labels["stretch"] = f"from {part.time_s[0]:.3f} to {part.time_s[-1]:.3f} s"
    return labels


def _policy(file: Path) -> str:
    name, _, tail = file.stem.removeprefix("control_method_").partition("__")
    return name if tail else file.parent.name
