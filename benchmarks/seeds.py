"""Several seeds in one process: in turn, or as one batched axis over the seeds?

    slices       `iql` as it is, one learner after another, each by some updates: what
                 `robostack train --seeds` does
    interleaved  the same, one update each
    batched      the same networks with a leading axis of seeds, so that each layer of
                 all is one matrix product; losses are sums over the seeds, which share
                 no weight, so one optimizer steps all

Every round measures the processor's time of the three, one after the other, on the same
batches; printed are the medians of the ratios within a round. That all learn the same
is checked first: the losses of the batched update against the sums of the learners'.
The batched one leaves out the checks of a batch and the metrics, which nobody reads.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from robostack.learner import Batch, Statistics
from robostack.plugins import spec
from robostack.spec import float32
from robostack.training.process import prepare

prepare()

import torch  # noqa: E402 (after prepare)
from torch import Tensor  # noqa: E402

from robostack.policies import _losses as losses  # noqa: E402
from robostack.policies import iql  # noqa: E402
from robostack.policies._learner import adam, minimize  # noqa: E402
from robostack.policies._nets import (  # noqa: E402
    Critic,
    GaussianPolicy,
    Mlp,
    polyak_update,
)

ROBOT = spec("sim:gym/Hopper-v5")
CONFIG = iql.Config(actor_schedule="constant")
MEMBERS = CONFIG.critics
Drawn = Sequence[Sequence[Batch]]  # for every update, of every seed


def make_learner(seed: int) -> iql.Learner:
    size = ROBOT.observation_size
    seen = Statistics(np.zeros(size, np.float32), np.ones(size, np.float32), 0.0, 1.0)
    return iql.Learner(ROBOT, CONFIG, statistics=seen, steps=1_000_000, seed=seed)


def make_batch(rng: np.random.Generator, size: int) -> Batch:
    shape = (size, ROBOT.observation_size)
    return Batch(
        float32(rng.normal(size=shape)),
        float32(rng.uniform(-0.9, 0.9, (size, ROBOT.action.size))),
        float32(rng.normal(size=size)),
        np.full(size, 0.99, np.float32),
        float32(rng.normal(size=shape)),
    )


class Batched:
    """The networks of S learners, and the update of all at once."""

    def __init__(self, learners: Sequence[iql.Learner]) -> None:
        """Begin with the weights of `learners`."""
        count, rng = len(learners), torch.Generator()
        inputs, actions = ROBOT.observation_size, ROBOT.action.size
        hidden = CONFIG.hidden
        self._encode = learners[0]._inputs
        self._value = Mlp((inputs, *hidden, 1), rng, lead=(count,))
        self._policy = GaussianPolicy((inputs, *hidden, actions), rng, lead=(count,))
        sizes = (inputs + actions, *hidden, 1)
        self._critic = Critic(sizes, rng, lead=(count * MEMBERS,))
        for net, name in [(self._value, "value"), (self._policy, "policy")]:
            states = [getattr(learner, name).state_dict() for learner in learners]
            net.load_state_dict(
                {k: torch.stack([s[k] for s in states]) for k in states[0]}
            )
        states = [learner.critic.state_dict() for learner in learners]
        self._critic.load_state_dict(
            {k: torch.cat([s[k] for s in states]) for k in states[0]}
        )
        self._target = copy.deepcopy(self._critic).requires_grad_(False)
        self._value_adam = adam([self._value], CONFIG.learning_rate)
        self._adam = adam([self._policy, self._critic], CONFIG.learning_rate)
        self._count = count

    def update(self, batches: Sequence[Batch]) -> dict[str, Tensor]:
        """Take the step that IQL takes, for every seed; return the summed losses."""
        columns = [
            np.concatenate(column)
            for column in zip(*(b[:5] for b in batches), strict=True)
        ]
        whole = Batch(*columns)
        rows = self._encode(whole)
        count = self._count
        obs, after = rows.observations.view(2, count, -1, ROBOT.observation_size)
        action = rows.action.view(count, -1, ROBOT.action.size)
        reward, discount = rows.reward.view(count, -1), rows.discount.view(count, -1)
        pairs = torch.cat((obs, action), -1).repeat_interleave(MEMBERS, 0)
        with torch.no_grad():
            q = self._target(pairs).view(count, MEMBERS, -1).amin(1)  # (S, B)
        v_loss = losses.value_loss(q, self._value(obs).squeeze(-1), CONFIG.expectile)
        minimize(v_loss, self._value_adam)
        with torch.no_grad():
            both = self._value(torch.cat((obs, after), 1)).squeeze(-1)
            here, later = both.chunk(2, 1)
            td_target = (reward + discount * later).repeat_interleave(MEMBERS, 0)
        temperature = CONFIG.inverse_temperature
        weight = losses.limited_weight(q - here, temperature, CONFIG.max_weight)
        pi_loss = losses.cloning_loss(self._policy.log_prob(obs, action), weight)
        q_loss = losses.critic_loss(self._critic(pairs).squeeze(-1), td_target)
        minimize(pi_loss + q_loss, self._adam)
        polyak_update(self._target, self._critic, CONFIG.target_rate)
        return {"loss/value": v_loss, "loss/policy": pi_loss, "loss/critic": q_loss}


def check(learners: Sequence[iql.Learner], batches: Drawn) -> None:
    """Raise unless both ways learn the same, over some updates."""
    batched = Batched(learners)
    for drawn in batches:
        ours = batched.update(drawn)
        theirs = [one.update(b) for one, b in zip(learners, drawn, strict=True)]
        for name, loss in ours.items():
            total = sum(float(metrics[name]) for metrics in theirs)
            np.testing.assert_allclose(float(loss.detach()), total, rtol=1e-4)


def slices(learners: Sequence[iql.Learner], batches: Drawn) -> None:
    for seed, learner in enumerate(learners):
        for drawn in batches:
            learner.update(drawn[seed])


def interleaved(learners: Sequence[iql.Learner], batches: Drawn) -> None:
    for drawn in batches:
        for learner, batch in zip(learners, drawn, strict=True):
            learner.update(batch)


def together(batched: Batched, batches: Drawn) -> None:
    for drawn in batches:
        batched.update(drawn)


def measure(ways: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Return the processor's time [s] of every way, one after the other each round."""
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(rounds + 1):
        for name, way in ways.items():
            start = time.process_time()
            way()
            if round_:  # the first one warms up
                spent[name].append(time.process_time() - start)
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--updates", type=int, default=10, help="a slice")
    parser.add_argument("--rounds", type=int, default=9)
    flags = parser.parse_args()
    torch.set_num_threads(1)
    rng, seeds = np.random.default_rng(0), range(flags.seeds)
    batches = [
        [make_batch(rng, flags.batch) for _ in seeds] for _ in range(flags.updates)
    ]
    check([make_learner(seed) for seed in seeds], batches[:5])
    learners = [make_learner(seed) for seed in seeds]
    ways = {
        "slices": partial(slices, learners, batches),
        "interleaved": partial(interleaved, learners, batches),
        "batched": partial(together, Batched(learners), batches),
    }
    spent = measure(ways, flags.rounds)
    updates = flags.updates * flags.seeds
    for name, times in spent.items():
        ratios = [t / s for t, s in zip(times, spent["slices"], strict=True)]
        print(
            f"{name:12} {updates / statistics.median(times):6.0f} updates/s in all, "
            f"time {statistics.median(ratios):.2f} x that of slices "
            f"({min(ratios):.2f} to {max(ratios):.2f})"
        )


if __name__ == "__main__":
    main()
