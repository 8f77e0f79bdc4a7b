"""What it changes where an algorithm differs from its paper or its authors' code.

    python benchmarks/differences.py --seeds 3 [NAME ...]

Each is the smallest world in which the difference could show, ours beside theirs, on
networks of 64-64; it is no score of the algorithm. One line per seed, then means and
sample deviations.

    init_sac                orthogonal first weights, or torch's uniform ones
    famo2o_clip             the balance model's actions cut off at the rim, or not
    h2o_batch               classifiers on the critic's batch (64 + 64), or 256 + 256
    uni_o4_disagreement     kinds of disagreement, and its weight
    uni_o4_turns            members clone at the same time, or one after another
    uni_o4_ends             ends of Hopper: learned, or those of Gymnasium's formula
    uni_o4_ratio            the ratio is of actions as drawn, or as cut off at the rim
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import claims
import claims_famo2o
import claims_h2o
import claims_h2o_gap
import claims_uni_o4
import gymnasium
import numpy as np
import torch

from robostack.learner import Learner
from robostack.policies import _ensemble, famo2o, uni_o4
from robostack.policies._dynamics import Dynamics, Truth, dynamics_adam
from robostack.policies._gaussian import BoundedGaussianPolicy, density, pairwise_kl
from robostack.policies._improvement import Tried, try_out
from robostack.policies._learner import adam, minimize
from robostack.policies._nets import begin_uniform
from robostack.spec import float32

WORLD, HOPPER = "Pendulum-v1", "Hopper-v5"
EPISODES = 20
Found = dict[str, float]


def uniform(learner: Learner, seed: int) -> None:
    """Draw all weights anew as torch does by default; targets follow."""
    rng = torch.Generator().manual_seed(seed)
    nets = dict(learner._nets)
    begin_uniform(learner._nets, rng)
    for name, net in nets.items():
        if name.startswith("target"):
            source = name.removeprefix("target").removeprefix("_") or "critic"
            net.load_state_dict(nets[source].state_dict())


def init_sac(seed: int) -> Found:
    """Return the score in Pendulum after 3,000 steps, an update each."""

    def score(*, theirs: bool) -> float:
        env, lived = gymnasium.make(WORLD), claims.Memory()
        rng = np.random.default_rng(seed)
        for row in claims.live(env, claims.at_random(env, rng), 500, seed):
            lived.add(row)
        fast = {"learning_rate": 1e-3, "policy_learning_rate": 1e-3}
        learner = claims.make(env, lived, "sac", seed, **fast)
        if theirs:
            uniform(learner, seed)
        for row in claims.live(env, claims.sampled(learner, rng), 3000, seed + 1):
            lived.add(row)
            learner.update(lived.sample(rng))
        return claims.score(env, learner, episodes=EPISODES)

    return {"ours": score(theirs=False), "theirs": score(theirs=True)}


class Unclipped(famo2o.Learner):
    """The balance model learns through actions beyond the rim, too."""

    def _improve_balance(self, here: torch.Tensor) -> None:
        universal = self.policy.universal

        def member(
            observation: torch.Tensor, balance: torch.Tensor, noise: torch.Tensor
        ) -> torch.Tensor:
            mean = universal(type(self.policy).seen(self.policy, observation, balance))
            return mean + universal.log_std.exp() * noise

        self.policy.member = member
        super()._improve_balance(here)
        del self.policy.member


def famo2o_clip(seed: int) -> Found:
    """Return scores in the square with a good and a bad half, and mean balances."""
    env, memory, found = claims_famo2o.Point(), claims.Memory(), Found()
    act = claims_famo2o.logged(np.random.default_rng(seed))
    for row in claims.live(env, act, 20_000, seed):
        memory.add(row)
    for name, kind in (("ours", None), ("theirs", Unclipped)):
        rng, settings = np.random.default_rng(seed), claims_famo2o.RANGE
        learner = claims.make(env, memory, "famo2o", seed, kind=kind, **settings)
        for _ in range(30_000):
            metrics = learner.update(memory.sample(rng))
        found[name] = claims.score(env, learner, episodes=EPISODES)
        found[f"{name}_balance"] = float(metrics["balance"])
    return found


def h2o_batch(seed: int) -> Found:
    """Return the rank correlation of u with the true error, at twice the gravity."""
    args = argparse.Namespace(data=2000, updates=1000, rate=1e-3)
    found, before = Found(), claims_h2o.BATCH_SIZE
    for name, size in (("ours", before), ("theirs", 512)):
        claims_h2o.BATCH_SIZE = size
        told = claims_h2o_gap.measure("gravity:20", seed, args)
        found |= {name: told["rank"], f"{name}_u": told["u"]}
    claims_h2o.BATCH_SIZE = before
    return found


def uni_o4_turns(seed: int, members: int = 3, updates: int = 300) -> Found:
    """Return the mean pairwise KL [nats], and the loss of each, on two modes."""
    found = Found()
    for name in ("ours", "theirs"):
        rng = torch.Generator().manual_seed(seed)
        policy = BoundedGaussianPolicy((2, 32, 32, 2), rng, lead=(members,))
        each = [_ensemble.alone(policy, k) for k in range(members)]
        adams = [adam([net], 3e-3) for net in each]
        whole, steps = adam([policy], 3e-3), np.random.default_rng(seed)
        for _ in range(updates):
            here, action = two_modes(rng)
            if name == "ours":
                cloned = _ensemble.clone(
                    policy.moments(here), action, "assignment", 0.5, _no_noise
                )
                minimize(cloned.total, whole)
                continue
            for k in steps.permutation(members):
                pairs = [net.moments(here) for net in each]
                stacked = [torch.stack(parts) for parts in zip(*pairs, strict=True)]
                total, *_ = _ensemble.clone(
                    (stacked[0], stacked[1]), action, "assignment", 0.5, _no_noise
                )
                minimize(total, adams[k])
        nets = [policy] if name == "ours" else each
        found |= diversity(name, nets, members)
    return found


def uni_o4_disagreement(seed: int, members: int = 3, updates: int = 300) -> Found:
    """Return the same for each kind of disagreement, and how much it weighs."""
    found, kinds = Found(), {"assignment": (0.0, 0.1, 0.5), "envelope": (0.1, 1.0, 2.0)}
    for kind, alpha in ((k, a) for k, alphas in kinds.items() for a in alphas):
        rng = torch.Generator().manual_seed(seed)
        policy = BoundedGaussianPolicy((2, 32, 32, 2), rng, lead=(members,))
        optimizer = adam([policy], 3e-3)
        for _ in range(updates):
            here, action = two_modes(rng)
            noise = torch.randn(members, *action.shape, generator=rng)
            cloned = _ensemble.clone(
                policy.moments(here), action, kind, alpha, lambda *_, n=noise: n
            )
            minimize(cloned.total, optimizer)
        found |= diversity(f"{kind}_{alpha:g}", [policy], members)
    return found


def diversity(name: str, nets: list[BoundedGaussianPolicy], members: int) -> Found:
    """Return mean pairwise KL and the loss of each member, in one net or in several."""
    here, action = two_modes(torch.Generator().manual_seed(100))
    with torch.no_grad():
        each = [net.moments(here) for net in nets]
        mean, log_std = (
            torch.stack(part).reshape(members, *action.shape)
            for part in zip(*each, strict=True)
        )
        kl = pairwise_kl(mean, log_std).mean(-1).sum() / (members * (members - 1))
        cloned = _ensemble.clone((mean, log_std), action, "assignment", 0.0, _no_noise)
    return {name: float(kl), f"{name}_loss": float(cloned.likelihood) / members}


def two_modes(rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Return observations (B, 2), and actions (B, 2) of either of two ways to act."""
    here = torch.rand(256, 2, generator=rng) * 2 - 1
    side = torch.randint(2, (256, 1), generator=rng) * 2.0 - 1.0
    noise = 0.1 * torch.randn(256, 2, generator=rng)
    return here, (0.5 * side + noise).clamp(-1, 1)


