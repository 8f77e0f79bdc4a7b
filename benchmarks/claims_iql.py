"""IQL's claim: a high expectile joins halves of ways that nobody went whole.

    python benchmarks/claims_iql.py --seeds 5 --out iql.jsonl

    +-----------------+      A point in a box with a thick wall. The goal is at G, the
    | G               |      far starts are at S. Whoever made the logs went to and fro
    |#############    |      either in the upper half or in the lower one, meeting in
    |#############    |      the passage on the right, never from S to G; a tenth of the
    | S               |      actions are random.
    +-----------------+

The reward is -1 until the goal. Cloning against IQL with an expectile of 0.5 (SARSA),
0.7 and 0.9: success from far starts, after a third of the updates and after all, the
correlation of V with the length of the way left; and, going on online beside the logs,
success on the way and regret, the share of episodes lived without success. One line of
JSON per run goes to --out; what is there is not run again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import claims
import gymnasium
import numpy as np

from robostack.learner import Batch, Learner
from robostack.spec import Array, float32

GOAL, RADIUS, STEP = np.array([-0.8, 0.5]), 0.2, 0.2
WALL_X, WALL_Y = 0.4, 0.3  # the wall is where x < WALL_X and |y| < WALL_Y
CORNERS = np.array([[WALL_X, -WALL_Y], [WALL_X, WALL_Y]])  # of the way round it
HORIZON, DISCOUNT = 60, 0.95  # far starts are some 20 steps away
WALKERS, AT_RANDOM = 40, 0.1  # at once; share of random actions
METHODS: dict[str, tuple[str, dict[str, object]]] = {
    f"iql_{e:g}": ("iql", {"expectile": e, "inverse_temperature": 10.0})
    for e in (0.5, 0.7, 0.9)
}
METHODS["bc"] = ("bc", {})
MARKS = (2_000, 5_000, 10_000, 20_000)  # online steps after which success is told
COLUMNS = ("third", "offline", "correlation", *(f"online_{m}" for m in MARKS), "regret")


class Maze(gymnasium.Env):
    """The point, from a far start to the goal."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,))
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,))

    def reset(
        self, *, seed: int | None = None, options: dict | None = None
    ) -> tuple[Array, dict]:
        super().reset(seed=seed)
        self._place = self.np_random.uniform((-1.0, -1.0), (0.0, -WALL_Y))
        self._left = HORIZON
        return float32(self._place), {}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict]:
        self._place = move(self._place[None], action)[0]
        self._left -= 1
        done = bool(arrived(self._place))
        return float32(self._place), done - 1.0, done, self._left == 0, {}


def move(position: Array, action: Array) -> Array:
    """Return where points (N, 2) come to; the wall and the box stop them."""
    for axis in np.eye(2):
        after = np.clip(position + STEP * axis * np.clip(action, -1, 1), -1, 1)
        position = np.where(in_wall(after)[..., None], position, after)
    return position


def in_wall(position: Array) -> Array:
    return (position[..., 0] < WALL_X) & (np.abs(position[..., 1]) < WALL_Y)


def arrived(position: Array) -> Array:
    return np.linalg.norm(position - GOAL, axis=-1) < RADIUS


def way_left(position: Array) -> Array:
    """Return how far it is from points (N, 2) to the goal, round the wall."""
    low, high = CORNERS
    last = np.linalg.norm(high - GOAL)
    ways = [
        np.linalg.norm(position - GOAL, axis=-1),
        np.linalg.norm(position - high, axis=-1) + last,
        np.linalg.norm(position - low, axis=-1) + np.linalg.norm(high - low) + last,
    ]
    there = np.linspace(0, 1, 100)[:, None, None]
    for way, to in zip(ways, (GOAL, high), strict=False):
        way[in_wall(position + there * (to - position)).any(0)] = np.inf
    return np.min(ways, axis=0)


