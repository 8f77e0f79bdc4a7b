"""H2O's claim: a wrong simulator and a little real data beat either alone.

    python benchmarks/claims_h2o.py --seeds 3 --out h2o.jsonl
    python benchmarks/claims_h2o.py --table --out h2o.jsonl

Gymnasium's Pendulum is the real world. The simulator is the same, but for a gap:
gravity:3 has 3 m/s^2 in the place of 10, torque:0.5 half the torque, noise:0.5
actions with noise. The real data are transitions drawn from the log of a SAC that began
to learn. Arms: IQL on the real data alone; SAC in the simulator alone; H2O's code with
all weights alike (naive), whole, and as H2O+. All are judged in the real world: the
mean return at the last two of the scores taken along the way. `rank` is Spearman's
correlation of u with the true error of the simulator's next state, over the last pairs
that were lived. Beside these, by name: H2O without one weight, H2O+ with none of its
anchor or nothing else, DARC (arXiv:2006.13916), a SAC in the simulator whose reward is
corrected by log P_real / P_sim, and what H2O's authors do otherwise: turns of 1,000
steps and 1,000 updates, and a policy whose spread begins at 0.37. One line of JSON per
run goes to --out; what is there is not run again.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import claims
import gymnasium
import numpy as np

from robostack import plugins
from robostack.learner import Batch, Learner
from robostack.policies import h2o
from robostack.policies._soft import SoftLearner
from robostack.spec import Array, float32

REAL = "gravity:10"
ALIKE = {"trust": False, "adaptive": False}
METHODS = {
    "iql_real": ("iql", {"actor_schedule": "constant"}),
    "sac_sim": ("sac", {}),
    "naive": ("h2o", ALIKE),
    "h2o": ("h2o", {}),
    "h2o_plus": ("h2o", {"variant": "h2o_plus"}),
    "h2o_plus_robot": (
        "h2o",
        {"variant": "h2o_plus", "expectile": 0.9, "anchor": 0.1},
    ),
    "no_omega": ("h2o", {"adaptive": False}),
    "no_w": ("h2o", {"trust": False}),
    "authors_input": ("h2o", {"next_state": "state", "copy_noise": 1.0}),
    "authors_turns": ("h2o", {}),
    "authors_spread": ("h2o", {}),
    "darc": ("h2o", {"entropy_backup": True}),
    "anchor_0": ("h2o", {"variant": "h2o_plus", "anchor": 0.0}),
    "anchor_1": ("h2o", {"variant": "h2o_plus", "anchor": 1.0}),
}
ARMS = list(METHODS)[:5]
SCORES, LATE = 4, 2  # taken along the way; those that count
BATCH_SIZE = 128
TURN = {"authors_turns": 1_000}  # steps, then as many updates
SHOWN = ("return", "simulated", "u", "rank")
JUDGED = 2_000  # pairs whose gap is estimated
RANDOM = 1_000  # first steps in a world


class Changed(gymnasium.ActionWrapper):
    """A pendulum whose motor gives less, or other, than it is told."""

    def __init__(self, env: gymnasium.Env, gain: float, noise: float) -> None:
        super().__init__(env)
        self._gain, self._noise = gain, noise

    def action(self, action: Array) -> Array:
        noise = self._noise * self.np_random.standard_normal(len(action))
        return float32(self._gain * action + noise)


class Darc(h2o.Learner):
    """SAC on simulated rows alone, whose reward is corrected by the log-ratio."""

    def _update(self, batch: Batch) -> dict[str, object]:
        inputs, rows = self._inputs(batch), self._rows(batch)
        told = self._tell_apart(inputs, rows)
        ratio, _ = self._ratios(inputs, rows)
        simulated = np.asarray(rows.simulated)
        columns = [column[simulated] for column in batch[:5]]
        columns[2] = columns[2] + ratio.numpy()
        metrics = SoftLearner._update(self, Batch(*columns))
        return metrics | {"loss/classifiers": told}


def world(gap: str) -> gymnasium.Env:
    """Return the pendulum with `gap`, such as torque:0.5."""
    kind, _, text = gap.partition(":")
    number = float(text)
    gravity = number if kind == "gravity" else 10.0
    gain = number if kind == "torque" else 1.0
    noise = number if kind == "noise" else 0.0
    return Changed(gymnasium.make("Pendulum-v1", g=gravity), gain, noise)


def explore(
    env: gymnasium.Env,
    learner: Learner,
    rng: np.random.Generator,
    seed: int,
    steps: int,
) -> Iterator[tuple[Array, Array, float, float, Array]]:
    """Yield steps by chance, then `steps` of a policy that learns meanwhile."""
    low, high = env.action_space.low, env.action_space.high
    policy, lived = claims.sampled(learner, rng), iter(range(RANDOM))

    def act(observation: Array) -> Array:
        if next(lived, None) is None:
            return policy(observation)
        return float32(rng.uniform(low, high))

    return claims.live(env, act, RANDOM + steps, seed)


def collect(seed: int, args: argparse.Namespace) -> claims.Memory:
    """Return transitions of the log of a SAC that began to learn in the real world."""
    env, lived, kept = world(REAL), claims.Memory(), claims.Memory()
    rng = np.random.default_rng(seed)
    for row in claims.live(env, lambda _: env.action_space.sample(), 10, seed):
        lived.add(row)
    learner = claims.make(env, lived, "sac", seed, **settings(args))
    log = []
    for step, row in enumerate(explore(env, learner, rng, seed, args.medium)):
        log.append(row)
        lived.add(row)
        if step >= RANDOM:
            learner.update(lived.sample(rng, BATCH_SIZE))
    for i in rng.choice(len(log), args.data, replace=False):
        kept.add(log[i])
    return kept


def settings(args: argparse.Namespace) -> dict[str, float]:
    return {"learning_rate": args.rate, "policy_learning_rate": args.rate}


def run(
    name: str, seed: int, gap: str, real: claims.Memory, args: argparse.Namespace
) -> dict[str, object]:
    env, rng = world(gap), np.random.default_rng(seed)
    algorithm, own = METHODS[name]
    shared = settings(args)
    if algorithm == "iql":
        shared.pop("policy_learning_rate")
    kind = Darc if name == "darc" else None
    learner = claims.make(env, real, algorithm, seed, kind=kind, **shared | own)
    if name == "authors_spread":
        narrow(learner)
    lived, scores, turn = claims.Memory(), [], TURN.get(name, 1)
    rows = explore(env, learner, rng, seed + 1000, args.updates + turn)
    judged = world(REAL)
    for update in range(1, args.updates + 1):
        while algorithm != "iql" and len(lived) < RANDOM + turn * -(-update // turn):
            lived.add(next(rows))
        learner.update(draw(algorithm, real, lived, rng))
        if update % (args.updates // SCORES) == 0:
            scores.append(claims.score(judged, learner, episodes=args.episodes))
    result = {"method": name, "seed": seed, "gap": gap, "scores": scores}
    result |= {"updates": args.updates, "data": args.data, "medium": args.medium}
    result["return"] = float(np.mean(scores[-LATE:]))
    result["simulated"] = claims.score(world(gap), learner, episodes=args.episodes)
    return result | (judge_gap(learner, lived, gap) if algorithm == "h2o" else {})


def narrow(learner: Learner) -> None:
    """Let the policy begin with the logarithm of its spread at -1."""
    bias = learner.policy.mlp.layers[-1].bias
    bias.data[..., bias.shape[-1] // 2 :] = -1.0


def draw(
    algorithm: str, real: claims.Memory, lived: claims.Memory, rng: np.random.Generator
) -> Batch:
    """Return a batch of where `algorithm` learns from; half and half for H2O."""
    if algorithm == "iql":
        return real.sample(rng, BATCH_SIZE)
    if algorithm == "sac":
        return lived.sample(rng, BATCH_SIZE)
    half = BATCH_SIZE // 2
    parts = [memory.sample(rng, half)[:5] for memory in (real, lived)]
    columns = [np.concatenate(pair) for pair in zip(*parts, strict=True)]
    return Batch(*columns, lived=np.repeat(float32([0.0, 1.0]), half))


def judge_gap(learner: Learner, lived: claims.Memory, gap: str) -> dict[str, float]:
    """Return what u says of the last pairs, and how well it ranks the true errors."""
    import torch

    columns = [column[-JUDGED:] for column in lived.columns()]
    module = plugins.load("policies", "h2o")
    every = torch.arange(len(columns[2]))
    inputs = learner._inputs(Batch(*columns))
    _, ratios = learner._ratios(inputs, module.Rows(every[:0], every))
    found = module.gap(ratios).numpy()
    error = true_error(columns[0], columns[1], gap)
    return {"u": float(found.mean()), "rank": spearman(found, error)}


def true_error(observation: Array, action: Array, gap: str) -> Array:
    """Return how far (B,) the simulator's next state is off, in standard deviations."""
    worlds = [world(gap), world(REAL)]
    for each in worlds:
        each.reset(seed=0)
    after = [
        float32([_next(w, o, a) for o, a in zip(observation, action, strict=True)])
        for w in worlds
    ]
    off = (after[0] - after[1]) / observation.std(0)
    return np.asarray(np.linalg.norm(off, axis=1))