def _no_noise(members: int, size: int) -> torch.Tensor:
    raise AssertionError("assignment draws nothing")


def uni_o4_ends(seed: int, updates: int = 3000) -> Found:
    """Return how many of Hopper's ends are foreseen, and how many others are."""
    env, memory = gymnasium.make(HOPPER), claims.Memory()
    act = claims.at_random(env, np.random.default_rng(seed))
    for row in claims.live(env, act, 30_000, seed):
        memory.add(row)
    here, action, _, discount, after = map(torch.from_numpy, memory.columns())
    known, ended = memory.statistics(), (discount == 0).float()
    rng = torch.Generator().manual_seed(seed)
    mean, std = (torch.from_numpy(float32(x)) for x in known[:2])
    model = Dynamics((64, 64), 3, rng, members=4, mean=mean, std=std + 1e-3)
    optimizer, half = dynamics_adam(model, 1e-3, 1e-4), len(here) // 2
    for _ in range(updates):
        rows = torch.randint(half, (256,), generator=rng)
        truth = model.truth(here[rows], after[rows], ended[rows])
        known_rows = Truth(truth, ended[rows], torch.ones(256))
        minimize(model.loss(model(here[rows], action[rows]), known_rows), optimizer)
    with torch.no_grad():
        said = model(here[half:], action[half:]).end.mean(0) > 0
    truly = ended[half:] > 0
    return {
        "ours": float((said & truly).sum() / truly.sum()),
        "theirs": 1.0,
        "ours_false": float((said & ~truly).sum() / (~truly).sum()),
        "ended": float(truly.float().mean()),
    }


