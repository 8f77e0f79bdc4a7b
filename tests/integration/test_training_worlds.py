"""Learning by acting in real worlds: an episode that was cut is lived through again."""

import os
import signal

import pytest

pytest.importorskip("torch")
pytest.importorskip("mujoco")

from robostack.data.experience import FILE
from robostack.training import checkpoint, online, recipe
from robostack.training.journal import Options
from robostack.training.run import CHECKPOINTS
from robostack.training.setting import Setting

CHANGES = ["steps=40", "batch_size=16", "hidden=[16]", "evaluate_episodes=1"]


@pytest.mark.parametrize(
    "world",
    [
        "sim:gym/Hopper-v5",
        pytest.param("sim:pendulum", marks=pytest.mark.slow),
        pytest.param("sim:double_pendulum", marks=pytest.mark.slow),
    ],
)
def test_a_run_in_a_world_of_mujoco_goes_on_to_the_bit(tmp_path, world):
    def interrupt(progress):
        os.kill(os.getpid(), signal.SIGINT)

    plan = recipe.read("sac", "", [*CHANGES, "random_steps=120"])
    options = Options(resume=True, report_every=10, checkpoint_every=9)
    final = []
    for folder, interruptions in ((tmp_path / "straight", 0), (tmp_path / "cut", 2)):
        for _ in range(interruptions):
            online.train(Setting(world), folder, plan, options, interrupt)
            rows = checkpoint.newest(folder / CHECKPOINTS).experience.rows
            assert 0 < rows < 160
        assert online.train(Setting(world), folder, plan, options).finished
        files = [(folder / name).read_bytes() for name in ("metrics.jsonl", FILE)]
        final.append((checkpoint.newest(folder / CHECKPOINTS), files))
    assert final[0] == final[1]


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("seed", range(3))
def test_ppo_learns_to_balance_a_pole(tmp_path, seed):
    """From nothing, in 25 rollouts; who never falls earns 1000, the first policy 10."""
    changes = ["steps=25", "batch_size=1024", "gamma=0.98", "evaluate_every=25"]
    changes += ["policy_learning_rate=1e-3", "value_learning_rate=1e-3"]
    plan = recipe.read("ppo", "", [*changes, "evaluate_episodes=5"])
    world, options = Setting("sim:gym/InvertedPendulum-v5"), Options(seed=seed)
    outcome = online.train(world, tmp_path / "run", plan, options)
    assert outcome.evaluation["evaluation/return"] > 900


@pytest.mark.slow
def test_sac_learns_to_swing_a_pendulum_up_and_to_keep_it_there(tmp_path):
    """From nothing, by the recipe; hanging earns 0, upright all along 500."""
    plan = recipe.read("sac", "pendulum", ["steps=5_000"])
    outcome = online.train(Setting("sim:pendulum"), tmp_path / "run", plan)
    assert outcome.evaluation["evaluation/success"] == 1.0
    assert outcome.evaluation["evaluation/return"] > 400
