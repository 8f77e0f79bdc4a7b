"""Batches that no algorithm can learn from are refused, naming the column."""

from __future__ import annotations

import numpy as np

from robostack.learner import Batch, LearnerError
from robostack.spec import Array, RobotSpec

_MAYBE_UNKNOWN = ("reward", "mc_return")  # where nobody labelled rewards


def check(spec: RobotSpec, batch: Batch, lead: tuple[int, ...] = ()) -> None:
    """Raise LearnerError if `batch` is misshapen, or not finite but for its rewards.

    Its columns begin with the axes `lead`.
    """
    rows = (*lead, batch.reward.shape[len(lead)])
    observed, acted = (*rows, spec.observation_size), (*rows, spec.action.size)
    shapes = [observed, acted, rows, rows, observed, rows, rows]
    for name, column, shape in zip(batch._fields, batch, shapes, strict=True):
        if column is None:
            continue
        if column.shape != shape:
            raise LearnerError(
                f"expected {name} of shape {shape} in a batch for {spec.name}, "
                f"got {column.shape}"
            )
        if name not in _MAYBE_UNKNOWN and not np.isfinite(column).all():
            raise LearnerError(f"not finite in a batch: {_bad(spec, name, column)}")


def check_return(batch: Batch) -> Array:
    """Return the Monte-Carlo returns (B,) of `batch`; raise if they are not known."""
    if batch.mc_return is None or not np.isfinite(batch.mc_return).all():
        raise LearnerError(
            "expected finite returns-to-go in a batch, got none or not finite: "
            "mc_return; a replay over whole episodes with rewards gives them"
        )
    return batch.mc_return


def check_reward(batch: Batch) -> None:
    """Raise LearnerError if a reward is not finite."""
    if not np.isfinite(batch.reward).all():
        raise LearnerError(
            "not finite in a batch: reward; label the dataset first "
            "(robostack data label), or use an algorithm that needs no rewards"
        )


def _bad(spec: RobotSpec, name: str, column: Array) -> str:
    """Return the names of the elements of `column` that are not finite."""
    if name == "action":
        names = list(spec.action.names)
    elif name.endswith("observation"):
        arrays = spec.observation.items()
        names = [f"{array} {n}" for array, elements in arrays for n in elements.names]
    else:
        return name
    bad = np.flatnonzero(~np.isfinite(column).reshape(-1, len(names)).all(axis=0))
    return ", ".join(f"{name} {names[i]}" for i in bad)
