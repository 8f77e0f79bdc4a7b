"""RO2O's claim: smooth critics and policies lose less in the first online steps.

    python benchmarks/claims_ro2o.py --seeds 3 --out ro2o.jsonl
    python benchmarks/claims_ro2o.py --methods no_penalty radius_0.1 --out ro2o.jsonl

Gymnasium's Pendulum, logs of a half-trained SAC. The same code with terms left out: two
critics, an ensemble, the ensemble with its penalty, and RO2O. Online from an empty
replay, after a warm-up. Returns offline, the dip (the least return of the first online
steps, less the offline one), the return with readings off by up to 0.05, 0.2 and 0.5,
before and after going on, how far the ensemble is apart at perturbed states, and the
processor time of 1,000 online updates. Ablations, by name: one term less, 2 or 10
critics, other radii. One line of JSON per run goes to --out; what is there is not run
again.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import claims
import gymnasium
import numpy as np

from robostack.learner import Learner

WORLD = "Pendulum-v1"
WITHOUT = {"critic_smoothing": 0.0, "policy_smoothing": 0.0, "penalty": 0.0}
FIVE = {"critics": 5, "least_of": 5, "samples": 5}
METHODS = {
    "sac_2": FIVE | WITHOUT | {"critics": 2, "least_of": 2},
    "sac_n": FIVE | WITHOUT,
    "sac_n_penalty": FIVE | WITHOUT | {"penalty": 0.1},
    "ro2o": FIVE,
    "ro2o_not_online": FIVE,  # as the authors' code: its terms are off online
    "no_policy_smoothing": FIVE | {"policy_smoothing": 0.0},
    "no_critic_smoothing": FIVE | {"critic_smoothing": 0.0},
    "no_penalty": FIVE | {"penalty": 0.0},
    "ro2o_2": FIVE | {"critics": 2, "least_of": 2},
    "ro2o_10": FIVE | {"critics": 10, "least_of": 10},
}
RADII = ("critic_radius", "policy_radius", "penalty_radius")
METHODS |= {f"radius_{r:g}": FIVE | dict.fromkeys(RADII, r) for r in (0.001, 0.05, 0.1)}
ARMS = list(METHODS)[:5]
COLUMNS = (
    "offline",
    "dip",
    "end",
    "disturbed",
    "disturbed_0.2",
    "disturbed_0.5",
    "disturbed_online",
    "disturbed_0.2_online",
    "disturbed_0.5_online",
    "disagreement",
    "online_s",
)
NOISES = {0.05: "disturbed", 0.2: "disturbed_0.2", 0.5: "disturbed_0.5"}
RADIUS = 0.01
EVERY, DIP = 1_000, 5_000  # online steps: between scores, and those of the dip


def run(
    name: str, seed: int, logs: claims.Memory, args: argparse.Namespace
) -> dict[str, object]:
    env, rng = gymnasium.make(WORLD), np.random.default_rng(seed)
    settings = METHODS[name] | {"pessimism_decay": 2.0 / args.updates}
    learner = claims.make(env, logs, "ro2o", seed, **settings)
    for _ in range(args.updates):
        learner.update(logs.sample(rng))
    offline = claims.score(env, learner, episodes=args.episodes)
    noisy = disturbed(env, learner, args.episodes)
    apart = disagreement(learner, logs)
    off = WITHOUT if name == "ro2o_not_online" else {}
    learner = claims.go_on(learner, env, logs, phase="online", **off)
    clock = claims.Clock()
    curve = list(fine_tune(learner, env, rng, seed, args, clock))
    updates = max(args.online - args.warmup, 1)
    return {
        "method": name,
        "seed": seed,
        "offline": offline,
        "disagreement": apart,
        "dip": min(curve[: max(1, DIP // EVERY)], default=offline) - offline,
        "online": curve,
        "end": curve[-1] if curve else None,
        "online_s": 1000 * clock.seconds / updates,
        **noisy,
        **disturbed(env, learner, args.episodes, "_online"),
    }


def disturbed(
    env: gymnasium.Env, learner: Learner, episodes: int, when: str = ""
) -> dict[str, float]:
    """Return the mean return for each size of noise on readings."""
    return {
        f"{name}{when}": claims.score(env, learner, episodes=episodes, noise=noise)
        for noise, name in NOISES.items()
    }


def fine_tune(
    learner: Learner,
    env: gymnasium.Env,
    rng: np.random.Generator,
    seed: int,
    args: argparse.Namespace,
    clock: claims.Clock,
) -> Iterator[float]:
    """Go on from an empty replay; yield a score now and then."""
    lived, judged = claims.Memory(), gymnasium.make(WORLD)
    rows = claims.live(env, claims.sampled(learner, rng), args.online, seed + 1000)
    for step, row in enumerate(rows, start=1):
        lived.add(row)
        if step > args.warmup:
            clock.update(learner, lived.sample(rng))
        if step % EVERY == 0:
            yield claims.score(judged, learner, episodes=args.episodes)


def disagreement(learner: Learner, logs: claims.Memory) -> float:
    """Return the ensemble's deviation at the policy's actions at perturbed states."""
    import torch

    with torch.no_grad():
        here = learner._codec.observation(torch.from_numpy(logs.columns()[0][:2000]))
        rng = torch.Generator().manual_seed(0)
        near = here + torch.empty_like(here).uniform_(-RADIUS, RADIUS, generator=rng)
        return float(learner.critic.q(near, learner.policy(near)).std(0).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=ARMS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--medium", type=int, default=4_000, help="steps of the SAC")
    parser.add_argument("--data", type=int, default=50_000, help="transitions")
    parser.add_argument("--updates", type=int, default=50_000)
    parser.add_argument("--warmup", type=int, default=1_000, help="online steps")
    parser.add_argument("--online", type=int, default=20_000, help="steps")
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("claims_ro2o.jsonl"))
    args = parser.parse_args()
    logs: dict[int, claims.Memory] = {}
    for seed, name in claims.left(args.out, args.methods, args.seeds):
        logs[seed] = logs.get(seed) or claims.logs_of_sac(
            WORLD, seed, learned=args.medium, logged=args.data
        )
        claims.write(args.out, run(name, seed, logs[seed], args))
    print(claims.table(claims.read(args.out), COLUMNS))


if __name__ == "__main__":
    main()
