"""A foreign policy under a contract acts as it did alone, in the robot's own names."""

from __future__ import annotations

import msgspec
import numpy as np
import onnxruntime
import pytest

from robostack import bundle
from robostack.attach import attach
from robostack.bundle import BundleError
from robostack.runtime.session import Session
from robostack.spec import ArraySpec, RobotSpec, float32

LEGS = [f"{leg}_{joint}" for leg in ("FR", "FL", "RR", "RL") for joint in "htc"]
HOME = (0.1, 0.9, -1.8, -0.1, 0.9, -1.8, 0.1, 0.9, -1.8, -0.1, 0.9, -1.8)
BODY = ("gx", "gy", "gz", "vx", "vy", "vz", "ux", "uy", "uz")
CONTRACT = """
robot = "go1.json"
semantics = "absolute"
input = "obs"
output = "continuous_actions"
action_scale = 0.5
action_offset = "home"
[[parts]]
array = "body"
names = ["vx", "vy", "vz", "gx", "gy", "gz", "ux", "uy", "uz"]
[[parts]]
array = "joint_position"
offset = [0.1, 0.9, -1.8, -0.1, 0.9, -1.8, 0.1, 0.9, -1.8, -0.1, 0.9, -1.8]
[[parts]]
array = "joint_velocity"
[[parts]]
previous_output = true
[[parts]]
constant = [1.0, 0.0, 0.0]
"""


@pytest.fixture
def foreign(shared_data, tmp_path):
    """Return the path of a real third-party policy, and of a contract for it."""
    spec = RobotSpec(
        name="go1",
        control_period_s=0.02,
        command_timeout_s=0.1,
        control="position",
        tracks="joint_position",
        observation={
            "joint_position": ArraySpec.uniform(LEGS, "rad", -3, 3),
            "joint_velocity": ArraySpec.uniform(LEGS, "rad/s", -30, 30),
            "body": ArraySpec.uniform(BODY, "", -30, 30),
        },
        cameras={},
        action=ArraySpec.uniform(LEGS, "rad", -3, 3),
        home=HOME,
        max_action_step=(1.0,) * 12,
        conventions={},
    )
    (tmp_path / "go1.json").write_bytes(msgspec.json.encode(spec))
    (tmp_path / "go1.toml").write_text(CONTRACT)
    return shared_data / "go1_joystick_onnx" / "go1_policy.onnx", tmp_path / "go1.toml"


def test_the_bundle_acts_as_the_foreign_graph_by_hand(foreign, tmp_path):
    model, contract = foreign
    session = Session(attach(model, contract, tmp_path / "p.onnx").bundle)
    bare = onnxruntime.InferenceSession(model)
    rng, last = np.random.default_rng(0), np.zeros(12, np.float32)
    for _ in range(5):  # the previous output is carried along
        q, dq, body = (float32(rng.normal(size=n)) for n in (12, 12, 9))
        reading = {"joint_position": q, "joint_velocity": dq, "body": body}
        parts = (body[3:6], body[:3], body[6:], q - float32(HOME), dq, last, [1, 0, 0])
        flat = np.concatenate(parts, dtype=np.float32)[None]
        last = bare.run(None, {"obs": flat})[0][0]
        expected = np.clip(float32(HOME) + 0.5 * last, -3, 3)
        assert session.act(reading) == pytest.approx(expected, abs=1e-5)


def test_reset_forgets_the_previous_output(foreign, tmp_path):
    session = Session(attach(*foreign, tmp_path / "p.onnx").bundle)
    sizes = {"joint_position": 12, "joint_velocity": 12, "body": 9}
    reading = {name: np.full(n, 0.1, np.float32) for name, n in sizes.items()}
    first, second = session.act(reading), session.act(reading)
    session.reset()
    assert (session.act(reading) == first).all()
    assert not (second == first).all()


def test_the_bundle_reads_back(foreign, tmp_path):
    made = attach(*foreign, tmp_path / "p.onnx").bundle
    assert bundle.read(tmp_path / "p.onnx") == made
    assert made.manifest.state == {"previous_output": 12}


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('input = "obs"', 'input = "x"', r"the one input 'x'.*got \['obs'\]"),
        ('array = "body"', 'array = "bodi"', "did you mean 'body'"),
        ('names = ["vx"', 'names = ["nose"', "not nose"),
        ("constant = [1.0, 0.0, 0.0]", "constant = [1.0]", "48 elements.* got 46"),
        ("action_scale", "action_scael", "action_scael"),
        ('"home"', '"hom"', "numbers or 'home', got 'hom'"),
        ('robot = "go1.json"', 'robot = "none.json"', r"none\.json"),
    ],
)
def test_a_wrong_contract_is_one_sentence(foreign, tmp_path, old, new, sentence):
    model, contract = foreign
    contract.write_text(CONTRACT.replace(old, new))
    with pytest.raises(BundleError, match=sentence):
        attach(model, contract, tmp_path / "p.onnx")
    assert not (tmp_path / "p.onnx").exists()


def test_a_file_that_is_no_model_is_one_sentence(foreign, tmp_path):
    (tmp_path / "x.onnx").write_bytes(b"not a model")
    with pytest.raises(BundleError, match="not a valid ONNX model"):
        attach(tmp_path / "x.onnx", foreign[1], tmp_path / "p.onnx")
