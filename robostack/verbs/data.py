"""`robostack data`: import, inspect, label and repair datasets."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import tyro
from tyro.conf import Positional

from robostack.data import dataset as datasets
from robostack.data import formats
from robostack.data.ingest import Source, ingest
from robostack.data.label import label

from .learn import progress_bar
from .verb import Verb, VerbError, console, print_json


class Import(msgspec.Struct, frozen=True):
    """Read logs of another format into a dataset; nothing is written if one is bad."""

    source: Positional[Path]  # file or folder, or minari:ID
    dataset: Path  # folder of the dataset, new or of the same robot
    format: str = ""  # one of `robostack data formats`; default: found out
    robot: str = ""  # sim:WORLD or hardware:ROBOT whose names, units and bounds hold
    task: str = ""  # of that world: says when episodes terminate, where a file does not
    option: tuple[
        str, ...
    ] = ()  # name=value for the format, see `robostack data formats`


class Formats(msgspec.Struct, frozen=True):
    """List the formats that can be imported, with their options."""


class Inspect(msgspec.Struct, frozen=True):
    """Report episodes, lengths, returns, rates, ranges, gaps and NaNs."""

    dataset: Positional[Path]
    plot: Path | None = None  # also write a PNG
    verify: bool = False  # also check the digest of every column
    json: bool = False  # as JSON


class Label(msgspec.Struct, frozen=True):
    """Write rewards of a world's task beside logs; never over others."""

    dataset: Positional[Path]
    task: Annotated[tuple[str, str], tyro.conf.arg(metavar="WORLD TASK")]
    # sim:WORLD[/ARGUMENT] and its task, such as sim:pendulum swing_up
    replace: bool = False  # write anew what this labeller wrote before


class Repair(msgspec.Struct, frozen=True):
    """Recover what killed programs left: recordings cut short, half a segment."""

    folder: Positional[Path]  # of a dataset, or of recordings


def import_(flags: Import) -> int:
    """Import a file or a folder."""
    options = dict(_option(text) for text in flags.option)
    source = Source(flags.source, flags.format, flags.robot, flags.task, options)
    with console.status(f"reading {flags.source}"):
        result = ingest(source, flags.dataset, note=_note)
    steps = sum(item.length for item in result.dataset.episodes)
    console.print(
        f"{flags.dataset}: {result.episodes} episodes"
        f"{' that were there already' if result.already else ''}, now "
        f"{len(result.dataset)} with {steps} steps, robot {result.dataset.spec.name}"
    )
    return 0


def list_formats(_: Formats) -> int:
    """Print each format with the options of its reader."""
    for name in formats.NAMES:
        try:
            module = formats.load(name)
        except formats.FormatError as error:  # its package is not installed
            console.print(f"[bold]{name}[/bold]  {error}", highlight=False)
            continue
        about = (module.__doc__ or "").strip().splitlines()[0]
        console.print(f"[bold]{name}[/bold]  {about}", highlight=False)
        for parameter in inspect.signature(module.read).parameters.values():
            if parameter.kind is parameter.KEYWORD_ONLY and isinstance(
                parameter.default, bool | int | float | str
            ):
                console.print(f"    --option {parameter.name}={parameter.default}")
    return 0


def inspect_(flags: Inspect) -> int:
    """Report on a dataset."""
    from robostack.data import inspect as inspection

    dataset = datasets.open_dataset(flags.dataset)
    broken = dataset.verify() if flags.verify else []
    for sentence in broken:
        console.print(f"[red]broken:[/red] {sentence}", highlight=False)
    report = inspection.inspect(dataset)
    if flags.json:
        print_json(report)
    else:
        console.print(inspection.render(report))
    if flags.plot:
        inspection.plot(dataset, flags.plot)
        console.print(f"wrote {flags.plot}")
    return 1 if broken else 0


def label_(flags: Label) -> int:
    """Label a dataset."""
    dataset = datasets.open_dataset(flags.dataset)
    world, task = flags.task
    with progress_bar("labelling") as show:
        name = label(
            dataset,
            world,
            task,
            overwrite=flags.replace,
            tell=lambda done, total: show(done, total, ""),
        )
    sums = [
        np.nansum(rewards) for rewards in dataset.rewards(name) if rewards is not None
    ]
    console.print(
        f"{flags.dataset}: rewards by {name!r} for {len(sums)} episodes, returns "
        f"{min(sums):.4g} to {max(sums):.4g}, mean {np.mean(sums):.4g}"
    )
    return 0


def repair_(flags: Repair) -> int:
    """Repair a dataset or a folder of recordings."""
    from robostack.data.repair import repair

    if not flags.folder.is_dir():
        raise VerbError(f"expected a dataset or recordings, found no {flags.folder}")
    done = repair(flags.folder, note=_note)
    console.print(f"{flags.folder}: {done} repairs" if done else "nothing to repair")
    return 0


def _option(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise VerbError(f"expected --option name=value, got {text!r}")
    return name, value


def _note(sentence: str) -> None:
    console.print(f"[yellow]note:[/yellow] {sentence}", highlight=False)


VERBS = {
    "import": Verb(Import, import_),
    "formats": Verb(Formats, list_formats),
    "inspect": Verb(Inspect, inspect_),
    "label": Verb(Label, label_),
    "repair": Verb(Repair, repair_),
}
