"""Uni-O4's claims: the gate and the ensemble make improving from logs safe.

    python benchmarks/claims_uni_o4.py --seeds 3 --out uni_o4.jsonl

Gymnasium's Pendulum; logs half of a half-trained SAC and half at random. The same code
with three policies or one, and with the gate or without: without, every candidate
replaces its policy. Beside them IQL's own policy; critics that judge what the logs did
(`sarsa`); and steps so large that candidates leave the data, with the gate and without
(`fast`). Told of each: the return after cloning, at the end, and the worst on the way,
at the gate; the largest fall of the deployed policy from its best so far; how often
AM-Q and true returns agree on which of candidate and policy is better, also where a
difference of up to 20 % counts as none; and online, with PPO, the dip (the least return
of the first rollouts, less the offline one), the return at the end, also of PPO from
scratch and of IQL that goes on beside its logs, and the processor time of what is
learned per 1,000 steps. One line of JSON per run; those that are in the file already
are left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import claims
import gymnasium
import numpy as np

from robostack.learner import Batch, Learner
from robostack.spec import Array

WORLD = "Pendulum-v1"
PPO = {"value_clip": False, "policy_learning_rate": 1e-4, "value_learning_rate": 1e-3}
THREE = PPO | {
    "members": 3,
    "models": 4,
    "elites": 3,
    "horizon": 200,
    "improvement_share": 0.2,
    "learning_rate": 3e-4,
    "target_rate": 0.005,
    "dynamics_hidden": (64, 64),
}
METHODS: dict[str, tuple[str, dict[str, object]]] = {
    "uni_o4": ("uni_o4", THREE),
    "four": ("uni_o4", THREE | {"members": 4}),
    "one": ("uni_o4", THREE | {"members": 1}),
    "no_gate": ("uni_o4", THREE | {"gate": False}),
    "one_no_gate": ("uni_o4", THREE | {"members": 1, "gate": False}),
    "no_disagreement": ("uni_o4", THREE | {"alpha": 0.0}),
    "sarsa": ("uni_o4", THREE | {"expectile": 0.5}),
    "fast": ("uni_o4", THREE | {"improvement_rate": 1e-3}),
    "fast_no_gate": ("uni_o4", THREE | {"improvement_rate": 1e-3, "gate": False}),
    "iql": ("iql", {}),
    "ppo": ("ppo", PPO),  # from scratch, online only
}
SCALE = 0.1  # of rewards, for all: values of some tens
COLUMNS = (
    "cloned",
    "worst",
    "fall",
    "offline",
    "agreement",
    "agreement_20",
    "pairwise_kl",
    "dip",
    "end",
    "online_s",
)
TOLERANCE = 0.2  # of the policy's return: less of a difference is none
ROLLOUT = 2000  # steps: ten episodes
DIP = 3  # rollouts


def logs(seed: int, args: argparse.Namespace) -> claims.Memory:
    """Return half of a half-trained SAC, half at random."""
    half = args.data // 2
    memory = claims.Memory()
    for row in claims.logs_of_sac(WORLD, seed, learned=args.medium, logged=half):
        memory.add(scaled(row))
    env, rng = gymnasium.make(WORLD), np.random.default_rng(seed)
    for row in claims.live(env, claims.at_random(env, rng), half, seed + 3):
        memory.add(scaled(row))
    return memory


def scaled(row: claims.Row) -> claims.Row:
    """Return a transition whose reward is `SCALE` of what it was."""
    observation, action, reward, discount, after = row
    return observation, action, SCALE * reward, discount, after


def run(
    name: str, seed: int, memory: claims.Memory, args: argparse.Namespace
) -> dict[str, object]:
    env, rng = gymnasium.make(WORLD), np.random.default_rng(seed)
    algorithm, settings = METHODS[name]
    learner = claims.make(env, memory, algorithm, seed, steps=args.updates, **settings)
    told: dict[str, object] = {"method": name, "seed": seed}
    if algorithm == "uni_o4":
        told |= improve(learner, memory, rng, args)
    elif algorithm == "iql":
        for _ in range(args.updates):
            learner.update(memory.sample(rng))
    told["offline"] = claims.score(env, learner, episodes=args.episodes)
    if algorithm == "iql":
        return told | beside_logs(learner, env, memory, rng, seed, args)
    return told | online(learner, env, memory, seed, args)


def improve(
    learner: Learner,
    memory: claims.Memory,
    rng: np.random.Generator,
    args: argparse.Namespace,
) -> dict[str, object]:
    """Train offline; return what the gate saw."""
    seen = Seen(learner, args.episodes)
    for _ in range(args.updates):
        metrics = learner.update(memory.sample(rng))
    learner.gate.admit = seen.admit
    return {
        "cloned": seen.cloned,
        "worst": min(pair.worth for pair in seen.pairs),
        "fall": fall(seen.deployed),
        "judged": len(seen.pairs),
        "accepted": float(metrics["gate/accepted"]),
        "agreement": float(np.mean([pair.right for pair in seen.pairs])),
        "agreement_20": float(np.mean([p.right or p.alike for p in seen.pairs])),
        "pairwise_kl": float(metrics["pairwise_kl"]),
    }


def fall(returns: list[float]) -> float:
    """Return the largest fall from the best so far."""
    return float((np.maximum.accumulate(returns) - returns).max())


class Pair(NamedTuple):
    """A verdict, and the truth."""

    right: bool  # AM-Q said which is better
    alike: bool  # there was next to no difference
    worth: float  # the return of the policy behind the gate


class Seen:
    """Looks over the gate's shoulder, and tries in the world what it judges."""

    def __init__(self, learner: Learner, episodes: int) -> None:
        self.pairs: list[Pair] = []
        self.cloned = 0.0
        self.deployed: list[float] = []  # returns of the chosen policy
        self._learner, self._episodes = learner, episodes
        self._begin, self.admit = learner.gate.begin, learner.gate.admit
        learner.gate.begin = self._began
        learner.gate.admit = self._judged

    def _began(self, score: object) -> None:
        returns = self._tried(self._learner.policy)
        self.cloned = float(np.mean(returns))
        self._begin(score)
        self.deployed.append(returns[int(self._learner.gate.chosen)])

    def _judged(self, score: object, *, always: bool = False) -> object:
        learner = self._learner
        ours, theirs = self._tried(learner.policy), self._tried(learner.candidate)
        best = learner.gate.best.clone()
        better = self.admit(score, always=always)
        for k, (policy, candidate) in enumerate(zip(ours, theirs, strict=True)):
            right = (float(score[k]) > float(best[k])) == (candidate > policy)
            alike = abs(candidate - policy) <= TOLERANCE * abs(policy)
            worth = candidate if bool(better[k]) else policy
            self.pairs.append(Pair(right, alike, worth))
        chosen = len(ours) - int(learner.gate.chosen)
        self.deployed.append(self.pairs[-chosen].worth)
        return better

    def _tried(self, policies: object) -> list[float]:
        """Return the mean return of each of `policies`."""
        env, found = gymnasium.make(WORLD), []
        for k in range(self._learner._config.members):
            act = member(self._learner, policies, k)
            found.append(claims.mean_return(env, act, episodes=self._episodes))
        return found


