"""What H2O's classifiers say of known gaps, and what they have to look at for it.

    python benchmarks/claims_h2o_gap.py --seeds 3

Random actions in the real pendulum and in one with a gap (claims_h2o.py). No policy is
learned: classifiers alone. A line per gap: the mean of u (the claim: it grows with the
gap, and is small without one) and its rank correlation with the true error of the next
state; then the same at one gap for other inputs, those of the authors' code among them.
Noise has no error of its own at a state, so that there is nothing to rank.
"""

from __future__ import annotations

import argparse

import claims
import claims_h2o
import numpy as np

from robostack.spec import Array, float32

GAPS = ("gravity:10", "gravity:12", "gravity:15", "gravity:20", "torque:0.5", "noise:1")
INPUTS = {
    "state, copies 0.1": {"next_state": "state"},
    "state, copies 1 (authors)": {"next_state": "state", "copy_noise": 1.0},
    "change, copies 1": {"copy_noise": 1.0},
}


def lived(gap: str, seed: int, steps: int) -> claims.Memory:
    """Return what random actions lead to."""
    env, memory = claims_h2o.world(gap), claims.Memory()
    rng = np.random.default_rng(seed)
    low, high = env.action_space.low, env.action_space.high

    def act(_: Array) -> Array:
        return float32(rng.uniform(low, high))

    for row in claims.live(env, act, steps, seed):
        memory.add(row)
    return memory


def measure(
    gap: str, seed: int, args: argparse.Namespace, **settings: object
) -> dict[str, float]:
    """Return the mean of u and its rank correlation with the true error."""
    real = lived(claims_h2o.REAL, seed, args.data)
    simulated = lived(gap, seed + 1000, args.data)
    rng = np.random.default_rng(seed)
    env = claims_h2o.world(gap)
    learner = claims.make(env, real, "h2o", seed, learning_rate=args.rate, **settings)
    for _ in range(args.updates):
        batch = claims_h2o.draw("h2o", real, simulated, rng)
        learner._tell_apart(learner._inputs(batch), learner._rows(batch))
    return claims_h2o.judge_gap(learner, simulated, gap)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data", type=int, default=2_000, help="transitions each")
    parser.add_argument("--updates", type=int, default=1_000)
    parser.add_argument("--rate", type=float, default=1e-3, help="of learning")
    args = parser.parse_args()
    print("| gap | input | mean u | rank |\n|---|---|---|---|", flush=True)
    cases = [(gap, "change, copies 0.1", {}) for gap in GAPS]
    cases += [("gravity:20", name, settings) for name, settings in INPUTS.items()]
    for gap, name, settings in cases:
        runs = [measure(gap, seed, args, **settings) for seed in range(args.seeds)]
        cells = [claims.spread([run[key] for run in runs]) for key in ("u", "rank")]
        print(f"| {gap} | {name} | {cells[0]} | {cells[1]} |", flush=True)


if __name__ == "__main__":
    main()
