"""d3rlpy's side of offline.py; runs in d3rlpy's own environment.

    python offline_theirs.py train ALGORITHM ARRAYS STEPS CHECKPOINTS SEED HIDDEN FOLDER
    python offline_theirs.py online (the same) PARENT WORLD
    python offline_theirs.py pace ALGORITHM ARRAYS [flush]
    python offline_theirs.py trace ARRAYS FILE

`train` writes policy-N.pt (TorchScript) and probe-N.npz (what the policy answers to
some observations) after each of the last CHECKPOINTS tenths of the STEPS, N updates,
and speed.txt [updates/s] at the end, all in FOLDER. `online` goes on from the weights
and moments that `train` left in PARENT, acting in Gymnasium's WORLD. `pace` reads a
number of updates from each line of its input and answers with the seconds that they
took, numbers below 1e-38 counting as 0 if told to `flush`; in training they always do,
which changes no score, and makes Cal-QL four times as fast. `trace` updates IQL in
float64, and writes its first weights and its networks' answers into FILE.
"""

import dataclasses
import sys
import time
from pathlib import Path
from typing import NamedTuple

import d3rlpy
import gymnasium
import numpy as np
import torch
from d3rlpy.algos.utility import build_scalers_with_transition_picker
from d3rlpy.optimizers import AdamFactory
from d3rlpy.optimizers.lr_schedulers import CosineAnnealingLRFactory
from d3rlpy.torch_utility import TorchMiniBatch

MODEL = "model.pt"  # of a trained run: weights and moments
FIRST = 2  # steps online before which nothing is lived that could be learned from
TRACED = (1, 10, 100, 1000)  # updates after which `trace` asks the networks
TRACE_STEPS = 1000  # until the actor's learning rate is 0

CONSERVATIVE = {
    "batch_size": 256,
    "conservative_weight": 5.0,
    "n_action_samples": 10,
    "alpha_learning_rate": 0.0,
    "initial_alpha": 1.0,
}


class Plan(NamedTuple):
    """What to train, and how long."""

    algorithm: str
    steps: int  # a multiple of 10
    checkpoints: int  # how many of the last tenths of the steps leave a policy
    seed: int
    hidden: tuple[int, ...]  # sizes of layers


def make(
    algorithm: str, steps: int, hidden: tuple[int, ...] = (256, 256)
) -> "d3rlpy.algos.QLearningAlgoBase":
    """Return d3rlpy's algorithm with the settings that ours has."""
    factories = {
        "iql": make_iql,
        "td3_bc": make_td3_bc,
        "awac": make_awac,
        "cql": make_cql,
        "cal_ql": make_cal_ql,
    }
    config = factories[algorithm](steps)
    names = (field.name for field in dataclasses.fields(config))
    encoder = d3rlpy.models.VectorEncoderFactory(list(hidden))
    encoders = {name: encoder for name in names if name.endswith("encoder_factory")}
    return dataclasses.replace(config, **encoders).create(device="cpu:0")


def build(
    algo: "d3rlpy.algos.QLearningAlgoBase", buffer: "d3rlpy.dataset.ReplayBuffer"
) -> "d3rlpy.algos.QLearningAlgoBase":
    """Return `algo`, ready to be updated: what `fit` does first."""
    build_scalers_with_transition_picker(algo, buffer)
    algo.build_with_dataset(buffer)
    return algo


def make_td3_bc(_steps: int) -> "d3rlpy.algos.TD3PlusBCConfig":
    """Return the paper's settings; observations are standardized."""
    return d3rlpy.algos.TD3PlusBCConfig(
        batch_size=256,
        observation_scaler=d3rlpy.preprocessing.StandardObservationScaler(),
    )


def make_awac(_steps: int) -> "d3rlpy.algos.AWACConfig":
    """Return weights of lambda 1, normalized over the batch."""
    return d3rlpy.algos.AWACConfig(batch_size=256, lam=1.0)


def make_cql(_steps: int) -> "d3rlpy.algos.CQLConfig":
    """Return the authors' settings for locomotion: alpha 5, never tuned."""
    return d3rlpy.algos.CQLConfig(**CONSERVATIVE)


def make_cal_ql(_steps: int) -> "d3rlpy.algos.CalQLConfig":
    """Return the same, calibrated."""
    return d3rlpy.algos.CalQLConfig(**CONSERVATIVE)


def make_iql(steps: int) -> "d3rlpy.algos.IQLConfig":
    """Return the paper's locomotion settings, actor cosine too."""
    cosine = CosineAnnealingLRFactory(T_max=steps)
    return d3rlpy.algos.IQLConfig(
        actor_optim_factory=AdamFactory(lr_scheduler_factory=cosine),
        batch_size=256,
        gamma=0.99,
        tau=0.005,
        expectile=0.7,
        weight_temp=3.0,
        max_weight=100.0,
    )


