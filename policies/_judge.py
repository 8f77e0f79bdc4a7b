"""AM-Q, what a policy is worth in a learned model, and how what it reads is learned.

    value    V(s) -> expectile of min_k Q_target(s, a)
    critic   Q_k(s, a) -> reward + discount * V(s')
    model    what comes next                                          (`_dynamics.py`)
    AM-Q     mean of min_k Q_target along H steps of a policy in the model

Lei et al., 2024 (arXiv:2311.03351), section 3.3; the critics are those of IQL. Every
start follows one elite all along (TS-infinity of arXiv:1805.12114), which costs one
member's work instead of E.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, SupportsFloat

import torch
from torch import Tensor

from ._advantage import fit_value
from ._dynamics import Dynamics, Truth, holdout_rate
from ._gaussian import BoundedGaussianPolicy
from ._learner import Inputs, Mean, minimize
from ._losses import critic_loss
from ._nets import Critic, Mlp, polyak_update

Step = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]

_LUCK = 0  # seed of the draws in which all policies are judged


class Critics(NamedTuple):
    """The networks of IQL without its policy."""

    value: Mlp
    critic: Critic
    target: Critic  # follows the critic

    def fit(
        self,
        inputs: Inputs,
        adams: Mapping[str, torch.optim.Optimizer],
        *,
        expectile: float,
        target_rate: float,
    ) -> dict[str, SupportsFloat]:
        """Take a step on value function and critics by their `adams`."""
        here, after = inputs.observations.chunk(2)
        _, v, v_loss = fit_value(
            self.value, self.target, inputs, adams["value"], expectile
        )
        with torch.no_grad():
            td_target = inputs.td_target(self.value(after).squeeze(-1))
        q_loss = critic_loss(self.critic.q(here, inputs.action), td_target)
        minimize(q_loss, adams["critic"])
        polyak_update(self.target, self.critic, target_rate)
        return {"loss/value": Mean(v_loss), "loss/critic": Mean(q_loss), "v": Mean(v)}

    def q(self, observation: Tensor, action: Tensor) -> Tensor:
        """Return the least target's answer (...) at (..., O) and (..., A)."""
        last = action.dim() - 2
        q = self.target.q(observation.flatten(0, last), action.flatten(0, last))
        return q.amin(0).view(action.shape[:-1])


def fit_dynamics(
    dynamics: Dynamics,
    inputs: Inputs,
    kept: Tensor,
    adam: torch.optim.Optimizer,
    updates: int,
) -> dict[str, SupportsFloat]:
    """Take a step on the model after so many `updates`; `kept` (B,) is 0: held out."""
    here, after = inputs.observations.chunk(2)
    ended = (inputs.discount == 0).float()
    truth = Truth(dynamics.truth(here, after, ended), ended, kept)
    prediction = dynamics(here, inputs.action)
    loss = dynamics.loss(prediction, truth)
    minimize(loss, adam)
    dynamics.watch(prediction, truth, here, holdout_rate(updates))
    return {"loss/dynamics": Mean(loss), "error/dynamics": Mean(dynamics.error)}


class Imagined(NamedTuple):
    """What a policy lived through in the model, (...) as its starts."""

    total: Tensor  # of Q along the way
    steps: Tensor  # that it was alive


@torch.no_grad()
def imagine(
    policy: Callable[[Tensor], Tensor],
    q: Callable[[Tensor, Tensor], Tensor],
    step: Step,
    starts: Tensor,
    horizon: int,
) -> Imagined:
    """Return Q along `horizon` imagined steps of N policies; arguments as `am_q`."""
    alive = torch.ones(starts.shape[:-1], device=starts.device)
    total, steps, state = torch.zeros_like(alive), torch.zeros_like(alive), starts
    for _ in range(horizon):
        action = policy(state)
        total += alive * q(state, action)
        steps += alive
        state, ended = step(state, action)
        alive = alive * ~ended
    return Imagined(total, steps)


def am_q(
    policy: Callable[[Tensor], Tensor],
    q: Callable[[Tensor, Tensor], Tensor],
    step: Step,
    starts: Tensor,
    horizon: int,
    *,
    count_ended: bool = False,
) -> Tensor:
    """Return the mean Q (N,) of N policies along `horizon` imagined steps.

    Args:
        policy: actions (N, ..., A) at states (N, ..., O).
        q: their values (N, ...).
        step: the states that follow, and where the episode ended; as `Dynamics.step`.
        starts: (N, ..., O), the same for every policy.
        horizon: H [steps].
        count_ended: steps after an end count as 0; else they are left out of the mean,
            as in the authors' code, and ending early costs nothing.
    """
    total, steps = imagine(policy, q, step, starts, horizon)
    if count_ended:
        steps = torch.full_like(steps, horizon)
    return total.flatten(1).sum(-1) / steps.flatten(1).sum(-1)


class Judge(NamedTuple):
    """Critics and a model, and how they are asked."""

    critics: Critics
    dynamics: Dynamics
    elites: int
    horizon: int  # [steps]
    count_ended: bool

    def score(self, policies: BoundedGaussianPolicy, starts: Tensor) -> Tensor:
        """Return the AM-Q (N,) of `policies`; the same for the same, at any time.

        `starts` (S, O) are dealt out to the elites, each of which keeps its own.
        """
        elites = self.dynamics.elites(self.elites)
        each = len(starts) // self.elites
        dealt = starts[: each * self.elites].view(1, self.elites, each, -1)
        luck = torch.Generator(starts.device).manual_seed(_LUCK)
        return am_q(
            lambda state: policies(state.flatten(1, 2)).view(*state.shape[:-1], -1),
            self.critics.q,
            lambda state, action: self.dynamics.step(state, action, elites, luck),
            dealt.expand(policies.members, -1, -1, -1),
            self.horizon,
            count_ended=self.count_ended,
        )
