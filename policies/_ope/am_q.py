"""AM-Q: what a policy is worth in a learned model; a score to rank policies by.

    fit      the critics of IQL and an ensemble of models, from the logs  (`_judge.py`)
    imagine  H steps of the policy in the model, from first observations of episodes
    value    mean of min_k Q along the way

Lei et al., 2024 (arXiv:2311.03351), section 3.3. Critics are fitted once, whoever is
judged: they tell what somebody who does nearly what the logs do would still earn from
where the policy has come to. So the value is **no** return: hold it against those of
other policies from the same logs, not against the truth, nor against `fqe`. A policy
that leaves the logs is judged by a model and critics that know nothing there.

Every fit draws transitions as often as its own exponential weights of episodes say (the
Bayesian bootstrap; Rubin, 1981), so that the spread over `seeds` tells what other logs
would have said. All policies are judged by the same fits, starts and luck.

Where we differ from the paper: imagined episodes begin where episodes of the logs did,
not at any of their observations, since that is where a policy will have to begin; steps
after an end count as 0 (`count_ended = false` leaves them out, as the authors do, and
ending early costs nothing); starts weigh the same, and not by how long they lived.
Neither was measured.
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
from robostack.training.ope import Candidate, Estimate, Evidence, Numbers, Options

from .._checks import check_reward
from .._dynamics import Dynamics, dynamics_adam, held_out
from .._judge import Critics, fit_dynamics, imagine
from .._learner import Inputs, adam, make_device
from .._nets import Critic, Mlp
from ._logs import Scale, ask, intervals, weights

_TICK = 100  # updates between two reports
_CRITICS = 2


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hyperparameters of AM-Q."""

    updates: int = 10_000  # of critics and models alike
    batch_size: int = 256
    expectile: float = 0.7  # of the value function; 0.5 judges by what the logs did
    target_rate: float = 0.005  # Polyak averaging of the target critic, per update
    learning_rate: float = 3e-4  # of the critics
    dynamics_rate: float = 1e-3
    weight_decay: float = 1e-4  # of the last layer of the models; less before
    models: int = 5  # members of the dynamics
    elites: int = 3  # of them, that are asked
    holdout: float = 0.1  # share of the transitions that choose the elites
    horizon: int = 200  # H [steps]; shorten it where values explode
    starts: int = 510  # imagined episodes, dealt out to the elites
    count_ended: bool = True  # imagined steps after an end count as 0
    hidden: tuple[int, ...] = (128, 128)  # of critics and models
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Refuse what no estimate could mean."""
        if min(self.updates, self.batch_size, self.horizon) < 1:
            raise LearnerError(
                f"expected updates, batch_size and horizon of at least 1, got "
                f"{self.updates}, {self.batch_size} and {self.horizon}"
            )
        if not 0 < self.elites <= min(self.models, self.starts):
            raise LearnerError(
                f"expected 0 < elites <= models and starts, got {self.elites}, "
                f"{self.models} and {self.starts}"
            )


class Columns(NamedTuple):
    """The evidence as networks see it, on their device."""

    observation: Tensor  # (N, O), standardized
    after: Tensor  # (N, O)
    action: Tensor  # (N, A), bounds at -1 and 1
    reward: Tensor  # (N,), scaled
    discount: Tensor  # (N,)
    kept: Tensor  # (N,) 1 for the models to learn from, 0 held out

    def inputs(self, rows: Tensor) -> Inputs:
        """Return the transitions of `rows` (B,)."""
        here, after = self.observation[rows], self.after[rows]
        action, reward, discount = (x[rows] for x in self[2:5])
        return Inputs(torch.cat((here, after)), here, action, reward, discount)


class Judge(NamedTuple):
    """One fit."""

    critics: Critics
    dynamics: Dynamics


def estimate(
    evidence: Evidence,
    candidates: Sequence[Candidate],
    config: Config,
    options: Options,
    report: Callable[[int, int], None],
) -> list[Estimate]:
    """Judge all candidates by the same fits."""
    check_reward(evidence.transitions)
    rng, scale = np.random.default_rng(options.seed), Scale.of(evidence)
    columns = _columns(evidence, config, scale)
    starts = _starts(evidence, config, scale, rng).to(columns.reward.device)
    total = options.seeds * config.updates
    values = []
    for seed, weight in enumerate(weights(options.seeds, len(evidence.starts), rng)):

        def done(update: int, before: int = seed * config.updates) -> None:
            report(before + update, total)

        chance = weight[evidence.episode].cumsum()
        judge = fit(columns, chance, config, options.seed + seed, done)
        values.append(
            [worth(judge, c, starts, scale, config, options) for c in candidates]
        )
    found: Numbers = np.swapaxes(np.array(values), 0, 1)  # (P, S, E)
    lows, highs = intervals(found, options)
    rows = zip(candidates, found.mean((1, 2)), lows, highs, strict=True)
    return [Estimate(c.name, "am_q", float(v), lo, hi, None) for c, v, lo, hi in rows]


def fit(
    columns: Columns,
    chance: Numbers,
    config: Config,
    seed: int,
    report: Callable[[int], None] = lambda update: None,
) -> Judge:
    """Return critics and models; `chance` (N,) adds up how often a row is drawn."""
    device = columns.reward.device
    rng = torch.Generator(device).manual_seed(seed)
    judge = _make(columns, config, rng)
    adams: dict[str, torch.optim.Optimizer] = {
        "value": adam([judge.critics.value], config.learning_rate),
        "critic": adam([judge.critics.critic], config.learning_rate),
    }
    model_adam = dynamics_adam(
        judge.dynamics, config.dynamics_rate, config.weight_decay
    )
    summed = torch.from_numpy(chance / chance[-1]).to(device)
    for update in range(config.updates):
        drawn = torch.rand(
            config.batch_size, generator=rng, device=device, dtype=summed.dtype
        )
        rows = torch.searchsorted(summed, drawn)
        inputs = columns.inputs(rows)
        judge.critics.fit(
            inputs,
            adams,
            expectile=config.expectile,
            target_rate=config.target_rate,
        )
        fit_dynamics(judge.dynamics, inputs, columns.kept[rows], model_adam, update)
        if update % _TICK == 0:
            report(update)
    return judge


def worth(
    judge: Judge,
    candidate: Candidate,
    starts: Tensor,
    scale: Scale,
    config: Config,
    options: Options,
) -> Numbers:
    """Return the mean Q (E,) that `candidate` meets from each of `starts` (K, E/K, O).

    K elites have E / K starts each.
    """
    device, (critics, dynamics) = starts.device, judge
    elites = dynamics.elites(config.elites)
    luck = torch.Generator(device).manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)

    def act(state: Tensor) -> Tensor:
        seen = scale.raw(state.flatten(0, -2).cpu().numpy())
        action = scale.action(ask(candidate, seen, options, rng))
        return torch.from_numpy(action).to(device).view(*state.shape[:-1], -1)

    total, steps = imagine(
        act,
        critics.q,
        lambda state, action: dynamics.step(state, action, elites, luck),
        starts[None],
        config.horizon,
    )
    mean = total / (config.horizon if config.count_ended else steps)
    values: Numbers = mean.flatten().cpu().numpy().astype(np.float64)
    return values * scale.returns


def _make(columns: Columns, config: Config, rng: torch.Generator) -> Judge:
    size, actions = columns.observation.shape[1], columns.action.shape[1]
    sizes, lead = (size + actions, *config.hidden, 1), (_CRITICS,)
    critic, target = (Critic(sizes, rng, lead=lead) for _ in range(2))
    target.load_state_dict(critic.state_dict())
    target.requires_grad_(False)
    value = Mlp((size, *config.hidden, 1), rng)
    dynamics = Dynamics(
        config.hidden,
        actions,
        rng,
        members=config.models,
        mean=torch.zeros(size),
        std=torch.ones(size),
    )
    return Judge(Critics(value, critic, target), dynamics)


def _columns(evidence: Evidence, config: Config, scale: Scale) -> Columns:
    batch, device = evidence.transitions, make_device(config.device)
    arrays = (
        scale.observation(batch.observation),
        scale.observation(batch.next_observation),
        scale.action(batch.action),
        batch.reward / np.float32(scale.returns),
        batch.discount,
        ~held_out(batch.observation, batch.action, config.holdout),
    )
    return Columns(*(torch.from_numpy(float32(array)).to(device) for array in arrays))


def _starts(
    evidence: Evidence, config: Config, scale: Scale, rng: np.random.Generator
) -> Tensor:
    """Return first observations (K, E, O) for K elites, again and again if few."""
    each = config.starts // config.elites
    order = rng.permutation(len(evidence.starts))
    chosen = evidence.starts[np.resize(order, each * config.elites)]
    starts = torch.from_numpy(float32(scale.observation(chosen)))
    return starts.view(config.elites, each, -1)
