"""The picture of a dataset; imported only when one is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from robostack.data.dataset import Dataset
from robostack.data.inspect import returns

COLUMNS = 4
BINS = 50
MOST_ROWS = 50_000  # of a column that are worth drawing


def plot(dataset: Dataset, path: Path) -> None:
    """Write lengths, returns and periods, and a histogram of every element."""
    panels = [*_overview(dataset), *_elements(dataset)]
    rows = -(-len(panels) // COLUMNS)
    figure = Figure(figsize=(4 * COLUMNS, 2.6 * rows), layout="constrained")
    FigureCanvasAgg(figure)  # draws without a display
    figure.suptitle(
        f"{dataset.path.name}: {dataset.spec.name}, {len(dataset)} episodes"
    )
    for i, (title, values, bounds) in enumerate(panels):
        axes = figure.add_subplot(rows, COLUMNS, i + 1)
        axes.set_title(title, fontsize=9)
        axes.hist(values, bins=BINS, color="tab:blue")
        for bound in bounds:
            axes.axvline(bound, color="tab:red", linewidth=1)
    figure.savefig(path, dpi=80)


Panel = tuple[str, np.ndarray[Any, Any], tuple[float, ...]]


def _overview(dataset: Dataset) -> list[Panel]:
    lengths = np.array([item.length for item in dataset.episodes])
    steps = [
        np.diff(item.segment.column("time_s")[item.entry.rows])
        for item in dataset.episodes
    ]
    panels: list[Panel] = [("length [steps]", lengths, ())]
    panels += [
        (f"return, {who}", returns(dataset, who), ()) for who in dataset.labellers()
    ]
    period_s = np.concatenate(steps) if steps else np.empty(0)
    expected_s = dataset.spec.control_period_s
    panels.append(("period [s]", _thinned(period_s).round(6), (expected_s,)))
    return panels


def _elements(dataset: Dataset) -> list[Panel]:
    arrays = {f"observation.{n}": a for n, a in dataset.spec.observation.items()}
    panels = []
    for column, spec in (arrays | {"action": dataset.spec.action}).items():
        parts = [_thinned(segment.column(column)) for segment in dataset.segments]
        rows = np.concatenate(parts) if parts else np.empty((0, spec.size))
        for i, name in enumerate(spec.names):
            known = rows[np.isfinite(rows[:, i]), i]
            title = f"{name} [{spec.units[i]}]" if spec.units[i] else name
            panels.append((title, known, _near(known, spec.low[i], spec.high[i])))
    return panels


def _thinned(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return rows[:: max(1, len(rows) // MOST_ROWS)]


def _near(values: np.ndarray[Any, Any], low: float, high: float) -> tuple[float, ...]:
    """Return the bounds that do not dwarf the data."""
    if not len(values):
        return ()
    room = values.max() - values.min()
    near = (values.min() - room <= low, high <= values.max() + room)
    return tuple(b for b, close in zip((low, high), near, strict=True) if close)
