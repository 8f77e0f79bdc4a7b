"""What the user says of a LeRobot robot, in a JSON file.

{"robot": {"port": "/dev/ttyACM0", "id": "left"},
 "home": {"elbow_flex": 0.5},
 "ranges": {"x.vel": {"unit": "m/s", "low": -0.3, "high": 0.3}}}
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from robostack.plugins import PluginError


class Range(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a feature is that LeRobot gives no unit for."""

    unit: str
    low: float
    high: float
    scale: float = 1.0  # ours = scale * LeRobot's


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file; all but `robot` in our units."""

    robot: dict[str, Any] = {}  # LeRobot's configuration of this type
    period_s: float = 0.05  # between two actions
    speed: float = 1.0  # [unit/s] of a target at most
    homing_speed: float = 0.5  # [unit/s] on the way home
    arrival: float = 0.1  # [unit] from home that will do
    settle_s: float = 2.0  # to get there after the last target
    home: dict[str, float] = {}  # by element; else the middle of its range
    ranges: dict[str, Range] = {}  # by feature, such as "x.vel"


def parse(argument: str) -> tuple[str, Settings]:
    """Return the type and the settings of `TYPE[@FILE]`."""
    kind, _, file = argument.partition("@")
    if not kind:
        raise PluginError(
            "expected hardware:lerobot/TYPE[@CONFIG.json], such as "
            "hardware:lerobot/so101_follower@arm.json"
        )
    if not file:
        return kind, Settings()
    path = Path(file).expanduser()
    try:
        return kind, msgspec.json.decode(path.read_bytes(), type=Settings)
    except (OSError, msgspec.DecodeError) as error:
        raise PluginError(f"cannot use {path}: {error}") from error
