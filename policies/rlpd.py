"""Online learning with prior data, RLPD (Ball et al., 2023; arXiv:2302.02948).

    critic       10 with layer norm; Q_k(s, a) -> reward + discount * (least of 2, drawn
                 for each update, Q_target(s', a') - t log pi(a' | s'))
    policy       maximizes mean_k Q(s, a~) - t log pi(a~ | s), every `policy_period`
                 updates of the critic
    batches      half from the data before, half from the robot: the loop's affair

It is SAC, whose update is in `_soft.py`, made to bear many updates per step of the
robot: layer norm bounds what critics say of actions that nobody tried, the ensemble
keeps them from agreeing on it. A loop that takes as many updates per step as
`policy_period` does what the authors' code does: that many of the critic on batches of
their own, and one of policy and temperature, here on the first of them.

Where we differ from the paper, and what it changes:
- The policy is updated on the first batch of a step's, theirs on the last: at updates
  0, 20, ... of the critic in place of 19, 39, ... Not measured.
- WSRL's targets on AntMaze, the best of several actions of the policy, are not here
  (`max_backup` of cal_ql.py has them offline). Not measured.
- Actions are learned in units of the robot's own bounds, or as small steps from where
  the robot is (`action_frame = "delta"`). On benchmarks with actions in [-1, 1] the
  former changes nothing.
- Weights begin orthogonal, the policy's last ones near 0; see sac.py.
"""

from __future__ import annotations

from typing import Literal

from ._soft import SoftConfig, SoftLearner

NEEDS_REWARD = True
ONLINE = True  # learns by acting; a fixed dataset alone leads it astray


class Config(SoftConfig, frozen=True, forbid_unknown_fields=True):
    """Hyperparameters of RLPD; the defaults are the authors' for locomotion."""

    target_entropy: float = -0.5  # [nats per action element], actions within [-1, 1]
    least_of: int = 2  # of the critics; 1 for sparse mazes
    policy_critic: Literal["least", "mean"] = "mean"  # of all; what the policy seeks
    policy_period: int = 20  # updates of the critic per update of the policy
    critics: int = 10
    layer_norm: bool = True  # in the critic


class Learner(SoftLearner[Config]):
    """The networks of RLPD and their update."""
