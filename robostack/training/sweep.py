"""Many runs out of one TOML file: seeds, algorithms, datasets, settings.

    seeds = 3                             sweep.toml: 0, 1 and 2; or a list of them
    algorithm = ["iql", "td3_bc"]
    recipe = "locomotion"
    world = "sim:gym/Hopper-v5"
    [grid]                                every combination
    inverse_temperature = [1.0, 3.0]
    [[runs]]                              each of these, with each of the above
    dataset = "hopper-medium"
    [[runs]]
    dataset = "hopper-expert"
    set = { steps = 500_000 }             settings for these alone

    [runs.then]                           and each of these goes on by acting
    online = "sim:gym/Hopper-v5"
    [paper.iql]                           what the table has beside iql/hopper-medium
    hopper-medium = 66.3

Keys mean what the flags of `robostack train` do. A list is a choice of several; what a
row of `runs` is silent about, the file says, and else the flags. A run lies at

    [NAME/]ALGORITHM/DATASET[/SETTING=VALUE,...][/then]/SEED

below the folder of the sweep. What was learned by acting alone has the world in place
of the dataset.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import msgspec

from robostack import plugins
from robostack.sentence import clause

Value = bool | int | float | str | list[bool | int | float | str]


class SweepError(ValueError):
    """A sweep that cannot be meant."""


class Then(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How each run goes on from its end, in a run of its own."""

    online: str  # world to act in
    algorithm: str = ""  # "": the same
    recipe: str = ""  # "": `online`, if the algorithm has one
    beside_data: bool = True  # the dataset stays part of the batches
    set: dict[str, Value] = {}


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Runs that differ in seed, algorithm, dataset or a setting of the grid."""

    name: str = ""  # before those of algorithm and dataset, to tell rows apart
    algorithm: str | list[str] = ""
    dataset: str | list[str] = ""  # folder
    recipe: str = ""
    seeds: int | list[int] = 0  # how many, from 0 on, or which; 0: as the flags say
    labeller: str = ""
    online: str = ""  # world to act in
    world: str = ""  # to evaluate in
    task: str = ""  # of the world
    d4rl_task: str | bool = ""  # whose score is reported; true: the dataset's name
    set: dict[str, Value] = {}
    grid: dict[str, list[Value]] = {}
    origin: str = ""  # of the dataset, told to whoever lacks it
    then: Then | None = None


class Sweep(Row, frozen=True, forbid_unknown_fields=True):
    """What the file holds."""

    runs: list[Row] = []
    paper: dict[str, float | dict[str, float]] = {}  # reported elsewhere, by name
    cpus: float = 1  # that one run takes, where Ray places it
    gpus: float = 0  # likewise; may be a fraction


def read(path: Path) -> Sweep:
    """Return the sweep in the TOML file `path`."""
    try:
        table = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SweepError(f"the sweep {path} cannot be read: {error}") from error
    rows = _tables(table.get("runs"))
    _require_known(path, [table], Sweep)
    _require_known(path, rows, Row)
    _require_known(path, _tables([part.get("then") for part in (table, *rows)]), Then)
    try:
        return msgspec.convert(table, Sweep)
    except msgspec.ValidationError as error:
        raise SweepError(f"the sweep {path} is not valid: {clause(error)}") from error


def _require_known(
    path: Path, tables: list[dict[str, Any]], kind: type[msgspec.Struct]
) -> None:
    known = list(kind.__struct_fields__)
    for key in (key for table in tables for key in table):
        if key not in known:
            raise SweepError(plugins.unknown(f"a key of {path}", key, known))


def _tables(value: object) -> list[dict[str, Any]]:
    """Return the tables in `value`; what else there is, the conversion refuses."""
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []
