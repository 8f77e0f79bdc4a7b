"""A bundle that swings the SO-101 about home, and who watches an emulated arm."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from robostack.bundle import SCHEMA, Golden, Manifest, Provenance, write
from robostack.hardware.so101.control import Control, History, Look, Spoil
from robostack.spec import RobotSpec, float32

AMPLITUDE = (0.35, 0.3, 0.3, 0.3, 0.4, 0.3)  # [rad]
PULSE = 0.075  # [rad] of phase per period
GAZE = 2.0  # [rad/m] of the pan joint over the cube's y
SPEED = max(AMPLITUDE) * PULSE / 0.05  # [rad/s] of a target at most


def swing(robot: RobotSpec, cube, phase):
    """Return the targets (A,) of the swinging policy."""
    way = np.array(AMPLITUDE) * 0.5 * (1.0 - np.cos(PULSE * phase))
    way[0] += GAZE * cube[1]
    return robot.action.clip(float32(np.array(robot.home) + way))


def swinging_bundle(path: Path, robot: RobotSpec):
    """Write targets = clip(home + A / 2 (1 - cos(pulse t)) + gaze cube_y), as ONNX."""
    import onnx
    from onnx import helper, numpy_helper

    gaze = np.zeros((3, 6), np.float32)
    gaze[1, 0] = GAZE
    constants = {
        "half": 0.5 * float32([AMPLITUDE]),
        "pulse": np.float32(PULSE),
        "one": np.float32(1.0),
        "home": float32([robot.home]),
        "gaze": gaze,
        "low": float32(robot.action.low),
        "high": float32(robot.action.high),
        "blind": np.zeros((6, 6), np.float32),
        "blind3": np.zeros((3, 6), np.float32),
    }
    steps = [
        ("Mul", ["state.phase", "pulse"], "angle"),
        ("Cos", ["angle"], "cos"),
        ("Sub", ["one", "cos"], "rise"),
        ("MatMul", ["rise", "half"], "way"),
        ("MatMul", ["cube_position", "gaze"], "look"),
        ("MatMul", ["joint_position", "blind"], "joints"),
        ("MatMul", ["tip_position", "blind3"], "tip"),
        ("Sum", ["way", "look", "joints", "tip", "home"], "raw"),
        ("Max", ["raw", "low"], "above"),
        ("Min", ["above", "high"], "action"),
        ("Add", ["state.phase", "one"], "next_state.phase"),
    ]

    def port(name, size):
        return helper.make_tensor_value_info(name, 1, ["batch", size])

    inputs = [port(name, a.size) for name, a in robot.observation.items()]
    graph = helper.make_graph(
        [helper.make_node(op, inputs, [out]) for op, inputs, out in steps],
        "swing",
        [*inputs, port("state.phase", 1)],
        [port("action", 6), port("next_state.phase", 1)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    model.ir_version = 10
    onnx.checker.check_model(model)
    return write(path, bytes(model.SerializeToString()), _manifest(robot))


def _manifest(robot):
    rng = np.random.default_rng(0)
    inputs = {
        name: float32(rng.uniform(-0.2, 0.2, (4, array.size)))
        for name, array in robot.observation.items()
    }
    phase = float32(np.arange(4.0)[:, None])
    pairs = zip(inputs["cube_position"], phase, strict=True)
    actions = [swing(robot, cube, p[0]).tolist() for cube, p in pairs]
    arrays = {**inputs, "state.phase": phase}
    return Manifest(
        schema=SCHEMA,
        robot=robot,
        robot_digest=robot.digest,
        semantics="absolute",
        history=1,
        chunk=1,
        stochastic=False,
        state={"phase": 1},
        provenance=Provenance("swing", {}, 0, 0, "", "0.1.0", "", {}),
        golden=Golden({k: v.tolist() for k, v in arrays.items()}, actions, 1e-4),
        graph_sha256="",
    )


class Onlooker:
    """Sees an emulated arm beside its bus, and spoils it."""

    def __init__(self, port: str) -> None:
        self._control = Control(Path(port).parent)

    def look(self):
        return self._control.ask(Look())

    def spoil(self, **faults):
        return self._control.ask(Spoil(**faults))

    def written(self, since=0):
        """Return (when, id, instruction, bytes) of what was not just a question."""
        return self._control.ask(History(since)).packets

    def goals(self, since=0):
        """Return when [s] goals were written."""
        return [
            when
            for when, _id, instruction, rest in self.written(since)
            if instruction == 0x83 and rest[0] == 41
        ]

    def close(self):
        self._control.close()
