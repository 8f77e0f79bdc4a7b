"""The claim of IQL at toy size: a high expectile joins halves of ways that it saw.

+-----------------+      A point in a box with a thick wall. The goal is at G, the
| G               |      far starts are at S. Whoever made the data went to and fro
|#############    |      either in the upper half or in the lower one, meeting in
|#############    |      the passage on the right; never from S to G, and as often
| S               |      away from the goal as towards it.
+-----------------+
"""

import numpy as np
import pytest

pytest.importorskip("torch")

from robostack import plugins
from robostack.learner import Batch, Statistics
from robostack.spec import ArraySpec, RobotSpec, float32

GOAL, RADIUS, STEP = np.array([-0.8, 0.5]), 0.2, 0.2
WALL_X, WALL_Y = 0.4, 0.3  # the wall is where x < WALL_X and |y| < WALL_Y
SEEDS = (0, 1)
HORIZON = 60

SPEC = RobotSpec(
    name="point",
    control_period_s=0.1,
    command_timeout_s=0.5,
    control="normalized",
    tracks="",
    observation={"position": ArraySpec.uniform(("x", "y"), "m", -1.0, 1.0)},
    cameras={},
    action=ArraySpec.uniform(("x", "y"), "", -1.0, 1.0),
    home=(0.0, 0.0),
    max_action_step=(2.0, 2.0),
    conventions={},
)


def move(position, action):
    """Return where points (N, 2) come to; the wall and the box stop them."""
    for axis in np.eye(2):
        after = np.clip(position + STEP * axis * np.clip(action, -1, 1), -1, 1)
        inside = (after[:, 0] < WALL_X) & (np.abs(after[:, 1]) < WALL_Y)
        position = np.where(inside[:, None], position, after)
    return position


def arrived(position):
    return np.linalg.norm(position - GOAL, axis=1) < RADIUS


def collect(rng, walkers=600, steps=60):
    """Return transitions of walkers that go between waypoints of their half."""
    side = np.where(np.arange(walkers) % 2, 1.0, -1.0)

    def waypoint():
        x, y = rng.uniform(-1, 1, walkers), rng.uniform(0.3, 1, walkers)
        y = np.where(x > WALL_X, rng.uniform(-0.3, 1, walkers), y)
        return np.stack([x, side * y], 1)

    position, target = waypoint(), waypoint()
    rows = []
    for _ in range(steps):
        renew = rng.random(walkers) < 0.1
        target[renew] = waypoint()[renew]
        way = target - position
        way /= np.maximum(np.linalg.norm(way, axis=1, keepdims=True), 0.05)
        action = np.clip(way + rng.normal(0, 0.4, way.shape), -1, 1)
        after = move(position, action)
        goal = arrived(after)
        rows.append((position, action, goal - 1.0, 0.95 * ~goal, after))
        position = np.where(goal[:, None], waypoint(), after)
    columns = zip(*rows, strict=True)
    return Batch(*(float32(np.concatenate(column)) for column in columns))


def success(learner):
    """Return the share of far starts, below the wall, that reach the goal."""
    rng = np.random.default_rng(123)
    position = np.stack([rng.uniform(-1, 0, 200), rng.uniform(-1, -0.3, 200)], 1)
    done = np.zeros(200, np.bool_)
    for _ in range(HORIZON):
        action = learner.act(float32(position), None)
        position = np.where(done[:, None], position, move(position, action))
        done |= arrived(position)
    return done.mean()


def train(algorithm, data, seed, steps=4000, **settings):
    module = plugins.load("policies", algorithm)
    config = module.Config(hidden=(64, 64), learning_rate=1e-3, **settings)
    mean, std = data.observation.mean(0), data.observation.std(0)
    statistics = Statistics(mean, std, -HORIZON, 0.0)
    learner = module.Learner(
        SPEC, config, statistics=statistics, steps=steps, seed=seed
    )
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        rows = rng.integers(len(data.reward), size=256)
        learner.update(Batch(*(column[rows] for column in data[:5])))
    return learner


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_high_expectile_stitches_where_sarsa_and_cloning_do_not():
    rates = {"0.9": [], "0.5": [], "bc": []}
    for seed in SEEDS:
        data = collect(np.random.default_rng(seed))
        for expectile in (0.9, 0.5):
            learner = train(
                "iql",
                data,
                seed,
                expectile=expectile,
                inverse_temperature=10.0,
                target_rate=0.02,
            )
            rates[str(expectile)].append(success(learner))
        rates["bc"].append(success(train("bc", data, seed)))
    means = {name: np.mean(values) for name, values in rates.items()}
    assert means["0.9"] > means["0.5"] + 0.3, rates
    assert means["0.9"] > means["bc"] + 0.3, rates