def _next(env: gymnasium.Env, observation: Array, action: Array) -> Array:
    x, y, speed = observation
    env.unwrapped.state = np.array([np.arctan2(y, x), speed])
    after, *_ = env.unwrapped.step(env.action(action))
    return after


def spearman(a: Array, b: Array) -> float:
    """Return the rank correlation; 0 where one of them is constant."""
    ranks = [np.unique(x, return_inverse=True)[1] for x in (a, b)]
    if min(rank.max() for rank in ranks) == 0:
        return 0.0
    order = [np.argsort(np.argsort(x, kind="stable")) for x in (a, b)]
    return float(np.corrcoef(order)[0, 1])


def missing(args: argparse.Namespace) -> Iterator[tuple[int, str, str]]:
    """Yield seed, gap and method of runs that are not in --out."""
    done = {(r["seed"], r["gap"], r["method"]) for r in claims.read(args.out)}
    for seed in range(args.seeds):
        for gap in args.gaps:
            for name in args.methods:
                if (seed, gap, name) not in done:
                    yield seed, gap, name


def table(results: list[dict]) -> str:
    """Return mean and standard deviation over seeds, a line per gap and method."""
    lines = [
        "| gap | method | real return | seeds | in the simulator | mean u | rank |",
        "|---|---|---|---|---|---|---|",
    ]
    groups: dict[tuple[str, str], list[dict]] = {}
    for result in results:
        groups.setdefault((result["gap"], result["method"]), []).append(result)
    for (gap, name), runs in groups.items():
        shown = [claims.spread([r[k] for r in runs if k in r]) for k in SHOWN]
        cells = [gap, name, shown[0], str(len(runs)), *shown[1:]]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("claims_h2o.jsonl"))
    parser.add_argument("--table", action="store_true", help="of --out; run nothing")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=ARMS)
    parser.add_argument("--gaps", nargs="+", default=["gravity:3"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--medium", type=int, default=2_000, help="steps of the log")
    parser.add_argument("--data", type=int, default=1_000, help="real transitions")
    parser.add_argument("--updates", type=int, default=4_000)
    parser.add_argument("--episodes", type=int, default=10)
    parser.add_argument("--rate", type=float, default=1e-3, help="of learning")
    args = parser.parse_args()
    real: dict[int, claims.Memory] = {}
    for seed, gap, name in [] if args.table else missing(args):
        real[seed] = real.get(seed) or collect(seed, args)
        claims.write(args.out, run(name, seed, gap, real[seed], args))
    print(table(claims.read(args.out)))


if __name__ == "__main__":
    main()
