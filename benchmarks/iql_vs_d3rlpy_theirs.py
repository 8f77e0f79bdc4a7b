"""d3rlpy's side of iql_vs_d3rlpy.py; runs in d3rlpy's own environment.

    python iql_vs_d3rlpy_theirs.py train ARRAYS STEPS SEED FOLDER
    python iql_vs_d3rlpy_theirs.py pace ARRAYS

`train` writes FOLDER/policy.pt (TorchScript), FOLDER/probe.npz (what the policy
answers to some observations) and FOLDER/speed.txt [updates/s]. `pace` reads a number of
updates from each line of its input and answers with the seconds that they took.
"""

import sys
import time
from pathlib import Path

import d3rlpy
import numpy as np
import torch
from d3rlpy.optimizers import AdamFactory
from d3rlpy.optimizers.lr_schedulers import CosineAnnealingLRFactory

CHUNK = 1000  # updates between two lines of progress


def make_iql(steps: int) -> "d3rlpy.algos.IQL":
    """Return d3rlpy's IQL with the paper's locomotion settings, actor cosine too."""
    cosine = CosineAnnealingLRFactory(T_max=steps)
    config = d3rlpy.algos.IQLConfig(
        actor_optim_factory=AdamFactory(lr_scheduler_factory=cosine),
        batch_size=256,
        gamma=0.99,
        tau=0.005,
        expectile=0.7,
        weight_temp=3.0,
        max_weight=100.0,
    )
    return config.create(device="cpu:0")


def read_buffer(path: Path) -> "d3rlpy.dataset.ReplayBuffer":
    """Return the arrays that iql_vs_d3rlpy.py wrote, rewards already scaled."""
    arrays = np.load(path)
    return d3rlpy.dataset.MDPDataset(
        observations=arrays["observation"],
        actions=arrays["action"],
        rewards=arrays["reward"],
        terminals=arrays["terminated"].astype(np.float32),
        timeouts=arrays["truncated"].astype(np.float32),
        action_space=d3rlpy.ActionSpace.CONTINUOUS,
    )


def advance(algo: "d3rlpy.algos.IQL", buffer: object, updates: int) -> float:
    """Sample and update `updates` times; return the seconds it took."""
    start_s = time.perf_counter()
    for _ in range(updates):
        algo.update(buffer.sample_transition_batch(256))
    return time.perf_counter() - start_s


def train(arrays: Path, steps: int, seed: int, folder: Path) -> None:
    """Train from scratch, and write policy, probe and speed."""
    folder.mkdir(parents=True, exist_ok=True)
    d3rlpy.seed(seed)
    buffer, algo = read_buffer(arrays), make_iql(steps)
    algo.build_with_dataset(buffer)
    seconds = 0.0
    for done in range(0, steps, CHUNK):
        seconds += advance(algo, buffer, min(CHUNK, steps - done))
        print(arrays.stem, seed, done + CHUNK, f"{seconds:.0f} s", flush=True)
    observation = np.load(arrays)["observation"][:1000]
    algo.save_policy(str(folder / "policy.pt"))
    np.savez(
        folder / "probe.npz", observation=observation, action=algo.predict(observation)
    )
    (folder / "speed.txt").write_text(f"{steps / seconds}\n")


def pace(arrays: Path) -> None:
    """Answer each number of updates on stdin with the seconds they took."""
    d3rlpy.seed(0)
    buffer, algo = read_buffer(arrays), make_iql(1_000_000)
    algo.build_with_dataset(buffer)
    print("ready", flush=True)
    for line in sys.stdin:
        print(advance(algo, buffer, int(line)), flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1] == "train":
        train(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))
    else:
        pace(Path(sys.argv[2]))
