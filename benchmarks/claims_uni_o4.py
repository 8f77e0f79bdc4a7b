"""Uni-O4's claims: the gate and the ensemble make improving from logs safe.

    python benchmarks/claims_uni_o4.py --seeds 3 --out uni_o4.jsonl

Gymnasium's Pendulum; logs half of a half-trained SAC and half at random. The same code
with three policies or one, and with the gate or without: without, every candidate
replaces its policy. Beside them IQL's own policy. Told of each: the return after
cloning, at the end, and the worst on the way, at the gate; how often AM-Q and true
returns agree on which of candidate and policy is better; and online, with PPO, the dip
(the least return of the first rollouts, less the offline one) and the return at the
end, also of PPO from scratch. One line of JSON per run; those that are in the file
already are left out.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path

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
    "dynamics_hidden": (64, 64),
}
METHODS: dict[str, tuple[str, dict[str, object]]] = {
    "uni_o4": ("uni_o4", THREE),
    "one": ("uni_o4", THREE | {"members": 1}),
    "no_gate": ("uni_o4", THREE | {"gate": False}),
    "one_no_gate": ("uni_o4", THREE | {"members": 1, "gate": False}),
    "no_disagreement": ("uni_o4", THREE | {"alpha": 0.0}),
    "iql": ("iql", {}),
    "ppo": ("ppo", PPO),  # from scratch, online only
}
SCALE = 0.1  # of rewards, for all: values of some tens
COLUMNS = ("cloned", "worst", "offline", "agreement", "pairwise_kl", "dip", "end")
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
    if algorithm != "iql":
        told |= online(learner, env, memory, seed, args)
    return told


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
    agreed = [a for a, _ in seen.pairs]
    return {
        "cloned": seen.cloned,
        "worst": min(worth for _, worth in seen.pairs),
        "judged": len(seen.pairs),
        "accepted": float(metrics["gate/accepted"]),
        "agreement": float(np.mean(agreed)),
        "pairwise_kl": float(metrics["pairwise_kl"]),
    }


class Seen:
    """Looks over the gate's shoulder, and tries in the world what it judges."""

    def __init__(self, learner: Learner, episodes: int) -> None:
        self.pairs: list[tuple[bool, float]] = []  # AM-Q was right; the policy's return
        self.cloned = 0.0
        self._learner, self._episodes = learner, episodes
        self._begin, self.admit = learner.gate.begin, learner.gate.admit
        learner.gate.begin = self._began
        learner.gate.admit = self._judged

    def _began(self, score: object) -> None:
        self.cloned = float(np.mean(self._tried(self._learner.policy)))
        self._begin(score)

    def _judged(self, score: object, *, always: bool = False) -> object:
        learner = self._learner
        ours, theirs = self._tried(learner.policy), self._tried(learner.candidate)
        best = learner.gate.best.clone()
        better = self.admit(score, always=always)
        for k, (policy, candidate) in enumerate(zip(ours, theirs, strict=True)):
            right = (float(score[k]) > float(best[k])) == (candidate > policy)
            self.pairs.append((right, candidate if bool(better[k]) else policy))
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
    phase = {}
    if hasattr(learner._config, "phase"):
        phase = {"phase": "online", "schedule": "constant"}
    count = args.online // ROLLOUT
    learner = claims.go_on(learner, env, memory, steps=count, **phase)
    judged, curve = gymnasium.make(WORLD), []
    for batch in rollouts(learner, env, count, seed):
        learner.update(batch)
        curve.append(claims.score(judged, learner, episodes=args.episodes))
    return {"dip": min(curve[:DIP], default=before) - before, "online": curve}


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
    done = read(args.out)
    for seed in range(args.seeds):
        left = [name for name in args.methods if (name, seed) not in done]
        memory = logs(seed, args) if left else None
        for name in left:
            with args.out.open("a") as file:
                file.write(json.dumps(run(name, seed, memory, args)) + "\n")
    table(list(read(args.out).values()))


def read(path: Path) -> dict[tuple[str, int], dict[str, object]]:
    """Return the runs that are in the file, by method and seed."""
    lines = path.read_text().splitlines() if path.exists() else []
    runs = [json.loads(line) for line in lines]
    return {(run["method"], run["seed"]): run for run in runs}


def table(runs: list[dict[str, object]]) -> None:
    """Print mean and standard deviation over seeds of each method."""
    print("| method | " + " | ".join(COLUMNS) + " |")
    print("|---|" + "---|" * len(COLUMNS))
    for name in METHODS:
        mine = [run | {"end": run.get("online", [None])[-1]} for run in runs]
        mine = [run for run in mine if run["method"] == name]
        cells = (spread([r.get(c) for r in mine]) for c in COLUMNS)
        if mine:
            print(f"| {name}, {len(mine)} seeds | {' | '.join(cells)} |")


def spread(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return ""
    return f"{np.mean(known):.2f} ± {np.std(known):.2f}"


if __name__ == "__main__":
    main()