def read_buffer(path: Path, *, scaled: bool) -> "d3rlpy.dataset.ReplayBuffer":
    """Return the arrays that offline.py wrote, their rewards scaled or as they were."""
    arrays = dict(np.load(path))
    if not scaled:
        arrays["reward"] = (arrays["reward"] / arrays["scale"]).astype(np.float32)
    return d3rlpy.dataset.MDPDataset(
        observations=arrays["observation"],
        actions=arrays["action"],
        rewards=arrays["reward"],
        terminals=arrays["terminated"].astype(np.float32),
        timeouts=arrays["truncated"].astype(np.float32),
        action_space=d3rlpy.ActionSpace.CONTINUOUS,
    )


def advance(
    algo: "d3rlpy.algos.QLearningAlgoBase", buffer: object, updates: int
) -> float:
    """Sample and update `updates` times; return the seconds it took."""
    start_s = time.perf_counter()
    for _ in range(updates):
        algo.update(buffer.sample_transition_batch(256))
    return time.perf_counter() - start_s


def train(plan: Plan, arrays: Path, folder: Path) -> None:
    """Train from scratch, and write policies, probes and speed."""
    folder.mkdir(parents=True, exist_ok=True)
    d3rlpy.seed(plan.seed)
    buffer = read_buffer(arrays, scaled=plan.algorithm != "td3_bc")
    algo = build(make(plan.algorithm, plan.steps, plan.hidden), buffer)
    observation = np.load(arrays)["observation"][:1000]
    tenth, seconds = plan.steps // 10, 0.0
    for i in range(1, 11):
        done = i * tenth
        seconds += advance(algo, buffer, tenth)
        print(
            plan.algorithm, arrays.stem, plan.seed, done, f"{seconds:.0f} s", flush=True
        )
        if i > 10 - plan.checkpoints:
            save(algo, observation, folder, done)
    algo.save_model(str(folder / MODEL))
    (folder / "speed.txt").write_text(f"{plan.steps / seconds}\n")


def train_online(
    plan: Plan, arrays: Path, folder: Path, parent: Path, world: str
) -> None:
    """Go on from `parent` by acting, an update a step."""
    folder.mkdir(parents=True, exist_ok=True)
    d3rlpy.seed(plan.seed)
    scaled = plan.algorithm != "td3_bc"
    logged = read_buffer(arrays, scaled=scaled)
    algo = build(make(plan.algorithm, 1, plan.hidden), logged)
    algo.load_model(str(parent / MODEL))
    if plan.algorithm == "iql":  # its cosine has ended
        keep_rate(algo.impl._modules.actor_optim, 3e-4)
    scale = float(np.load(arrays)["scale"]) if scaled else 1.0
    env = Scaled(gymnasium.make(world), scale)
    env.reset(seed=plan.seed)
    observation, start_s = np.load(arrays)["observation"][:1000], time.perf_counter()
    tenth = plan.steps // 10

    def keep(algo: object, _epoch: int, step: int) -> None:
        if step % tenth == 0 and step > (10 - plan.checkpoints) * tenth:
            save(algo, observation, folder, step)

    algo.fit_online(
        env,
        mixed(plan.algorithm, logged),
        n_steps=plan.steps,
        n_steps_per_epoch=plan.steps,
        update_start_step=FIRST,
        logger_adapter=d3rlpy.logging.NoopAdapterFactory(),
        show_progress=False,
        callback=keep,
    )
    seconds = time.perf_counter() - start_s
    (folder / "speed.txt").write_text(f"{plan.steps / seconds}\n")


def mixed(
    algorithm: str, logged: "d3rlpy.dataset.ReplayBuffer"
) -> "d3rlpy.dataset.ReplayBufferBase":
    """Return logs that grow; of Cal-QL's batches half is lived, as in its paper."""
    if algorithm != "cal_ql":
        return logged
    shapes = {
        "observation_signature": logged.dataset_info.observation_signature,
        "action_signature": logged.dataset_info.action_signature,
        "reward_signature": logged.dataset_info.reward_signature,
    }
    buffer = d3rlpy.dataset.FIFOBuffer(1_000_000)
    info = {"action_space": logged.dataset_info.action_space}
    size = {"action_size": logged.dataset_info.action_size}
    lived = d3rlpy.dataset.ReplayBuffer(buffer, **shapes, **info, **size)
    return d3rlpy.dataset.MixedReplayBuffer(lived, logged, secondary_mix_ratio=0.5)


def keep_rate(optimizer: object, rate: float) -> None:
    """Hold the learning rate at `rate` from now on."""
    optimizer._lr_scheduler = None
    for group in optimizer.optim.param_groups:
        group["lr"] = rate


class Scaled(gymnasium.Wrapper):
    """Readings in float32, as in the logs, and rewards scaled as there."""

    def __init__(self, env: gymnasium.Env, scale: float) -> None:
        super().__init__(env)
        space = env.observation_space
        self.observation_space = gymnasium.spaces.Box(
            -np.inf, np.inf, space.shape, np.float32
        )
        self._scale = scale

    def reset(self, **told: object) -> "tuple[np.ndarray, dict]":
        observation, info = self.env.reset(**told)
        return observation.astype(np.float32), info

    def step(self, action: np.ndarray) -> "tuple[np.ndarray, float, bool, bool, dict]":
        after, reward, terminated, truncated, info = self.env.step(action)
        return after.astype("f4"), reward * self._scale, terminated, truncated, info


