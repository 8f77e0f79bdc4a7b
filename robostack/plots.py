"""Plots as PNG bytes, for reports; the only home of matplotlib in the kernel."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from robostack.spec import Array

_SIZE_IN, _DPI = (6.4, 3.0), 110
_STYLE = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "font.size": 9.0,
}


def curves(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]], xlabel: str
) -> bytes:
    """Return one panel a series of (x, y), side by side."""
    with mpl.rc_context(_STYLE):
        figure = Figure((3.2 * len(series), 2.6), dpi=_DPI, layout="constrained")
        panels = figure.subplots(1, len(series), squeeze=False)[0]
        for panel, (title, (x, y)) in zip(panels, series.items(), strict=True):
            panel.plot(x, y, marker="." if len(x) < 20 else "", color="#2563eb")
            panel.set(title=title, xlabel=xlabel)
        return _png(figure)


def compare(groups: Mapping[str, Array], xlabel: str) -> bytes:
    """Return histograms of several groups of numbers on one axis."""
    together = np.concatenate(list(groups.values()))
    bins = np.linspace(together.min(), together.max() + 1e-6, 31).tolist()
    with mpl.rc_context(_STYLE):
        figure = Figure(_SIZE_IN, dpi=_DPI, layout="constrained")
        panel = figure.subplots()
        for (name, values), color in zip(groups.items(), _COLORS, strict=False):
            weights = np.full(len(values), 100 / len(values))
            panel.hist(
                values, bins, weights=weights, alpha=0.6, label=name, color=color
            )
        panel.set(xlabel=xlabel, ylabel="episodes [%]")
        panel.legend()
        return _png(figure)


def timings(groups: Mapping[str, Array], xlabel: str) -> bytes:
    """Return histograms of durations, a panel each, counts on a logarithmic axis."""
    with mpl.rc_context(_STYLE):
        figure = Figure((3.2 * len(groups), 2.4), dpi=_DPI, layout="constrained")
        panels = figure.subplots(1, len(groups), squeeze=False)[0]
        for panel, (title, values) in zip(panels, groups.items(), strict=True):
            panel.hist(values, 40, color="#2563eb")
            panel.set(title=title, xlabel=xlabel, yscale="log")
        return _png(figure)


_COLORS = ("#9ca3af", "#2563eb", "#f59e0b")


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
