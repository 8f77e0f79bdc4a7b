"""D4RL's normalized score: 0 is a random policy, 100 the reference expert.

Only for returns of the very tasks that D4RL names, whose reference constants these
are. Other worlds and data sets, even of the same robot, have returns and nothing else.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from robostack import plugins


class ScoreError(LookupError):
    """A task that D4RL has no reference scores for."""

    def __str__(self) -> str:
        """Return the sentence without the quotes that LookupError may add."""
        return str(self.args[0])


class Reference(NamedTuple):
    """Mean returns that a task's scores are relative to."""

    random: float
    expert: float


_LEVELS = "random|medium|expert|medium-replay|full-replay|medium-expert"
_HANDS = "(human|cloned|expert|human-longhorizon)-v[01]"

_EXAMPLES = (
    "hopper-medium-v2",
    "antmaze-umaze-v2",
    "pen-human-v1",
    "maze2d-umaze-v1",
)

_REFERENCES = {  # pattern of the names -> constants of d4rl/infos.py
    rf"halfcheetah-({_LEVELS})-v[012]": Reference(-280.178953, 12135.0),
    rf"hopper-({_LEVELS})-v[012]": Reference(-20.272305, 3234.3),
    rf"walker2d-({_LEVELS})-v[012]": Reference(1.629008, 4592.3),
    rf"ant-({_LEVELS})-v[012]": Reference(-325.6, 3879.7),
    r"antmaze-(umaze(-diverse)?|(medium|large)-(play|diverse))-v[012]": Reference(
        0.0, 1.0
    ),
    r"kitchen-(complete|partial|mixed)-v0": Reference(0.0, 4.0),
    rf"pen-{_HANDS}": Reference(96.262799, 3076.8331017826877),
    rf"hammer-{_HANDS}": Reference(-274.856578, 12794.134825156867),
    rf"door-{_HANDS}": Reference(-56.512833, 2880.5693087298737),
    rf"relocate-{_HANDS}": Reference(-6.425911, 4233.877797728884),
    r"maze2d-open-v0": Reference(0.01, 20.66),
    r"maze2d-umaze-v1": Reference(23.85, 161.86),
    r"maze2d-medium-v1": Reference(13.13, 277.39),
    r"maze2d-large-v1": Reference(6.7, 273.99),
    r"maze2d-open-dense-v0": Reference(11.17817, 27.166538620695782),
    r"maze2d-umaze-dense-v1": Reference(68.537689, 193.66285642381482),
    r"maze2d-medium-dense-v1": Reference(44.264742, 297.4552547777125),
    r"maze2d-large-dense-v1": Reference(30.569041, 303.4857382709002),
}


def reference(task: str) -> Reference:
    """Return the reference returns of a D4RL task such as hopper-medium-v2."""
    for pattern, constants in _REFERENCES.items():
        if re.fullmatch(pattern, task):
            return constants
    raise ScoreError(
        plugins.unknown("a D4RL task (or one named likewise)", task, list(_EXAMPLES))
    )


def normalized(task: str, returns: float) -> float:
    """Return the normalized score [percent] of a mean undiscounted return."""
    low, high = reference(task)
    return 100.0 * (returns - low) / (high - low)