def member(learner: Learner, policies: object, index: int) -> Callable[[Array], Array]:
    """Return how one of `policies` acts, without noise."""
    import torch

    from robostack.policies._codec import Deployed
    from robostack.policies._ensemble import alone

    deployed = Deployed(learner._codec, alone(policies, index))
    still = torch.zeros(1, learner.spec.action.size)

    def act(observation: Array) -> Array:
        with torch.inference_mode():
            return deployed(torch.from_numpy(observation)[None], still)[0].numpy()

    return act


def online(
    learner: Learner,
    env: gymnasium.Env,
    memory: claims.Memory,
    seed: int,
    args: argparse.Namespace,
) -> dict[str, object]:
    """Go on by PPO on rollouts; return the scores after each."""
    before = claims.score(env, learner, episodes=args.episodes)
    phase = {"phase": "online"} if hasattr(learner._config, "phase") else {}
    count = args.online // ROLLOUT
    learner = claims.go_on(
        learner, env, memory, steps=count, schedule="constant", **phase
    )
    judged, curve, clock = gymnasium.make(WORLD), list[float](), claims.Clock()
    for batch in rollouts(learner, env, count, seed):
        clock.update(learner, batch)
        curve.append(claims.score(judged, learner, episodes=args.episodes))
    return went_on(before, curve, clock)


def beside_logs(
    learner: Learner,
    env: gymnasium.Env,
    logs: claims.Memory,
    rng: np.random.Generator,
    seed: int,
    args: argparse.Namespace,
) -> dict[str, object]:
    """Go on as IQL does, on the logs and what is lived; return the same."""
    before = claims.score(env, learner, episodes=args.episodes)
    learner = claims.go_on(learner, env, logs, actor_schedule="constant")
    memory, judged = claims.Memory(), gymnasium.make(WORLD)
    curve, clock = list[float](), claims.Clock()
    for row in logs:
        memory.add(row)
    act = claims.sampled(learner, rng)
    lived = claims.live(env, act, args.online // ROLLOUT * ROLLOUT, 1000 * seed)
    for step, row in enumerate(lived, start=1):
        memory.add(scaled(row))
        clock.update(learner, memory.sample(rng))
        if step % ROLLOUT == 0:
            curve.append(claims.score(judged, learner, episodes=args.episodes))
    return went_on(before, curve, clock)


def went_on(
    before: float, curve: list[float], clock: claims.Clock
) -> dict[str, object]:
    """Return what is told of scores after each rollout."""
    lived = max(len(curve) * ROLLOUT, 1)
    return {
        "dip": min(curve[:DIP], default=before) - before,
        "online": curve,
        "end": curve[-1] if curve else None,
        "online_s": 1000 * clock.seconds / lived,
    }


def rollouts(
    learner: Learner, env: gymnasium.Env, count: int, seed: int
) -> Iterator[Batch]:
    """Yield what the policy, as it is then, lives through, in that order."""
    act = claims.sampled(learner, np.random.default_rng(seed))
    for k in range(count):
        lived = claims.Memory()
        for row in claims.live(env, act, ROLLOUT, 1000 * seed + k):
            lived.add(scaled(row))
        yield Batch(*lived.columns())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--medium", type=int, default=4_000, help="steps of the SAC")
    parser.add_argument("--data", type=int, default=50_000, help="transitions")
    parser.add_argument("--updates", type=int, default=15_000, help="offline")
    parser.add_argument("--online", type=int, default=20_000, help="steps")
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("claims_uni_o4.jsonl"))
    args = parser.parse_args()
    memories: dict[int, claims.Memory] = {}
    for seed, name in claims.left(args.out, args.methods, args.seeds):
        memories[seed] = memories.get(seed) or logs(seed, args)
        claims.write(args.out, run(name, seed, memories[seed], args))
    runs = claims.read(args.out)
    ends = [{"end": (run.get("online") or [None])[-1]} for run in runs]
    found = [end | run for end, run in zip(ends, runs, strict=True)]
    print(claims.table(found, COLUMNS))


if __name__ == "__main__":
    main()
