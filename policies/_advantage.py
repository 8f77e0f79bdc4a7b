"""How much better the data's actions are: as IQL says it, and as AWAC does.

    by_values    Q(s, a) - V(s), by a value function of the data alone
    by_samples   Q(s, a) - Q(s, a~),  a~ ~ policy
    fit_value    V(s) -> expectile of min_k Q_target(s, a), which comes before by_values

Algorithms that weight the data's actions by it differ in what else they do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ._learner import Inputs, minimize
from ._losses import value_loss
from ._nets import Critic, Mlp


class Judgement(NamedTuple):
    """What critics say of a batch; nothing here has a gradient."""

    advantage: Tensor  # (B,) of the data's actions
    value: Tensor  # (B,) of the states
    td_target: Tensor  # (B,)


class Valued(NamedTuple):
    """What a step of a value function saw."""

    q: Tensor  # (B,) the least target's, of the data's actions
    value: Tensor  # (B,) before the step
    loss: Tensor  # ()


def fit_value(
    value: Mlp,
    target: Critic,
    inputs: Inputs,
    adam: torch.optim.Optimizer,
    expectile: float,
) -> Valued:
    """Take a step of IQL's value function: equation 5 of arXiv:2110.06169."""
    with torch.no_grad():
        q = target.q(inputs.observation, inputs.action).amin(-2)
    v = value(inputs.observation).squeeze(-1)
    loss = value_loss(q, v, expectile)
    minimize(loss, adam)
    return Valued(q, v, loss)


@torch.no_grad()
def by_values(value: Mlp, q: Tensor, inputs: Inputs) -> Judgement:
    """Judge actions of worth `q` (B,) by the value function, which is that of IQL."""
    here, after = value(inputs.observations).squeeze(-1).chunk(2, -1)
    return Judgement(q - here, here, inputs.td_target(after))


@torch.no_grad()
def by_samples(
    critics: tuple[Critic, Critic],
    qs: Tensor,
    inputs: Inputs,
    policy: Callable[[Tensor], Tensor],
    samples: int,
) -> Judgement:
    """Judge actions of worth `qs` (K, B) by those of the policy, as AWAC does.

    Args:
        critics: and their targets.
        qs: what the critics say of the data's actions.
        inputs: the batch.
        policy: draws actions (B, A) at observations (B, O).
        samples: of the policy, for the value of a state.
    """
    critic, target = critics
    here, after = inputs.observations.chunk(2, -2)
    td_target = inputs.td_target(target.q(after, policy(after)).amin(-2))
    drawn = [critic.q(here, policy(here)).amin(-2) for _ in range(samples)]
    value = torch.stack(drawn).mean(0)
    return Judgement(qs.amin(-2) - value, value, td_target)
