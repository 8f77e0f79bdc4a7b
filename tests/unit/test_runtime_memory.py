"""Chunks, history and recurrent state of real graphs, across episodes and readings."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from conftest import linear_manifest

from robostack import bundle
from robostack.attach import attach
from robostack.bundle import BundleError, Golden
from robostack.runtime.session import Session
from robostack.spec import float32

pytest.importorskip("onnx")
from onnx import helper, numpy_helper

CHUNK, HISTORY = 8, 3


def model(nodes, inputs, outputs, **constants):
    """Return an ONNX model, ports by name with their shapes after the batch axis."""

    def port(name, shape):
        return helper.make_tensor_value_info(name, 1, ["batch", *shape])

    graph = helper.make_graph(
        [helper.make_node(op, i, o, **more) for op, i, o, more in nodes],
        "made",
        [port(*p) for p in inputs.items()],
        [port(*p) for p in outputs.items()],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    made.ir_version = 10
    return made


def foreign_chunks(robot):
    """Return a foreign policy: row i of its chunk is 0.1 * (i + 1) * joint_position."""
    size = robot.action.size
    rows = np.concatenate([0.1 * (i + 1) * np.eye(size) for i in range(CHUNK)], 1)
    return model(
        [
            ("MatMul", ["obs", "rows"], ["flat"], {}),
            ("Reshape", ["flat", "shape"], ["actions"], {}),
        ],
        {"obs": (size,)},
        {"actions": (CHUNK, size)},
        rows=float32(rows),
        shape=np.int64([-1, CHUNK, size]),
    )


@pytest.fixture
def chunked(robot, tmp_path):
    """Return paths of a foreign policy with chunks, and of a contract for it."""
    (tmp_path / "robot.json").write_bytes(msgspec.json.encode(robot))
    (tmp_path / "p.onnx").write_bytes(foreign_chunks(robot).SerializeToString())
    (tmp_path / "p.toml").write_text(
        'robot = "robot.json"\nsemantics = "absolute"\ninput = "obs"\n'
        f'output = "actions"\nchunk = {CHUNK}\naction_scale = 2.0\n'
        '[[parts]]\narray = "joint_position"\n'
    )
    return tmp_path / "p.onnx", tmp_path / "p.toml"


def test_a_foreign_policy_with_chunks_becomes_a_bundle_by_contract(chunked, tmp_path):
    made = attach(*chunked, tmp_path / "b.onnx").bundle
    assert made.manifest.chunk == CHUNK
    session = Session(bundle.read(tmp_path / "b.onnx"))
    reading = {"joint_position": float32([1, -0.5]), "joint_velocity": float32([9, 9])}
    actions = session.infer(reading)
    scale = 0.2 * np.arange(1, CHUNK + 1)[:, None]
    assert actions == pytest.approx(np.clip(scale * [1, -0.5], -2, 2), abs=1e-6)
    assert (session.act(reading) == actions[0]).all()


@pytest.mark.parametrize(("old", "new"), [("chunk = 8", "chunk = 4"), ("chunk", "#")])
def test_a_wrong_chunk_length_in_the_contract_is_one_sentence(
    chunked, tmp_path, old, new
):
    contract = chunked[1]
    contract.write_text(contract.read_text().replace(old, new))
    with pytest.raises(BundleError, match=r"is `chunk` right\?"):
        attach(*chunked, tmp_path / "b.onnx")


def with_history(robot, path):
    """Write a bundle that answers the sum of the last three joint positions."""
    sizes = {name: (HISTORY, a.size) for name, a in robot.observation.items()}
    graph = model(
        [
            ("ReduceSum", ["joint_position", "axis"], ["sum"], {"keepdims": 0}),
            ("ReduceSum", ["joint_velocity", "axis"], ["other"], {"keepdims": 0}),
            ("Mul", ["other", "zero"], ["nothing"], {}),
            ("Add", ["sum", "nothing"], ["action"], {}),
        ],
        sizes,
        {"action": (2,)},
        axis=np.int64([1]),
        zero=np.float32(0),
    )
    inputs = {name: [[0.0] * HISTORY * 2] for name in sizes}
    manifest = linear_manifest(
        robot,
        history=HISTORY,
        stochastic=False,
        golden=Golden(inputs, [[0.0, 0.0]], 1e-5),
    )
    return bundle.write(path, graph.SerializeToString(), manifest)


def with_state(robot, path, chunk=1):
    """Write a bundle that answers how many times it was asked, in state.count."""
    shape = [-1, chunk, 2] if chunk > 1 else [-1, 2]
    graph = model(
        [
            ("Mul", ["joint_position", "zero"], ["a"], {}),
            ("Mul", ["joint_velocity", "zero"], ["b"], {}),
            ("Add", ["a", "b"], ["nothing"], {}),
            ("Add", ["state.count", "one"], ["sum"], {}),
            ("Add", ["sum", "nothing"], ["next_state.count"], {}),
            ("Tile", ["next_state.count", "times"], ["flat"], {}),
            ("Reshape", ["flat", "shape"], ["action"], {}),
        ],
        {"joint_position": (2,), "joint_velocity": (2,), "state.count": (2,)},
        {"action": tuple(shape[1:]), "next_state.count": (2,)},
        zero=np.float32(0),
        one=np.float32(1),
        times=np.int64([1, chunk]),
        shape=np.int64(shape),
    )
    inputs = {n: [[0.0, 0.0]] for n in (*robot.observation, "state.count")}
    manifest = linear_manifest(
        robot,
        chunk=chunk,
        stochastic=False,
        state={"count": 2},
        golden=Golden(inputs, [[1.0] * 2 * chunk], 1e-5),
    )
    return bundle.write(path, graph.SerializeToString(), manifest)


def at(position):
    return {"joint_position": float32([position, 0]), "joint_velocity": float32([0, 0])}


def test_history_has_readings_that_were_only_observed(robot, tmp_path):
    session = Session(with_history(robot, tmp_path / "h.onnx"))
    assert session.act(at(0.1))[0] == pytest.approx(0.3)  # the first fills it
    session.observe(at(0.2))
    assert session.act(at(0.4))[0] == pytest.approx(0.7)


def test_history_begins_anew_after_a_reset(robot, tmp_path):
    session = Session(with_history(robot, tmp_path / "h.onnx"))
    session.act(at(0.5))
    session.reset()
    assert session.act(at(0.1))[0] == pytest.approx(0.3)


def test_recurrent_state_advances_with_every_reading_and_resets(robot, tmp_path):
    session = Session(with_state(robot, tmp_path / "s.onnx"))
    session.act(at(0))
    session.observe(at(0))
    assert session.act(at(0))[0] == 3
    session.reset()
    assert session.act(at(0))[0] == 1


def test_with_chunks_recurrent_state_advances_once_an_inference(robot, tmp_path):
    session = Session(with_state(robot, tmp_path / "s.onnx", chunk=4))
    session.infer(at(0))
    session.observe(at(0))
    assert (session.infer(at(0)) == 2).all()
    assert session.infer(at(0)).shape == (4, 2)
