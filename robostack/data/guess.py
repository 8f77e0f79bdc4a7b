"""A spec made from data alone, for logs that nobody described."""

from __future__ import annotations

from collections.abc import Sequence

from robostack.spec import Array, ArraySpec, RobotSpec


def numbered(prefix: str, size: int) -> tuple[str, ...]:
    """Return the names prefix_0, prefix_1, ..."""
    return tuple(f"{prefix}_{i}" for i in range(size))


def seen(names: Sequence[str], rows: Array) -> ArraySpec:
    """Return an array whose bounds are a little wider than what `rows` (N, n) have."""
    low, high = rows.min(axis=0).astype(float), rows.max(axis=0).astype(float)
    room = 0.1 * (high - low)
    return _unitless(names, (low - room).tolist(), (high + room).tolist())


def usual(names: Sequence[str], rows: Array) -> ArraySpec:
    """Return an array within -1 and 1 if all `rows` (N, n) are, else as they are."""
    low, high = rows.min(axis=0).astype(float), rows.max(axis=0).astype(float)
    if (low >= -1).all() and (high <= 1).all():
        return _unitless(names, [-1.0] * len(names), [1.0] * len(names))
    return _unitless(names, low.tolist(), high.tolist())


def robot(
    name: str,
    observation: dict[str, ArraySpec],
    action: ArraySpec,
    control_period_s: float,
    origin: str,
) -> RobotSpec:
    """Return a robot of which nothing but its arrays is known."""
    pairs = list(zip(action.low, action.high, strict=True))
    return RobotSpec(
        name=name,
        control_period_s=control_period_s,
        command_timeout_s=5 * control_period_s,
        control="normalized",
        tracks="",
        observation=observation,
        cameras={},
        action=action,
        home=tuple(min(max(0.0, low), high) for low, high in pairs),
        max_action_step=tuple(h - w if h > w else 1.0 for w, h in pairs),
        conventions={"origin": origin},
    )


def _unitless(
    names: Sequence[str], low: Sequence[float], high: Sequence[float]
) -> ArraySpec:
    return ArraySpec(tuple(names), ("",) * len(names), tuple(low), tuple(high))
