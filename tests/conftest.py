"""What all tests share: quiet threads, headless rendering, and a small real bundle."""

from __future__ import annotations

import os
import signal
import tempfile

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two cores, many processes
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("MUJOCO_GL", "egl")
os.environ["XDG_STATE_HOME"] = f"{tempfile.gettempdir()}/robostack-tests"  # black boxes

from pathlib import Path

import numpy as np
import pytest

from robostack.bundle import SCHEMA, Bundle, Golden, Manifest, Provenance, write
from robostack.spec import ArraySpec, RobotSpec, float32, split

SPREAD = 0.1  # of the actions of the linear graph
SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_configure() -> None:
    """Heed Ctrl-C, and let children heed it: a shell's & ignores it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real logs, or skip."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the data sets are not at {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture
def robot() -> RobotSpec:
    """Return a two-joint robot."""
    return RobotSpec(
        name="two_joints",
        control_period_s=0.02,
        command_timeout_s=0.1,
        control="position",
        tracks="joint_position",
        observation={
            "joint_position": ArraySpec.uniform(("hip", "knee"), "rad", -3.0, 3.0),
            "joint_velocity": ArraySpec.uniform(("hip", "knee"), "rad/s", -9.0, 9.0),
        },
        cameras={},
        action=ArraySpec.uniform(("hip", "knee"), "rad", -2.0, 2.0),
        home=(0.0, 0.0),
        max_action_step=(0.1, 0.1),
        conventions={"zero": "hanging down"},
    )


def gain(robot: RobotSpec):
    """Return the matrix (O, A) of the linear policy."""
    shape = (robot.observation_size, robot.action.size)
    return np.random.default_rng(1).uniform(-1, 1, shape).astype(np.float32)


def linear_graph(robot: RobotSpec) -> bytes:
    """Return action = clip(observation @ gain + 0.1 * noise), as ONNX."""
    onnx = pytest.importorskip("onnx")
    from onnx import helper, numpy_helper

    low, high = float32(robot.action.low), float32(robot.action.high)
    names = list(robot.observation)
    nodes = [
        helper.make_node("Concat", names, ["observation"], axis=1),
        helper.make_node("MatMul", ["observation", "gain"], ["raw"]),
        helper.make_node("Mul", ["noise", "spread"], ["drawn"]),
        helper.make_node("Add", ["raw", "drawn"], ["sample"]),
        helper.make_node("Max", ["sample", "low"], ["above"]),
        helper.make_node("Min", ["above", "high"], ["action"]),
    ]
    constants = {
        "gain": gain(robot),
        "low": low,
        "high": high,
        "spread": np.float32(SPREAD),
    }

    def port(name, size):
        return helper.make_tensor_value_info(name, 1, ["batch", size])

    arrays = [port(name, a.size) for name, a in robot.observation.items()]
    graph = helper.make_graph(
        nodes,
        "linear",
        [*arrays, port("noise", robot.action.size)],
        [port("action", robot.action.size)],
        [numpy_helper.from_array(v, k) for k, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    model.ir_version = 10
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def linear_action(robot: RobotSpec, observation, noise=0.0):
    """Return what the linear graph answers to observations (B, O)."""
    drawn = np.float32(SPREAD) * float32(noise)
    return robot.action.clip(float32(observation) @ gain(robot) + drawn)


def linear_manifest(robot: RobotSpec, **changes) -> Manifest:
    """Return a manifest for the linear graph."""
    rng = np.random.default_rng(0)
    shape = (8, robot.observation_size)
    observation = rng.uniform(-1, 1, shape).astype(np.float32)
    noise = rng.standard_normal((8, robot.action.size), np.float32)
    arrays = split(robot, observation) | {"noise": noise}
    fields = {
        "schema": SCHEMA,
        "robot": robot,
        "robot_digest": robot.digest,
        "semantics": "absolute",
        "history": 1,
        "chunk": 1,
        "stochastic": True,
        "state": {},
        "provenance": Provenance("linear", {}, 0, 0, "", "0.1.0", "", {}),
        "golden": Golden(
            inputs={k: v.tolist() for k, v in arrays.items()},
            action=linear_action(robot, observation, noise).tolist(),
            tolerance=1e-5,
        ),
        "graph_sha256": "",
    }
    return Manifest(**{**fields, **changes})


@pytest.fixture
def policy(robot, tmp_path) -> Bundle:
    """Return a small real bundle for `robot`."""
    path = tmp_path / "policy.onnx"
    return write(path, linear_graph(robot), linear_manifest(robot))
