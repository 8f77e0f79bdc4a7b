"""Fitted Q evaluation: the critic of a policy that never acted, learned from logs.

    critic   Q(s, a) -> reward + discount * Q_target(s', pi(s'))
    value    mean of Q(s_0, pi(s_0)) over the first observations of episodes

Le, Voloshin and Yue, 2019 (arXiv:1903.08738), algorithm 3; with minibatches and a slow
target network as in Voloshin et al., 2021 (arXiv:1911.06854). The discount is data: 0
where an episode terminated, gamma also where it was truncated.

All policies and seeds are members of one ensemble, and see the same batches: one
training judges them all, and what chance there is in batches is common to them. Every
seed weighs episodes by its own exponential weights (the Bayesian bootstrap; Rubin,
1981), so that the spread over seeds tells what other logs would have said. With one
seed episodes weigh the same, and the interval knows of the first observations alone.

Critics begin at what the logs earned, which every seed learns once, for all policies.
An iteration moves what is known by one step; from there, what has to be learned is how
a policy differs, and not also what a thousand steps are worth. Of where they began,
exp(-updates * target_rate * (1 - gamma)) is still in them at the end.

Asked about an action that no log holds, a critic makes something up, and the next
target believes it. So where a policy does what hardly anybody did (`rare`), its future
is taken to be the least that a return can be: the filter of marginalized behaviour
supported policy evaluation (Liu, Swaminathan, Agarwal and Brunskill, 2020,
arXiv:2007.08202), by the density of `_support.py`. What is told is then what a policy
earns until it leaves the logs: low for one that often does, however well it might do
there. `rare = 0` asks critics about everything, as plain fitted Q evaluation does.

Where we differ from the papers: regression is by gradient steps towards a moving
target, not to convergence again and again; targets are limited to what rewards within
the range of the data can add up to, which a true value never leaves, so all this
changes is that no critic diverges; the filter asks for the density of the action alone,
since states that critics are asked about are the logs' own; and what it leaves out is
worth the least possible return, not 0, which would be a reward where steps cost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import torch
from torch import Tensor

from robostack.learner import LearnerError
from robostack.spec import float32
from robostack.training.ope import (
    Candidate,
    Estimate,
    Evidence,
    Numbers,
    Options,
)

from .._checks import check_reward
from .._learner import adam, cosine, make_device, minimize
from .._nets import Critic, polyak_update
from ._logs import Scale, ask, intervals, weights
from ._support import Fitting, Support, learn

_TICK = 100  # updates between two reports


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hyperparameters of fitted Q evaluation."""

    regression_updates: int = 3_000  # towards what the logs earned, to begin with
    updates: int = 6_000
    batch_size: int = 256
    learning_rate: float = 1e-3  # falls to 0 by a cosine
    target_rate: float = 0.25  # Polyak averaging of the target critic, per update
    hidden: tuple[int, ...] = (128, 128)
    layer_norm: bool = True
    rare: float = 0.001  # share of logged actions too rare to count as held; 0: all do
    density_updates: int = 6_000  # of what tells which actions are held
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Refuse what no estimate could mean."""
        if min(self.updates, self.batch_size) < 1 or not 0 < self.target_rate <= 1:
            raise LearnerError(
                f"expected updates and batch_size of at least 1 and 0 < target_rate "
                f"<= 1, got {self.updates}, {self.batch_size} and {self.target_rate}"
            )
        if not 0 <= self.rare < 1 or self.density_updates < 1:
            raise LearnerError(
                f"expected 0 <= rare < 1 and density_updates of at least 1, got "
                f"{self.rare} and {self.density_updates}"
            )


class Columns(NamedTuple):
    """The evidence as critics see it, on their device; P policies, S seeds."""

    observation: Tensor  # (N, O), standardized
    action: Tensor  # (N, A), bounds at -1 and 1
    reward: Tensor  # (N,), scaled
    discount: Tensor  # (N,)
    after: Tensor  # (N, O)
    mc_return: Tensor  # (N,), of the logs, scaled
    next_action: Tensor  # (P, N, A), of the policies that are judged
    held: Tensor  # (P, N) whether the logs hold them
    weight: Tensor  # (S, N), of the episode that each is of; 1 in the mean


def estimate(
    evidence: Evidence,
    candidates: Sequence[Candidate],
    config: Config,
    options: Options,
    report: Callable[[int, int], None],
) -> list[Estimate]:
    """Judge all candidates in one training."""
    values = start_values(evidence, candidates, config, options, report)
    lows, highs = intervals(values, options)
    points = values.mean((1, 2))
    rows = zip(candidates, points, lows, highs, strict=True)
    return [Estimate(c.name, "fqe", float(v), lo, hi, None) for c, v, lo, hi in rows]


def start_values(
    evidence: Evidence,
    candidates: Sequence[Candidate],
    config: Config,
    options: Options,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Numbers:
    """Return the values (P, S, E) of the first observations, say S fits."""
    check_reward(evidence.transitions)
    device = make_device(config.device)
    rng = np.random.default_rng(options.seed)
    scale = Scale.of(evidence)
    columns = _columns(evidence, candidates, options, scale, rng)
    columns = Columns(*(column.to(device) for column in columns))
    support = _support(evidence, scale, config, options.seed)
    if support:
        held = support.holds(columns.after, columns.next_action)
        columns = columns._replace(held=held)
    critic = fit(columns, scale, config, options.seed, report)
    first = np.stack([ask(c, evidence.starts, options, rng) for c in candidates])
    observation = torch.from_numpy(scale.observation(evidence.starts)).to(device)
    action = torch.from_numpy(scale.action(first)).to(device)
    with torch.inference_mode():
        q = critic.q(*_pairs(observation, action, options.seeds))  # (P * S, E)
    shape = (len(candidates), options.seeds, len(evidence.starts))
    if support:
        held = support.holds(observation, action).repeat_interleave(options.seeds, 0)
        q = q.where(held, scale.low)
    values: Numbers = q.view(shape).cpu().numpy().astype(np.float64) * scale.returns
    return values


def fit(
    columns: Columns,
    scale: Scale,
    config: Config,
    seed: int,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Critic:
    """Return the critics (P * S,) of the policies."""
    device = columns.reward.device
    rng = torch.Generator(device).manual_seed(seed)
    policies, seeds = len(columns.next_action), len(columns.weight)
    inputs = columns.observation.shape[1] + columns.action.shape[1]
    sizes, norm = (inputs, *config.hidden, 1), config.layer_norm
    behaviour = Critic(sizes, rng, lead=(seeds,), norm=norm)
    regress(behaviour, columns, config, rng)
    critic, target = (
        Critic(sizes, rng, lead=(policies * seeds,), norm=norm) for _ in range(2)
    )
    for net in (critic, target):
        _copy(net, behaviour, policies)
    target.requires_grad_(False)
    optimizer = adam([critic], config.learning_rate)
    for update in range(config.updates):
        rows = _rows(columns, config, rng)
        td_target = teach(target, columns, rows, scale)
        weight = columns.weight[:, rows].repeat(policies, 1)
        qs = critic.q(columns.observation[rows], columns.action[rows])
        rate = cosine(config.learning_rate, update, config.updates)
        optimizer.param_groups[0]["lr"] = rate
        minimize(weighted_loss(qs, td_target, weight), optimizer)
        polyak_update(target, critic, config.target_rate)
        if update % _TICK == 0:
            report(update, config.updates)
    return critic


def regress(
    behaviour: Critic, columns: Columns, config: Config, rng: torch.Generator
) -> None:
    """Teach critics (S,) what the logs earned from each step on."""
    optimizer = adam([behaviour], config.learning_rate)
    for update in range(config.regression_updates):
        rows = _rows(columns, config, rng)
        qs = behaviour.q(columns.observation[rows], columns.action[rows])
        rate = cosine(config.learning_rate, update, config.regression_updates)
        optimizer.param_groups[0]["lr"] = rate
        loss = weighted_loss(qs, columns.mc_return[rows], columns.weight[:, rows])
        minimize(loss, optimizer)


@torch.no_grad()
def _copy(critic: Critic, behaviour: Critic, policies: int) -> None:
    """Let `critic` (P * S,) begin where `behaviour` (S,) is."""
    pairs = zip(critic.parameters(), behaviour.parameters(), strict=True)
    for mine, learned in pairs:
        mine.copy_(learned.repeat(policies, 1, 1))


def _rows(columns: Columns, config: Config, rng: torch.Generator) -> Tensor:
    size, shape = len(columns.reward), (config.batch_size,)
    return torch.randint(size, shape, generator=rng, device=rng.device)


@torch.no_grad()
def teach(target: Critic, columns: Columns, rows: Tensor, scale: Scale) -> Tensor:
    """Return what critics should say (P * S, B) at `rows` (B,)."""
    after, action = columns.after[rows], columns.next_action[:, rows]
    future = target.q(*_pairs(after, action, len(columns.weight)))
    held = columns.held[:, rows].repeat_interleave(len(columns.weight), 0)
    future = future.where(held, scale.low)
    td_target = columns.reward[rows] + columns.discount[rows] * future
    return td_target.clamp_(scale.low, scale.high)


def weighted_loss(qs: Tensor, td_target: Tensor, weight: Tensor) -> Tensor:
    """Squared TD error of every member, its episodes weighted; all (P * S, B)."""
    return (weight * (qs - td_target).square()).mean(-1).sum()


def _pairs(observation: Tensor, action: Tensor, seeds: int) -> tuple[Tensor, Tensor]:
    """Return `observation` (B, O) and `action` (P, B, A) of all members (P * S)."""
    action = action.repeat_interleave(seeds, dim=0)
    return observation.expand(len(action), *observation.shape), action


def _support(
    evidence: Evidence, scale: Scale, config: Config, seed: int
) -> Support | None:
    """Return what tells which actions the logs hold, if that is asked for."""
    if not config.rare:
        return None
    fitting = Fitting(
        updates=config.density_updates,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        hidden=config.hidden,
        rare=config.rare,
    )
    rng = torch.Generator(make_device(config.device)).manual_seed(seed)
    return learn(evidence, scale, fitting, rng)


def _columns(
    evidence: Evidence,
    candidates: Sequence[Candidate],
    options: Options,
    scale: Scale,
    rng: np.random.Generator,
) -> Columns:
    batch = evidence.transitions
    assert batch.mc_return is not None
    asked = [ask(c, batch.next_observation, options, rng) for c in candidates]
    weight = weights(options.seeds, len(evidence.starts), rng)
    next_action = scale.action(np.stack(asked))
    arrays = {
        "observation": scale.observation(batch.observation),
        "action": scale.action(batch.action),
        "reward": batch.reward / np.float32(scale.returns),
        "discount": batch.discount,
        "after": scale.observation(batch.next_observation),
        "mc_return": batch.mc_return / np.float32(scale.returns),
        "next_action": next_action,
        "weight": weight[:, evidence.episode],
    }
    tensors = {k: torch.from_numpy(float32(v)) for k, v in arrays.items()}
    held = torch.ones(next_action.shape[:2], dtype=torch.bool)
    return Columns(**tensors, held=held)
