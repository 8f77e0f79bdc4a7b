"""What is in a dataset: a report, as a struct, as a table and as a picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
from rich.box import SIMPLE
from rich.console import Group
from rich.markup import escape
from rich.table import Table

from robostack.data.dataset import Dataset
from robostack.data.episode import End, complete
from robostack.spec import ArraySpec

Values = npt.NDArray[np.float64]

LATE = 1.5  # a period so many times as long as it should be counts as late


class Summary(msgspec.Struct, frozen=True):
    """Spread of some numbers."""

    low: float
    median: float
    mean: float
    high: float


class Element(msgspec.Struct, frozen=True):
    """One element of one array over the whole dataset."""

    array: str
    name: str
    unit: str
    low: float  # of the data
    high: float
    mean: float
    std: float
    bound_low: float  # of the spec
    bound_high: float
    outside: int  # values beyond the bounds

    @property
    def constant(self) -> bool:
        """Whether it never changes."""
        return self.low == self.high


class Report(msgspec.Struct, frozen=True):
    """What `robostack data inspect` shows."""

    path: str
    robot: str
    digest: str
    episodes: int
    steps: int
    ends: dict[str, int]  # terminated, truncated, incomplete
    lengths: Summary  # [steps]
    returns: dict[str, Summary]  # by labeller, of complete episodes
    period_s: Summary
    expected_period_s: float
    late: int  # periods over 1.5 times as long as they should be
    gaps: int  # steps without an action within episodes
    nan: dict[str, int]  # by column, rows that are not finite where there should be one
    elements: tuple[Element, ...]
    labels: dict[str, tuple[str, ...]]  # by name, the values that occur, the first ten
    problems: tuple[str, ...]  # a sentence each


def inspect(dataset: Dataset) -> Report:
    """Return the report about `dataset`."""
    items = dataset.episodes
    lengths = [item.length for item in items]
    period_s = _periods(dataset)
    expected_s = dataset.spec.control_period_s
    report = Report(
        path=str(dataset.path),
        robot=dataset.spec.name,
        digest=dataset.digest,
        episodes=len(items),
        steps=sum(lengths),
        ends={
            End.TERMINATED.value: sum(i.end is End.TERMINATED for i in items),
            End.TRUNCATED.value: sum(i.end is End.TRUNCATED for i in items),
            "incomplete": sum(not complete(i.labels) for i in items),
        },
        lengths=_summary(np.array(lengths, np.float64)),
        returns={who: _summary(returns(dataset, who)) for who in dataset.labellers()},
        period_s=_summary(period_s),
        expected_period_s=expected_s,
        late=int((period_s > LATE * expected_s).sum()),
        gaps=sum(int((~item.transitions).sum()) for item in items),
        nan=_nan(dataset),
        elements=tuple(_elements(dataset)),
        labels=_labels(dataset),
        problems=(),
    )
    return msgspec.structs.replace(report, problems=tuple(_problems(report)))


def returns(dataset: Dataset, labeller: str) -> Values:
    """Return the undiscounted returns of the complete episodes that have rewards."""
    pairs = zip(dataset.episodes, dataset.rewards(labeller), strict=True)
    sums = [
        float(rewards[item.transitions].sum(dtype=np.float64))
        for item, rewards in pairs
        if rewards is not None and complete(item.labels)
    ]
    return np.array(sums, np.float64)


def render(report: Report) -> Group:
    """Return the report as tables, for a rich console."""
    return Group(
        _head_table(report), _element_table(report), *map(escape, report.problems)
    )


def _head_table(report: Report) -> Table:
    table = Table(title=escape(f"{report.path}: {report.robot}"), show_header=False)
    ends = ", ".join(f"{n} {kind}" for kind, n in report.ends.items())
    table.add_row("dataset digest", report.digest)
    table.add_row("episodes", f"{report.episodes} ({ends})")
    table.add_row("steps", f"{report.steps}, {report.gaps} without an action")
    table.add_row("length (steps)", _text(report.lengths))
    for who, summary in report.returns.items():
        table.add_row(escape(f"return, {who}"), _text(summary))
    late = f"{report.late} over {LATE} times the {report.expected_period_s:g} expected"
    table.add_row("period (s)", f"{_text(report.period_s)}; {late}")
    if report.nan:
        counts = ", ".join(f"{n} in {column}" for column, n in report.nan.items())
        table.add_row("rows with NaN", escape(counts))
    for name, values in report.labels.items():
        table.add_row(escape(f"label {name}"), escape(", ".join(values)))
    return table


def _element_table(report: Report) -> Table:
    table = Table(title="ranges", box=SIMPLE, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("element", min_width=16)
    table.add_column("unit", min_width=5)
    for column in ("low", "high", "std", "bounds", "outside"):
        table.add_column(column, justify="right", no_wrap=True)
    for array in dict.fromkeys(e.array for e in report.elements):
        table.add_row(f"[bold]{escape(array)}")
        for e in (e for e in report.elements if e.array == array):
            numbers = (f"{x:.3g}" for x in (e.low, e.high, e.std))
            bounds = f"{e.bound_low:.3g} .. {e.bound_high:.3g}"
            name, outside = f"  {escape(e.name)}", str(e.outside) if e.outside else ""
            table.add_row(name, escape(e.unit), *numbers, bounds, outside)
    return table


def _text(s: Summary) -> str:
    return f"{s.low:.5g} .. {s.high:.5g}, median {s.median:.5g}, mean {s.mean:.5g}"


def _summary(values: Values) -> Summary:
    if not len(values):
        return Summary(*[float("nan")] * 4)
    return Summary(
        float(values.min()),
        float(np.median(values)),
        float(values.mean()),
        float(values.max()),
    )


def _periods(dataset: Dataset) -> Values:
    """Return the time between rows of the same episode [s]."""
    steps = [
        np.diff(item.segment.column("time_s")[item.entry.rows])
        for item in dataset.episodes
    ]
    return np.concatenate(steps) if steps else np.empty(0)


def _elements(dataset: Dataset) -> Iterator[Element]:
    spec = dataset.spec
    for name, array in spec.observation.items():
        yield from _array(dataset, f"observation.{name}", name, array)
    yield from _array(dataset, "action", "action", spec.action)


def _array(
    dataset: Dataset, column: str, name: str, spec: ArraySpec
) -> Iterator[Element]:
    if not dataset.segments:
        return
    parts = [segment.column(column) for segment in dataset.segments]
    rows = np.concatenate(parts).astype(np.float64)
    if column == "action":
        rows = rows[_acting(dataset)]
    for i, element in enumerate(spec.names):
        values = rows[:, i]
        known = values[np.isfinite(values)]
        if not len(known):
            continue
        low, high = np.float32(spec.low[i]), np.float32(spec.high[i])
        yield Element(
            array=name,
            name=element,
            unit=spec.units[i],
            low=float(known.min()),
            high=float(known.max()),
            mean=float(known.mean()),
            std=float(known.std()),
            bound_low=spec.low[i],
            bound_high=spec.high[i],
            outside=int(((known < low) | (known > high)).sum()),
        )


def _acting(dataset: Dataset) -> npt.NDArray[np.bool_]:
    """Return which rows of all segments have an action."""
    masks = [np.append(item.transitions, False) for item in dataset.episodes]
    return np.concatenate(masks)


def _nan(dataset: Dataset) -> dict[str, int]:
    """Return how many rows of each column are not finite; last steps do not count."""
    counts = Counter[str]()
    for item in dataset.episodes:
        for file in item.segment.index.columns:
            name = file.removesuffix(".npy")
            if name.startswith("frames.") or name == "action":
                continue
            rows = item.segment.column(name)[item.entry.steps]
            bad = ~np.isfinite(rows.reshape(len(rows), -1)).all(axis=1)
            if bad.any():
                counts[name] += int(bad.sum())
    return counts


def _labels(dataset: Dataset) -> dict[str, tuple[str, ...]]:
    found: dict[str, dict[str, None]] = {}
    for item in dataset.episodes:
        for name, value in item.labels.items():
            found.setdefault(name, {})[value] = None
    return {name: _first(list(values)) for name, values in found.items()}


def _first(values: list[str], most: int = 10) -> tuple[str, ...]:
    rest = len(values) - most
    return (*values[:most], *([f"and {rest} more"] if rest > 0 else []))


def _problems(report: Report) -> Iterator[str]:
    if not report.episodes:
        yield "there are no episodes"
    if not report.returns:
        yield "there are no rewards: robostack data label writes them"
    for element in report.elements:
        yield from _element_problems(element)
    if report.late:
        yield f"{report.late} periods were over {LATE} times as long as they should be"
    if report.gaps:
        yield f"{report.gaps} steps have no action: nothing is learned from them"


def _element_problems(e: Element) -> Iterator[str]:
    where = f"{e.array} {e.name}"
    if e.outside:
        yield (
            f"{where}: {e.outside} values are outside {e.bound_low:g} .. "
            f"{e.bound_high:g} {e.unit}".rstrip()
        )
    if e.constant:
        yield f"{where} never changes: it is always {e.low:g}"


def plot(dataset: Dataset, path: Path) -> None:
    """Write a picture of `dataset`: lengths, returns, periods, and all elements."""
    from robostack.data.inspect_plot import plot as draw

    draw(dataset, path)