@torch.no_grad()
def cut_off(policies: BoundedGaussianPolicy, *told: object) -> Tried:
    """Try policies out; what they did counts as if they had meant the rim."""
    tried = try_out(policies, *told)
    action = tried.action.clamp(-1.0, 1.0)
    log_prob = density(*policies.moments(tried.observation), action)
    return tried._replace(action=action, log_prob=log_prob)


def uni_o4_ratio(seed: int, updates: int = 6000) -> Found:
    """Return scores in Pendulum, and how many ratios the clip held at the end."""
    memory = claims_uni_o4.logs(seed, argparse.Namespace(data=20_000, medium=4_000))
    settings = claims_uni_o4.THREE | {"improvement_share": 0.4}
    env, found, before = gymnasium.make(WORLD), Found(), uni_o4.try_out
    for name, tries in (("ours", before), ("theirs", cut_off)):
        uni_o4.try_out = tries
        rng = np.random.default_rng(seed)
        learner = claims.make(env, memory, "uni_o4", seed, steps=updates, **settings)
        for _ in range(updates):
            metrics = learner.update(memory.sample(rng))
        found[name] = claims.score(env, learner, episodes=EPISODES)
        found[f"{name}_clipped"] = float(metrics["clipped"])
    uni_o4.try_out = before
    return found


DIFFERENCES: dict[str, Callable[[int], Found]] = {
    f.__name__: f
    for f in (
        init_sac,
        famo2o_clip,
        h2o_batch,
        uni_o4_turns,
        uni_o4_ends,
        uni_o4_disagreement,
        uni_o4_ratio,
    )
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", default=list(DIFFERENCES))
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    for name in args.names:
        runs = []
        for seed in range(args.seeds):
            runs.append(DIFFERENCES[name](seed))
            print(name, seed, runs[-1], flush=True)
        cells = [f"{k} {claims.spread([r[k] for r in runs])}" for k in runs[0]]
        print(f"{name}, {args.seeds} seeds: {', '.join(cells)}", flush=True)


if __name__ == "__main__":
    main()
