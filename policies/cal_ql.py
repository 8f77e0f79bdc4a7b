"""Calibrated Q-learning, Cal-QL (Nakamoto et al., 2023; arXiv:2303.05479).

    critic   that of CQL, whose penalty takes max(Q_k(s, a), return to go of the data)
             for the actions of the policy: never pushed below what the data earned

So that values keep the scale of real returns, and the first steps online do not unlearn
a policy whose values were too low. The update is that of `_conservative.py`; going on
online is the same update on a growing replay, half of each batch from the data before.
Batches need the column `mc_return`.

Where we differ from the paper, and what it changes:
- The return of a truncated episode is taken to go on at its mean reward
  (`returns_to_go` in robostack/data/transitions.py). For sparse tasks with a cost per
  step that is the authors' rule for failures; for others they sum up to where looking
  ended, which is lower where rewards are positive, and so binds less. Not measured.
- All that cql.py says of CQL.
"""

from __future__ import annotations

import torch
from torch import Tensor

from robostack.learner import Batch
from robostack.spec import float32

from ._checks import check_return
from ._conservative import ConservativeConfig, ConservativeLearner

NEEDS_REWARD = True
NEEDS_RETURN = True  # online: whole episodes, then an update for each of their steps


class Config(ConservativeConfig, frozen=True, forbid_unknown_fields=True):
    """Hyperparameters of Cal-QL; the defaults are those of CQL."""


class Learner(ConservativeLearner[Config]):
    """The networks of Cal-QL and their update."""

    def _bound(self, batch: Batch) -> Tensor:
        return torch.from_numpy(float32(check_return(batch))).to(self._device)