def collect(rng: np.random.Generator, transitions: int) -> claims.Memory:
    """Return transitions of walkers that go between waypoints of their half."""
    side = np.where(np.arange(WALKERS) % 2, 1.0, -1.0)

    def waypoint() -> Array:
        x, y = rng.uniform(-1, 1, WALKERS), rng.uniform(WALL_Y, 1, WALKERS)
        y = np.where(x > WALL_X, rng.uniform(-WALL_Y, 1, WALKERS), y)
        return np.stack([x, side * y], 1)

    memory = claims.Memory()
    position, target = waypoint(), waypoint()
    while len(memory) < transitions:
        renew = rng.random(WALKERS) < 0.1
        target[renew] = waypoint()[renew]
        way = target - position
        way /= np.maximum(np.linalg.norm(way, axis=1, keepdims=True), 0.05)
        action = np.clip(way + rng.normal(0, 0.4, way.shape), -1, 1)
        stray = rng.random(WALKERS) < AT_RANDOM
        action[stray] = rng.uniform(-1, 1, (stray.sum(), 2))
        after = move(position, action)
        goal = arrived(after)
        discount = np.where(goal, 0.0, DISCOUNT)
        for row in zip(position, action, goal - 1.0, discount, after, strict=True):
            memory.add(row)
        position = np.where(goal[:, None], waypoint(), after)
    return memory


def success(learner: Learner, episodes: int) -> float:
    """Return the share of episodes from far starts that reach the goal in time."""
    rng = np.random.default_rng(123)
    position = rng.uniform((-1.0, -1.0), (0.0, -WALL_Y), (episodes, 2))
    done = np.zeros(episodes, np.bool_)
    for _ in range(HORIZON):
        action = learner.act(float32(position), None)
        position = np.where(done[:, None], position, move(position, action))
        done |= arrived(position)
    return float(done.mean())


def correlation(learner: Learner) -> float | None:
    """Return that of V with the length of the way left, less than 0 if it is right."""
    import torch

    if not hasattr(learner, "value"):
        return None
    places = np.random.default_rng(123).uniform(-1, 1, (4000, 2))
    places = places[~in_wall(places)]
    with torch.no_grad():
        v = learner.value(torch.from_numpy(float32(places)))[:, 0].numpy()
    return float(np.corrcoef(v, way_left(places))[0, 1])


def run(name: str, seed: int, args: argparse.Namespace) -> dict[str, object]:
    rng = np.random.default_rng(seed)
    memory = collect(rng, args.data)
    algorithm, settings = METHODS[name]
    learner = claims.make(
        Maze(), memory, algorithm, seed, steps=args.updates, **settings
    )
    columns, result = memory.columns(), {"method": name, "seed": seed}
    for update in range(1, args.updates + 1):
        rows = rng.integers(len(memory), size=claims.BATCH_SIZE)
        learner.update(Batch(*(column[rows] for column in columns)))
        if update == args.updates // 3:
            result["third"] = success(learner, args.episodes)
    result["offline"] = success(learner, args.episodes)
    result["correlation"] = correlation(learner)
    if algorithm == "iql" and args.online:
        learner = claims.go_on(learner, Maze(), memory, actor_schedule="constant")
        result |= go_on(learner, memory, rng, seed, args)
    return result


def go_on(
    learner: Learner,
    memory: claims.Memory,
    rng: np.random.Generator,
    seed: int,
    args: argparse.Namespace,
) -> dict[str, float]:
    """Act and learn beside the logs, an update a step; return success on the way."""
    told, ends = dict[str, float](), list[bool]()
    rows = claims.live(Maze(), claims.sampled(learner, rng), args.online, seed + 1000)
    length = 0
    for step, (*lived, discount, after) in enumerate(rows, start=1):
        goal = discount == 0
        memory.add((*lived, 0.0 if goal else DISCOUNT, after))
        learner.update(memory.sample(rng))
        length += 1
        if goal or length == HORIZON:
            ends.append(goal)
            length = 0
        if step in MARKS:
            told[f"online_{step}"] = success(learner, args.episodes)
    return told | ({"regret": 1.0 - float(np.mean(ends))} if ends else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--data", type=int, default=120_000, help="transitions")
    parser.add_argument("--updates", type=int, default=30_000)
    parser.add_argument("--online", type=int, default=20_000, help="steps")
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path("claims_iql.jsonl"))
    args = parser.parse_args()
    for seed, name in claims.left(args.out, args.methods, args.seeds):
        claims.write(args.out, run(name, seed, args))
    print(claims.table(claims.read(args.out), COLUMNS))


if __name__ == "__main__":
    main()
