"""How far the policies of offline.py get from logged states, early and late.

    python benchmarks/offline_starts.py --sets medium-expert --work RUNS
    python benchmarks/offline_starts.py --sets medium-expert --work RUNS --relay 40

A score from the reset state mixes two questions: does a policy get over the start, and
does it hop well afterwards. Here a hopper is put into logged states, and its return
over the next 400 steps is printed, as mean over the checkpoints and 80 states of each
age: at a reset, 20 steps later, and 100 or more. States are drawn once, alike for all,
from those that 100 logged steps follow. The horizontal position, which is not logged,
is 0.

With `--relay`, episodes from the reset state instead, whose first steps are another
policy's: a cell is the mean over all pairs of seeds, and 20 episodes for each pair.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from pathlib import Path

import gymnasium
import numpy as np
from offline_plan import SETS, TWINS, kinds, load_spec, marks
from offline_scores import EVALUATION_SEED, load, spread

from robostack.training.evaluate import Arena, Policy, evaluate, open_arena

WORLD = "Hopper-v5"  # whose states follow from what is observed
HOPPERS = [name for name, (world, _) in SETS.items() if world == WORLD]
EPISODES = 20
HORIZON, STATES, MARGIN = 400, 80, 100  # [steps], states of an age, [steps]
AGES = {"0": (0, 0), "20": (20, 20), "100 or more": (100, 10**6)}  # [steps] of episodes


def draw(arrays: np.lib.npyio.NpzFile) -> dict[str, np.ndarray]:
    """Return observations (STATES, O) for every age."""
    ends = np.flatnonzero(arrays["terminated"] | arrays["truncated"])
    rows = np.arange(ends[-1] + 1)
    episode = np.searchsorted(ends, rows)
    age = rows - np.concatenate(([0], ends[:-1] + 1))[episode]
    followed = ends[episode] - rows >= MARGIN
    rng = np.random.default_rng(0)
    chosen = {}
    for name, (low, high) in AGES.items():
        fitting = np.flatnonzero(followed & (age >= low) & (age <= high))
        chosen[name] = arrays["observation"][rng.choice(fitting, STATES)]
    return chosen


def go_on(policy: Policy, env: gymnasium.Env, observation: np.ndarray) -> float:
    """Return the reward of the steps from the state that `observation` (O,) shows."""
    env.reset(seed=0)
    position, velocity = np.split(observation.astype(np.float64), [env.model.nq - 1])
    env.set_state(np.concatenate(([0.0], position)), velocity)
    spec, total = load_spec("medium"), 0.0
    first = next(iter(spec.observation.values())).size
    for _ in range(HORIZON):
        parts = np.split(observation.astype(np.float32), [first])
        action = policy(dict(zip(spec.observation, parts, strict=True)))
        observation, reward, fallen, _, _ = env.step(action)
        total += float(reward)
        if fallen:
            break
    return total


def measure(args: argparse.Namespace, name: str, kind: str) -> str:
    """Return a row of the table: mean and standard deviation over seeds, by age."""
    states = draw(np.load(args.work / f"{name}.npz"))
    env = gymnasium.make(WORLD, disable_env_checker=True).unwrapped
    cells = []
    for observations in states.values():
        means = []
        for seed in range(args.seeds):
            folder = args.work / "runs" / kind / name / str(seed)
            policies = [load(folder, step) for step in marks(args, args.steps)]
            returns = [go_on(p, env, o) for p in policies for o in observations]
            means.append(statistics.mean(returns))
        cells.append(spread(means))
    return f"| {name} | {kind} | {' | '.join(cells)} |"


def relay(args: argparse.Namespace, name: str) -> None:
    """Print mean returns: who begins, by row, and who goes on, by column."""
    runs = args.work / "runs"
    policies = {
        kind: [
            load(runs / kind / name / str(seed), args.steps)
            for seed in range(args.seeds)
        ]
        for kind in kinds(args)
    }
    print(
        f"| {name}: the first {args.relay} steps | then {' | then '.join(policies)} |"
    )
    print("|---|" + "---|" * len(policies))
    arena = open_arena(f"sim:gym/{WORLD}")
    for kind, beginners in policies.items():
        means = [
            mean_relay(args, arena, beginners, others) for others in policies.values()
        ]
        print(f"| {kind} | {' | '.join(f'{mean:.0f}' for mean in means)} |", flush=True)
    arena.world.close()


def mean_relay(
    args: argparse.Namespace, arena: Arena, first: list[Policy], then: list[Policy]
) -> float:
    """Return the mean return over all pairs of `first` and `then`."""
    returns = []
    for a, b in itertools.product(first, then):
        for episode in range(EPISODES):
            policy = Relay(a, b, args.relay)
            seed = EVALUATION_SEED + episode
            returns += evaluate(policy, arena, episodes=1, seed=seed).returns.tolist()
    return statistics.mean(returns)


class Relay:
    """One policy for the first steps of an episode, then another."""

    def __init__(self, first: Policy, then: Policy, steps: int) -> None:
        self._first, self._then, self._left = first, then, steps

    def __call__(self, reading: dict[str, np.ndarray]) -> np.ndarray:
        """Return the action (A,)."""
        self._left -= 1
        return self._first(reading) if self._left >= 0 else self._then(reading)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--work", type=Path, default=Path("runs/offline"))
    parser.add_argument("--algorithms", nargs="+", choices=list(TWINS), default=["iql"])
    parser.add_argument("--sets", nargs="+", choices=HOPPERS, default=HOPPERS)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--checkpoints", type=int, choices=range(1, 11), default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--relay", type=int, default=0, help="[steps]")
    args = parser.parse_args()
    if args.relay:
        for name in args.sets:
            relay(args, name)
        return
    print(f"| set | policy | {' | '.join(f'age {age}' for age in AGES)} |")
    print("|---|---|" + "---|" * len(AGES))
    for name in args.sets:
        for kind in kinds(args):
            print(measure(args, name, kind), flush=True)


if __name__ == "__main__":
    main()
