"""FamO2O's claim: a balance for each state does as well as the best fixed one.

    python benchmarks/claims_famo2o.py --seeds 5 --out famo2o.jsonl

A point has to come to a goal in a square. In the left half of it, where the point is
driven well, the data should be followed; in the right half actions are random. IQL and
AWAC with fixed inverse temperatures against FamO2O over a range that holds them all:
returns offline and after online steps, the regret (what episodes earned less on the way
than who drives well everywhere, 1 for random actions), and the balance in both halves
(the claim: larger in the right one), and from left to right, before going on.
`famo2o_random` goes on learning by uniform balances, as it did offline; it acts by
those of its model, which learns on. One line of JSON per run goes to --out; what is
there is not run again.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import claims
import gymnasium
import numpy as np

from robostack.learner import Learner
from robostack.spec import Array, float32

FIXED = (0.5, 1.0, 3.0, 10.0)
METHODS = {f"iql_{b:g}": ("iql", {"inverse_temperature": b}) for b in FIXED}
RANGE = {"least_balance": 0.5, "largest_balance": 10.0, "balance_period": 1}
METHODS["famo2o"] = ("famo2o", RANGE)
METHODS["famo2o_one_for_all"] = ("famo2o", RANGE | {"state_adaptive": False})
METHODS["famo2o_awac"] = ("famo2o", RANGE | {"base": "awac"})
METHODS["famo2o_random"] = ("famo2o", RANGE)
METHODS |= {f"awac_{b:g}": ("awac", {"inverse_temperature": b}) for b in FIXED}
STRIPS = 8  # from left to right, for each of which balances are told
COLUMNS = ("offline", "online", "regret", "balance_good", "balance_random")
GOAL, STEP, HORIZON = float32([0.0, 0.8]), 0.1, 40


class Point(gymnasium.Env):
    """A point in a square; an action moves it, the reward is minus its distance."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,))
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,))

    def reset(
        self, *, seed: int | None = None, options: dict | None = None
    ) -> tuple[Array, dict]:
        super().reset(seed=seed)
        self._place = float32(self.np_random.uniform(-1, 1, 2))
        self._left = HORIZON
        return self._place, {}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict]:
        self._place = np.clip(self._place + STEP * float32(action), -1.0, 1.0)
        self._left -= 1
        distance = float(np.linalg.norm(self._place - GOAL))
        return self._place, -distance, False, self._left == 0, {}


def logged(
    rng: np.random.Generator, *, border: float = 0.0
) -> Callable[[Array], Array]:
    """Return who made the data: good on the left of the border, random beyond."""

    def act(place: Array) -> Array:
        if place[0] >= border:
            return float32(rng.uniform(-1, 1, 2))
        way = (GOAL - place) / STEP
        return float32(np.clip(way + rng.normal(0, 0.1, 2), -1, 1))

    return act


def run(name: str, seed: int, args: argparse.Namespace) -> dict[str, object]:
    env, memory = Point(), claims.Memory()
    rng = np.random.default_rng(seed)
    for row in claims.live(env, logged(rng), args.data, seed):
        memory.add(row)
    algorithm, settings = METHODS[name]
    if algorithm == "iql":
        settings = settings | {"actor_schedule": "constant"}
    learner = claims.make(env, memory, algorithm, seed, **settings)
    for _ in range(args.updates):
        learner.update(memory.sample(rng))
    result = {"method": name, "seed": seed}
    result["offline"] = claims.score(env, learner, episodes=args.episodes)
    result |= halves(learner, memory)
    if algorithm == "famo2o" and name != "famo2o_random":
        learner = claims.go_on(learner, env, memory, phase="online")
    rewards = []
    for row in claims.live(env, claims.sampled(learner, rng), args.online, seed + 1000):
        memory.add(row)
        rewards.append(row[2])
        learner.update(memory.sample(rng))
    result["online"] = claims.score(env, learner, episodes=args.episodes)
    if rewards:
        result["regret"] = regret(HORIZON * float(np.mean(rewards)), args.episodes)
    return result


def regret(earned: float, episodes: int) -> float:
    """Return how much less was earned: 0 as who drives well, 1 as by chance."""
    best, worst = (
        claims.mean_return(
            Point(), logged(np.random.default_rng(0), border=b), episodes=episodes
        )
        for b in (2.0, -2.0)
    )
    return (best - earned) / (best - worst)


def halves(learner: Learner, memory: claims.Memory) -> dict[str, object]:
    """Return the mean balance in both halves and all strips, where there are any."""
    if not hasattr(learner.policy, "balance"):
        return {}
    import torch

    place = torch.from_numpy(memory.columns()[0])
    with torch.no_grad():
        balance = learner.policy.balance(place)[:, 0]
    good = place[:, 0] < 0
    means = {"balance_good": balance[good], "balance_random": balance[~good]}
    strip = ((place[:, 0] + 1) / 2 * STRIPS).long().clamp(max=STRIPS - 1)
    strips = [float(balance[strip == k].mean()) for k in range(STRIPS)]
    told = {name: float(values.mean()) for name, values in means.items()}
    return told | {"balance_by_strip": strips}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--data", type=int, default=20_000, help="transitions")
    parser.add_argument("--updates", type=int, default=30_000)
    parser.add_argument("--online", type=int, default=20_000, help="steps")
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--out", type=Path, default=Path("claims_famo2o.jsonl"))
    args = parser.parse_args()
    for seed, name in claims.left(args.out, args.methods, args.seeds):
        claims.write(args.out, run(name, seed, args))
    print(claims.table(claims.read(args.out), COLUMNS))


if __name__ == "__main__":
    main()
