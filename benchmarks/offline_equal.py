"""IQL here against d3rlpy's, from its first weights and on its batches, in float64.

    python benchmarks/offline_equal.py --d3rlpy d3/bin/python --work RUNS

For every network, the root mean square difference of what the two answer to 1000
logged samples, after some updates. Rows are how far ours is brought into line:

    aligned    d3rlpy's order (V(s') before V's step), its log-std (within bounds by a
               sigmoid), and no action clipped to 1 - 1e-5: the rest must be the same
    noise      aligned, but one layer of V is off by a factor of 1 + 1e-7
    order, log-std, clip      aligned but for this one thing, which is as we have it

RUNS is where offline.py left its arrays.
"""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from offline_plan import THEIRS, load_spec
from torch import Tensor

from robostack.learner import Statistics
from robostack.policies import iql
from robostack.policies._codec import EDGE
from robostack.policies._learner import minimize
from robostack.policies._losses import (
    cloning_loss,
    critic_loss,
    limited_weight,
    value_loss,
)
from robostack.policies._nets import LOG_STD_HIGH, LOG_STD_LOW, GaussianPolicy, Mlp
from robostack.policies._nets import polyak_update as follow

TRACED, STEPS = (1, 10, 100, 1000), 1000  # as in offline_theirs.py
GAMMA = 0.99


class Way(NamedTuple):
    """What is as d3rlpy has it."""

    order: bool = True
    log_std: bool = True
    unclipped: bool = True
    noise: float = 0.0  # of the first layer of V, relative


WAYS = {
    "aligned": Way(),
    "noise": Way(noise=1e-7),
    "order": Way(order=False),
    "log-std": Way(log_std=False),
    "clip": Way(unclipped=False),
}


class Sigmoid(GaussianPolicy):
    """d3rlpy's bounds of the log-std."""

    @property
    def log_std(self) -> Tensor:
        """Logarithm of the spread."""
        span = LOG_STD_HIGH - LOG_STD_LOW
        return LOG_STD_LOW + span * torch.sigmoid(self.raw_log_std)


class Aligned(iql.Learner):
    """Our learner, brought into line; batches are tensors."""

    way: Way

    def update(self, batch: tuple[Tensor, ...]) -> None:
        """Update as `iql.Learner` does, but for what `way` says."""
        o, a, reward, discount, after = batch
        a = a if self.way.unclipped else a.clamp(-EDGE, EDGE)
        pair, config = torch.cat((o, a), dim=-1), self._config
        with torch.no_grad():
            q = self.target(pair).squeeze(-1).amin(0)
            before = self.value(after).squeeze(-1)
        v = self.value(o).squeeze(-1)
        minimize(value_loss(q, v, config.expectile), self._value_adam)
        with torch.no_grad():
            now = self.value(after).squeeze(-1)
            td_target = reward + discount * (before if self.way.order else now)
            advantage = q - self.value(o).squeeze(-1)
        beta, most = config.inverse_temperature, config.max_weight
        weight = limited_weight(advantage, beta, most)
        pi_loss = cloning_loss(self.policy.log_prob(o, a), weight)
        q_loss = critic_loss(self.critic(pair).squeeze(-1), td_target)
        self._adam.param_groups[0]["lr"] = self._actor_rate()
        minimize(pi_loss + q_loss, self._adam)
        follow(self.target, self.critic, config.target_rate)
        self._updates += 1

    @torch.no_grad()
    def answers(self, o: Tensor, a: Tensor) -> dict[str, Tensor]:
        """Return what all networks say."""
        pair = torch.cat((o, a), dim=-1)
        return {
            "mean": self.policy(o),
            "log_std": self.policy.log_std,
            "value": self.value(o).squeeze(-1),
            "critic": self.critic(pair).squeeze(-1),
            "target": self.target(pair).squeeze(-1),
        }


def make(way: Way, there: dict[str, np.ndarray]) -> Aligned:
    """Return a learner with d3rlpy's first weights."""
    zero, one = np.zeros(11, np.float32), np.ones(11, np.float32)
    statistics = Statistics(zero, one, 0.0, 1.0)
    learner = Aligned(
        load_spec("medium"), iql.Config(), statistics=statistics, steps=STEPS, seed=0
    )
    learner.way = way
    for net in (learner.policy, learner.value, learner.critic, learner.target):
        net.double()
    take(learner.policy.mlp, [lambda name: there[f"weights/policy/{name}"]])
    take(learner.value, [lambda name: there[f"weights/value/{name}"]])
    for net in (learner.critic, learner.target):
        members = range(len(net.layers[0].weight))
        take(
            net, [lambda name, k=k: there[f"weights/critic{k}/{name}"] for k in members]
        )
    learner.value.layers[0].weight.data.mul_(1 + way.noise)
    if way.log_std:
        learner.policy.__class__ = Sigmoid
    return learner


def take(net: Mlp, members: list) -> None:
    """Set the weights of `net` to those of its members."""
    for i, layer in enumerate(net.layers):
        for name, param in layer.named_parameters():
            values = np.stack([member(f"{i}/{name}") for member in members])
            param.data.copy_(torch.from_numpy(values).view_as(param))


def batch(arrays: dict[str, Tensor], rows: np.ndarray) -> tuple[Tensor, ...]:
    names = "observation", "action", "reward", "terminated", "next_observation"
    o, a, reward, end, after = (arrays[name][rows].double() for name in names)
    return o, a, reward, GAMMA * (1.0 - end), after


def compare(name: str, arrays: dict[str, Tensor], there: dict[str, np.ndarray]) -> None:
    """Print a row for each of TRACED."""
    learner, rng = make(WAYS[name], there), np.random.default_rng(0)
    size = len(arrays["reward"])
    o, a, *_ = batch(arrays, rng.integers(size, size=1000))
    for step in range(1, TRACED[-1] + 1):
        learner.update(batch(arrays, rng.integers(size, size=256)))
        if step in TRACED:
            answered = learner.answers(o, a).items()
            off = [np.sqrt(np.square(x.numpy() - there[f"{step}/{n}"]).mean())
                   for n, x in answered]  # fmt: skip
            cells = " | ".join(f"{x:.0e}" for x in off)
            print(f"| {name} | {step} | {cells} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--work", type=Path, default=Path("runs/offline"))
    parser.add_argument("--set", default="medium-expert")
    parser.add_argument("--d3rlpy", type=Path, required=True)
    args = parser.parse_args()
    source, file = args.work / f"{args.set}.npz", args.work / f"trace-{args.set}.npz"
    subprocess.run([args.d3rlpy, THEIRS, "trace", source, file], check=True)
    torch.set_num_threads(1)
    arrays = {name: torch.tensor(array) for name, array in np.load(source).items()}
    there = dict(np.load(file))
    print("| ours | updates | mean | log-std | value | critic | target |")
    print("|---|---|---|---|---|---|---|")
    for name in WAYS:
        compare(name, arrays, there)


if __name__ == "__main__":
    main()
