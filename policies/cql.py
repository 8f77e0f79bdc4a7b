"""Conservative Q-learning, CQL(H) (Kumar et al., 2020; arXiv:2006.04779).

    critic   Q_k(s, a) -> reward + discount * min_k Q_target(s', a'),  a' ~ policy;
             and alpha * (log sum_a exp Q_k(s, a) - Q_k(s, a_data)) is kept small
    policy   maximizes min_k Q(s, a~) - t log pi(a~ | s),  a~ ~ policy
    target   follows the critic, a little per update

The update is that of `_conservative.py`. With a `gap`, alpha is scaled by a multiplier
that grows while the penalty is above it (appendix F). Going on online is
the same update on a growing replay.

Where we differ from the paper, and what it changes:
- The third proposal is the policy at the next state, as in the authors' code; where an
  episode terminated, that at the present state again.
- No cloning in the first steps unless asked for (`cloning_steps`), as in the paper; the
  authors' code clones for 40,000 updates, of a million.
- The penalty is not cut off below -200, as Cal-QL's authors do for mazes.
- `gradient_samples` (off) takes the penalty's gradient at a few drawn actions: without
  bias, with more noise.
- Critics have two layers, as in most later implementations; the authors' have three
  (`critic_hidden`). Not measured.
- Actions are learned in units of the robot's own bounds, or as small steps from where
  the robot is (`action_frame = "delta"`). On benchmarks with actions in [-1, 1] the
  former changes nothing.
"""

from __future__ import annotations

from ._conservative import ConservativeConfig, ConservativeLearner

NEEDS_REWARD = True


class Config(ConservativeConfig, frozen=True, forbid_unknown_fields=True):
    """Hyperparameters of CQL; the defaults are the authors' code's for locomotion."""


class Learner(ConservativeLearner[Config]):
    """The networks of CQL and their update."""
