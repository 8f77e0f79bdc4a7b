"""A robot on a chain of places, its logs and policies, for tests of estimators."""

import numpy as np

from robostack.learner import Batch
from robostack.spec import ArraySpec, RobotSpec, float32
from robostack.training.ope import Candidate, Evidence

GAMMA = 0.9
SPEC = RobotSpec(
    name="chain",
    control_period_s=0.02,
    command_timeout_s=0.1,
    control="normalized",
    tracks="",
    observation={"place": ArraySpec.uniform(("x",), "m", 0.0, 2.0)},
    cameras={},
    action=ArraySpec.uniform(("go",), "", -1.0, 1.0),
    home=(0.0,),
    max_action_step=(2.0,),
    conventions={},
)


def evidence(episodes, gamma=GAMMA):
    """Return evidence of (observations T+1, actions T, rewards T, terminated)."""
    columns = {name: [] for name in Batch._fields}
    episode, step = [], []
    for number, (seen, acted, earned, terminated) in enumerate(episodes):
        discount = np.full(len(acted), gamma)
        discount[-1] = 0.0 if terminated else gamma
        rows = seen[:-1], acted, earned, discount, seen[1:], np.cumsum(earned)
        for name, row in zip(columns, rows, strict=True):
            columns[name].append(float32(row))
        episode += [number] * len(acted)
        step += range(len(acted))
    joined = {name: np.concatenate(rows) for name, rows in columns.items()}
    for name in ("observation", "next_observation", "action"):
        joined[name] = joined[name][:, None]
    starts = float32([[seen[0]] for seen, *_ in episodes])
    batch = Batch(**joined)
    return Evidence(SPEC, batch, np.array(episode), np.array(step), starts, gamma)


def chain(rng, count=60, *, terminated=True):
    """Walk 0 -> 1 -> 2 -> end: reward 1 for action 1 (sign), 0 for -1, at random."""
    return [
        ([0, 1, 2, 2], a := rng.choice([-1.0, 1.0], 3), (a > 0) * 1.0, terminated)
        for _ in range(count)
    ]


def always(name, action, log_prob=None):
    return Candidate(
        name,
        lambda seen, rng: np.full((len(seen), 1), action, np.float32),
        log_prob,
    )
