"""Uneven samples on an even grid: values, slopes, and means over periods."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

WINDOW_S = 0.01  # either side of a moment, for its parabola; more where samples are few


def parabola(time_s: Values, value: Values, at_s: Values) -> tuple[Values, Values]:
    """Return value and slope (M, J) at `at_s` (M,) of local parabolas through samples.

    Each is fitted by least squares to the samples (N, J) within WINDOW_S, or within one
    and a half of the usual interval where samples are few.
    """
    window_s = max(WINDOW_S, 1.5 * float(np.median(np.diff(time_s)))) + 1e-9
    first = np.searchsorted(time_s, at_s - window_s)
    last = np.searchsorted(time_s, at_s + window_s, side="right")
    fits = np.empty((2, len(at_s), value.shape[1]))
    for i, moment in enumerate(at_s):
        rows = np.arange(first[i], last[i])
        if len(rows) < 3:
            start = np.clip(np.searchsorted(time_s, moment) - 1, 0, len(time_s) - 3)
            rows = np.arange(start, start + 3)
        near = (time_s[rows] - moment) / window_s
        powers = np.stack([np.ones_like(near), near, near**2], axis=1)
        fit = np.linalg.lstsq(powers, value[rows], rcond=None)[0]
        fits[:, i] = fit[0], fit[1] / window_s
    return fits[0], fits[1]


def period_mean(time_s: Values, value: Values, edges_s: Values) -> Values:
    """Return the means (T, J) between `edges_s` (T+1,) of lines through the samples."""
    knots = np.union1d(time_s, edges_s)
    means = np.empty((len(edges_s) - 1, value.shape[1]))
    for j, column in enumerate(value.T):
        level = np.interp(knots, time_s, column)
        area = np.diff(knots) * (level[1:] + level[:-1]) / 2
        total = np.concatenate([[0.0], np.cumsum(area)])
        means[:, j] = np.diff(np.interp(edges_s, knots, total)) / np.diff(edges_s)
    return means
