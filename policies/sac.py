"""Soft actor-critic, automatic temperature (Haarnoja et al., 2018; arXiv:1812.05905).

    critic       Q_k(s, a) -> reward + discount * (min Q_target(s', a') - t log pi(a'))
    policy       maximizes min_k Q(s, a~) - t log pi(a~ | s),  a~ ~ policy
    temperature  t grows while the entropy of the policy is below -1 per action element
    target       follows the critic, a little per update

For learning by acting: from a fixed dataset alone it trusts what its critics say of
actions that nobody tried. The update is that of `_soft.py`.

Of what a state that goes on and on is worth, exp(-updates * target_rate * (1 - gamma))
is not yet in the critics: by the paper's 0.005 and 0.99 that is 86 % after 3,000
updates, and 5 % after 60,000. A short run needs a faster target.

Where we differ from the paper, and what it changes:
- Actions are learned in units of the robot's own bounds, or as small steps from where
  the robot is (`action_frame = "delta"`). Entropies are of actions in these units. On
  benchmarks with actions in [-1, 1] the former changes nothing.
- Weights begin orthogonal, and the policy's last ones near 0, so that it begins as a
  tanh of a standard normal. From torch's uniform weights learning begins later: returns
  of Pendulum after 3,000 steps -169 ± 4 from ours and -634 ± 368 from those, networks
  of 64-64 (benchmarks/differences.py). What is left of it after long runs was not
  measured.
"""

from __future__ import annotations

from ._soft import SoftConfig, SoftLearner

NEEDS_REWARD = True
ONLINE = True  # learns by acting; a fixed dataset alone leads it astray


class Config(SoftConfig, frozen=True, forbid_unknown_fields=True):
    """Hyperparameters of SAC; the defaults are the paper's."""


class Learner(SoftLearner[Config]):
    """The networks of SAC and their update."""
