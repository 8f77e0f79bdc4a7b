"""Off-policy evaluation where truth is cheap: noisy copies of a regulator."""

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("mujoco")

from robostack.data.dataset import create, open_dataset
from robostack.data.episode import End, Episode
from robostack.policies._ope import fqe
from robostack.spec import concatenate, float32
from robostack.training import ope
from robostack.training.evaluate import open_arena, steps

WORLD, GAMMA, HORIZON = "sim:gym/InvertedPendulum-v5", 0.99, 300
GAINS = float32([-1.8, -9.9, -1.9, -1.8])  # of a linear-quadratic regulator
LOGGED = (0.5, 1.0, 2.0, 3.0, 5.0)  # spread of the noise on its actions
JUDGED = (0.75, 1.25, 1.5, 2.0, 3.0, 5.0)
CONFIG = fqe.Config(
    regression_updates=1000, updates=2000, density_updates=1500, hidden=(64, 64)
)


def noisy(spread, rng):
    """Return the regulator with noise, which is part of it, as a policy (B, O)."""

    def act(seen, _=None):
        drawn = spread * rng.standard_normal(len(seen))
        return float32((drawn - seen @ GAINS).clip(-3, 3))[:, None]

    return act


def live(arena, act, seed):
    """Return one episode of `act`."""
    spec = arena.world.spec
    arena.world.seed(seed)
    arena.world.reset()
    rows = []
    policy = steps(
        lambda reading: act(concatenate(spec, reading)[None])[0], arena.world, HORIZON
    )
    for row in policy:
        rows.append(row)
        if arena.task.terminated(row)[0]:
            break
    seen = {
        name: np.concatenate([rows[0][name][:1], *(row[name][1:] for row in rows)])
        for name in spec.observation
    }
    action = np.concatenate([row["action"] for row in rows])
    ended = bool(arena.task.terminated(rows[-1])[0])
    return Episode(
        observation=seen,
        action=action,
        requested=action,
        time_s=np.arange(len(rows) + 1) * spec.control_period_s,
        end=End.TERMINATED if ended else End.TRUNCATED,
        reward=float32([arena.task.reward(row)[0] for row in rows]),
        truth={},
        frames={},
        labels={},
    )


def worth(episode):
    return float((GAMMA ** np.arange(len(episode.reward)) * episode.reward).sum())


@pytest.mark.slow
def test_fqe_ranks_noisy_copies_of_a_policy_as_the_world_does(tmp_path):
    arena, rng = open_arena(WORLD), np.random.default_rng(0)
    try:
        logs = [
            live(arena, noisy(spread, rng), seed)
            for spread, share in zip(LOGGED, (10, 15, 50, 80, 120), strict=True)
            for seed in range(share)
        ]
        truth = [
            np.mean([worth(live(arena, noisy(s, rng), 900 + i)) for i in range(20)])
            for s in JUDGED
        ]
    finally:
        arena.world.close()
    dataset = create(tmp_path / "logs", arena.world.spec)
    dataset.append(logs, {"source": "test"})
    evidence = ope.gather(open_dataset(tmp_path / "logs"), gamma=GAMMA)
    judged = [ope.Candidate(str(s), noisy(s, rng), None) for s in JUDGED]
    options = ope.Options(seeds=1)
    found = fqe.estimate(evidence, judged, CONFIG, options, lambda *_: None)
    ranks = [np.argsort(np.argsort(x)) for x in (truth, [f.value for f in found])]
    assert np.corrcoef(*ranks)[0, 1] >= 0.8