def save(
    algo: "d3rlpy.algos.QLearningAlgoBase",
    observation: np.ndarray,
    folder: Path,
    done: int,
) -> None:
    """Write the policy after `done` updates, and its answers."""
    algo.save_policy(str(folder / f"policy-{done}.pt"))
    answers = algo.predict(observation)
    np.savez(folder / f"probe-{done}.npz", observation=observation, action=answers)


def pace(algorithm: str, arrays: Path) -> None:
    """Answer each number of updates on stdin with the seconds they took."""
    d3rlpy.seed(0)
    buffer = read_buffer(arrays, scaled=algorithm != "td3_bc")
    algo = build(make(algorithm, 1_000_000), buffer)
    print("ready", flush=True)
    for line in sys.stdin:
        print(advance(algo, buffer, int(line)), flush=True)


def trace(path: Path, file: Path) -> None:
    """Update IQL on the batches of offline_equal.py; write weights and answers."""
    d3rlpy.seed(0)
    arrays = {name: torch.tensor(array) for name, array in np.load(path).items()}
    algo = make("iql", TRACE_STEPS)
    algo.create_impl((11,), 3)
    nets = algo.impl._modules
    for net in (nets.policy, nets.value_func, nets.q_funcs, nets.targ_q_funcs):
        net.double()
    result = {f"weights/{name}": array for name, array in weights(nets).items()}
    rng = np.random.default_rng(0)
    size = len(arrays["reward"])
    probe = batch(arrays, rng.integers(size, size=1000))
    for step in range(1, TRACED[-1] + 1):
        drawn = batch(arrays, rng.integers(size, size=256))
        algo.impl.inner_update(drawn, step - 1)
        if step in TRACED:
            answered = answers(nets, probe).items()
            result |= {f"{step}/{name}": array for name, array in answered}
    np.savez(file, **result)


def batch(arrays: "dict[str, torch.Tensor]", rows: np.ndarray) -> TorchMiniBatch:
    """Return `rows` as d3rlpy has them, in float64."""
    names = "observation", "action", "reward", "next_observation", "terminated"
    o, a, r, after, end = (arrays[name][rows].double() for name in names)
    none = torch.zeros(len(rows), 1, dtype=torch.float64)
    end, r, one = end[:, None], r[:, None], torch.ones_like(none)
    return TorchMiniBatch(o, a, r, after, none, none, end, one, "cpu")


def weights(nets: "d3rlpy.algos.qlearning.torch.IQLModules") -> dict[str, np.ndarray]:
    """Return weights (I, O) and biases (1, O), layer by layer, of all networks."""
    named = {"policy": nets.policy, "value": nets.value_func}
    named |= {f"critic{k}": net for k, net in enumerate(nets.q_funcs)}
    result = {}
    for name, net in named.items():
        last = net._mu if name == "policy" else net._fc
        hidden = [m for m in net._encoder.modules() if isinstance(m, torch.nn.Linear)]
        for i, layer in enumerate([*hidden, last]):
            result[f"{name}/{i}/weight"] = layer.weight.detach().T.numpy().copy()
            result[f"{name}/{i}/bias"] = layer.bias.detach()[None].numpy().copy()
    return result


@torch.no_grad()
def answers(
    nets: "d3rlpy.algos.qlearning.torch.IQLModules", probe: TorchMiniBatch
) -> dict[str, np.ndarray]:
    """Return what all networks say to `probe`."""
    o, a = probe.observations, probe.actions
    out = nets.policy(o)
    pairs = {"critic": nets.q_funcs, "target": nets.targ_q_funcs}
    said = {name: [q(o, a).q_value[:, 0] for q in qs] for name, qs in pairs.items()}
    result = {name: torch.stack(values) for name, values in said.items()}
    result |= {"value": nets.value_func(o)[:, 0], "mean": out.squashed_mu}
    return {name: x.numpy() for name, x in (result | {"log_std": out.logstd}).items()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.set_flush_denormal(sys.argv[1] != "pace" or sys.argv[-1] == "flush")
    if sys.argv[1] == "trace":
        trace(Path(sys.argv[2]), Path(sys.argv[3]))
    elif sys.argv[1] in ("train", "online"):
        name, arrays, steps, checkpoints, seed, hidden, folder, *more = sys.argv[2:]
        sizes = tuple(int(size) for size in hidden.split(","))
        plan = Plan(name, int(steps), int(checkpoints), int(seed), sizes)
        if sys.argv[1] == "train":
            train(plan, Path(arrays), Path(folder))
        else:
            train_online(plan, Path(arrays), Path(folder), Path(more[0]), more[1])
    else:
        pace(sys.argv[2], Path(sys.argv[3]))
