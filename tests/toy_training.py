"""Online runs in the toy world, at a size for tests."""

import numpy as np
import toy_world

from robostack.data.dataset import create
from robostack.data.episode import End, Episode
from robostack.data.experience import FILE
from robostack.spec import float32
from robostack.training import checkpoint, online
from robostack.training.journal import Options
from robostack.training.run import CHECKPOINTS
from robostack.training.setting import Setting

CHANGES = ["steps=60", "batch_size=16", "hidden=[16]", "evaluate_episodes=1"]
OPTIONS = Options(seed=4, checkpoint_every=16, report_every=10)


def make_dataset(folder):
    dataset = create(folder, toy_world.SPEC)
    dataset.append([episode(seed) for seed in range(6)], {"source": "a test"})
    return dataset


def episode(seed, steps=12):
    rng = np.random.default_rng(seed)
    position = float32(np.cumsum(rng.uniform(-0.2, 0.2, (steps + 1, 1)), axis=0))
    goal = np.full((steps + 1, 1), rng.choice([-1.0, 1.0]), np.float32)
    return Episode(
        observation={"position": position, "goal": goal},
        action=position[1:],
        requested=position[1:],
        time_s=np.arange(steps + 1) * 0.02,
        end=End.TRUNCATED,
        reward=-np.abs(position - goal)[1:, 0],
        truth={},
        frames={},
        labels={},
    )


def train(folder, plan, dataset=None, on_progress=lambda _: None, **changes):
    parent = changes.pop("parent", None)
    options = {name: getattr(OPTIONS, name) for name in OPTIONS.__struct_fields__}
    setting = Setting("sim:toy", "", dataset, parent)
    return online.train(
        setting, folder, plan, Options(**options | changes), on_progress
    )


def final(folder):
    """Return everything that a run ended with."""
    files = [(folder / name).read_bytes() for name in ("metrics.jsonl", FILE)]
    return checkpoint.newest(folder / CHECKPOINTS), *files
