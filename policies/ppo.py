"""Proximal policy optimization (Schulman et al., 2017; arXiv:1707.06347).

    policy   maximizes E[min(rho A, clip(rho, 1 - e, 1 + e) A)], A by GAE
    value    V(s) -> A + V_old(s)

For learning by acting. One update learns from one whole rollout, some epochs over: its
batch holds the transitions since the last update, all of them, in their order, drawn
from the policy as it is (`act` with a generator). `_ppo.py` has the formulas, and says
how it finds the ends of episodes.

Where we differ from the paper, and what it changes:
- The spread of actions depends on the observation, and is at most 1, as in Uni-O4,
  whose policies go on with the same update.
- Actions that were cut off at the rim are taken for what was drawn. The ratio is then
  of densities at the rim; on tasks whose best actions are there it is the common
  practice, and slightly biased towards the middle. What a robot's limits then make of
  an action belongs to the world: a rollout has what was asked for.
- Value functions are clipped as in the authors' later code (`value_clip`), and gradient
  norms of policy and value are limited apart, since they share no weights.
- Observations are standardized by fixed statistics (`normalize`), never by running
  ones: those would change under a policy that is trained already.
"""

from __future__ import annotations

from typing import SupportsFloat

from robostack.learner import Batch, Statistics

from ._checks import check_reward
from ._codec import Deployed
from ._gaussian import BoundedGaussianPolicy
from ._learner import Rim, TorchLearner
from ._nets import Mlp
from ._ppo import OnPolicy, PpoConfig

NEEDS_REWARD = True
ONLINE = True  # learns by acting; a fixed dataset alone leads it astray
ON_POLICY = True  # online a batch is what its policy just did, whole and in order


class Config(PpoConfig, frozen=True, forbid_unknown_fields=True):
    """Hyperparameters of PPO; the defaults are the paper's for MuJoCo."""

    hidden: tuple[int, ...] = (64, 64)


class Learner(TorchLearner[Config]):
    """The networks of PPO and their update."""

    def _build(self, statistics: Statistics) -> None:
        spec, config, codec = self.spec, self._config, self._codec
        inputs, hidden = spec.observation_size, config.hidden
        sizes = (inputs, *hidden, spec.action.size)
        self.policy = BoundedGaussianPolicy(sizes, self._rng)
        self.value = Mlp((inputs, *hidden, 1), self._rng)
        self._ppo = OnPolicy(self.policy, self.value, config, self._rng)
        self._adopt(
            Deployed(codec, self.policy),
            {"policy": self.policy, "value": self.value},
            {"policy": self._ppo.policy_adam, "value": self._ppo.value_adam},
        )

    def _update(self, batch: Batch) -> dict[str, SupportsFloat]:
        """Learn from one rollout: transitions in the order in which they happened."""
        check_reward(batch)
        inputs = self._inputs(batch)
        metrics = self._ppo.update(inputs, progress=self._done / self._steps)
        self._updates += 1
        return metrics | {"actions_at_rim": Rim(inputs.action)}
