"""Training within less memory than its data takes."""

import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("torch")

from robostack.data.dataset import create
from robostack.data.episode import End, Episode
from robostack.spec import ArraySpec, RobotSpec, float32

NAMES = tuple(f"reading_{i}" for i in range(100))
SPEC = RobotSpec(
    name="many_readings",
    control_period_s=0.02,
    command_timeout_s=0.1,
    control="normalized",
    tracks="",
    observation={"state": ArraySpec.uniform(NAMES, "", -9.0, 9.0)},
    cameras={},
    action=ArraySpec.uniform(("push",), "", -1.0, 1.0),
    home=(0.0,),
    max_action_step=(2.0,),
    conventions={},
)
STEPS, EPISODES = 10_000, 80
LOADED = STEPS * EPISODES * (100 + 1 + 1) * 4  # [byte]
SCRIPT = """
import resource, sys
from pathlib import Path
from robostack.data.dataset import open_dataset
from robostack.data.memory import STATUS, table
from robostack.training import offline, recipe

small, large, folder, room, stream = sys.argv[1:]
plan = recipe.read("iql", "", ["steps=60", "hidden=[16]"])
offline.train(open_dataset(small), Path(folder) / "small", plan)  # brings all modules
most = table(STATUS)["VmData"] * 1024 + int(room)
resource.setrlimit(resource.RLIMIT_DATA, (most, most))
options = offline.Options(stream={"no": False, "auto": None}[stream])
try:
    offline.train(open_dataset(large), Path(folder) / "large", plan, options)
except MemoryError:
    sys.exit("out of memory")
"""


def episode(seed):
    rng = np.random.default_rng(seed)
    action = float32(rng.uniform(-1, 1, (STEPS, 1)))
    return Episode(
        observation={"state": rng.standard_normal((STEPS + 1, 100), np.float32)},
        action=action,
        requested=action,
        time_s=np.arange(STEPS + 1) * 0.02,
        end=End.TRUNCATED,
        reward=action[:, 0],
        truth={},
        frames={},
        labels={},
    )


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_training_fits_into_a_third_of_what_its_data_takes(tmp_path):
    one = episode(0)
    small, large = (create(tmp_path / name, SPEC) for name in ("small", "large"))
    small.append([one], {})
    large.append((one for _ in range(EPISODES)), {})

    def train(stream):
        about = [str(d.path) for d in (small, large)]
        about += [str(tmp_path / stream), str(LOADED // 3), stream]
        command = [sys.executable, "-c", SCRIPT, *about]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert train("no").stderr.strip().endswith("out of memory")
    done = train("auto")
    assert done.returncode == 0, done.stderr
