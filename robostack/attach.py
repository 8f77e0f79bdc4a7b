"""Make a bundle of a foreign ONNX policy: one flat input, one output, a contract file.

    robot = "sim:go1"              # or a JSON file that holds a RobotSpec
    semantics = "absolute"
    input = "obs"                  # of the foreign graph, (1 or batch, sum of parts)
    output = "continuous_actions"
    chunk = 8                      # actions per inference: an output (batch, 8, A)
    action_scale = 0.5             # action = clip(output * scale + offset, low, high)
    action_offset = "home"         # or numbers

    [[parts]]                      # of the foreign input, in its order
    array = "joint_position"       # (x - offset) * scale
    names = ["FL_hip", "FL_thigh"] # the policy's own order of the elements, optional
    offset = [0.1, 0.9]
    [[parts]]
    previous_output = true         # what the policy gave in the step before; 0 at first

The wrapping is added as graph nodes, so that the bundle speaks the robot's names, order
and units; and it is proved against the foreign graph fed by numpy.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import onnx
import onnx.compose
from onnx import TensorProto, helper, numpy_helper

from robostack import __version__, bundle, plugins
from robostack.bundle import BundleError, Golden, Manifest, Provenance, Semantics
from robostack.runtime.providers import make_session
from robostack.spec import Array, RobotSpec, SpecError, float32

_GOLDEN_VECTORS = 16
_STATE, _PREFIX = "previous_output", "foreign/"


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A stretch of the foreign policy's flat input."""

    array: str = ""  # observation array it comes from
    names: tuple[str, ...] = ()  # its elements in the policy's order; empty: all
    scale: float | tuple[float, ...] = 1.0
    offset: float | tuple[float, ...] = 0.0  # subtracted before scaling
    previous_output: bool = False
    constant: tuple[float, ...] = ()


class Contract(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What has to be said about a foreign policy before a robot may run it."""

    robot: str
    semantics: Semantics
    input: str
    output: str
    parts: tuple[Part, ...]
    action_scale: float | tuple[float, ...] = 1.0
    action_offset: float | tuple[float, ...] | str = 0.0  # or "home"
    chunk: int = 1  # actions per inference
    tolerance: float = 1e-5  # allowed difference from the foreign graph


class Attached(NamedTuple):
    """A bundle that was made, and how far it is from the foreign policy."""

    bundle: bundle.Bundle
    error: float  # largest difference over the golden vectors


def attach(model_path: Path, contract_path: Path, path: Path) -> Attached:
    """Write `path`: the policy of `model_path` under the contract of `contract_path`.

    Raises:
        BundleError: graph and contract disagree, or the proof failed.
    """
    contract = _read_contract(contract_path)
    robot = robot_spec(contract.robot, contract_path.parent)
    model = _read_model(model_path, contract)
    graph = _wrap(model, contract, robot)
    readings = _readings(robot)
    actions = _reference(model_path.read_bytes(), contract, robot, readings)
    state = {_STATE: robot.action.size} if _has_state(contract) else {}
    inputs = {name: array.tolist() for name, array in readings.items()}
    if state:
        inputs[f"state.{_STATE}"] = np.zeros((_GOLDEN_VECTORS, state[_STATE])).tolist()
    manifest = Manifest(
        schema=bundle.SCHEMA,
        robot=robot,
        robot_digest=robot.digest,
        semantics=contract.semantics,
        history=1,
        chunk=contract.chunk,
        stochastic=False,
        state=state,
        provenance=_provenance(model_path, contract),
        golden=Golden(
            inputs, actions.reshape(len(actions), -1).tolist(), contract.tolerance
        ),
        graph_sha256="",
    )
    error = _error(graph, inputs, actions)
    if not error <= contract.tolerance:
        raise BundleError(
            f"the wrapped graph differs from {model_path.name} by {error:.3g}, "
            f"expected at most {contract.tolerance:.3g}"
        )
    return Attached(bundle.write(path, graph, manifest), error)


def robot_spec(source: str, folder: Path) -> RobotSpec:
    """Return the spec of `sim:WORLD`, `hardware:ROBOT` or of a JSON file."""
    if plugins.is_address(source):
        return plugins.spec(source)
    try:
        return msgspec.json.decode((folder / source).read_bytes(), type=RobotSpec)
    except (OSError, msgspec.MsgspecError, SpecError) as error:
        raise BundleError(
            f"expected sim:WORLD, hardware:ROBOT or a JSON file with a robot spec, got "
            f"{source!r}: {error}"
        ) from error


def _read_contract(path: Path) -> Contract:
    try:
        contract = msgspec.toml.decode(path.read_bytes(), type=Contract)
    except (OSError, msgspec.MsgspecError) as error:
        raise BundleError(f"the contract {path} cannot be used: {error}") from error
    if contract.chunk < 1 or (contract.chunk > 1 and _has_state(contract)):
        raise BundleError(
            f"the contract {path} cannot be used: expected chunk = 1, or more without "
            f"a part of previous_output, got {contract.chunk}"
        )
    return contract


def _read_model(path: Path, contract: Contract) -> onnx.ModelProto:
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf and the checker share no base class
        raise BundleError(f"{path} is not a valid ONNX model: {error}") from error
    inputs = {i.name for i in model.graph.input}
    outputs = {o.name for o in model.graph.output}
    if inputs != {contract.input} or contract.output not in outputs:
        raise BundleError(
            f"expected a graph with the one input {contract.input!r} and the output "
            f"{contract.output!r}, got {sorted(inputs)} and {sorted(outputs)}"
        )
    return model


def _has_state(contract: Contract) -> bool:
    return any(part.previous_output for part in contract.parts)


def _select(part: Part, robot: RobotSpec) -> list[int]:
    if part.array not in robot.observation:
        raise BundleError(
            plugins.unknown("observation array", part.array, list(robot.observation))
        )
    names = robot.observation[part.array].names
    missing = [name for name in part.names if name not in names]
    if missing:
        raise BundleError(f"{part.array} has {names}, and not {', '.join(missing)}")
    return [names.index(name) for name in part.names or names]


def _offset(contract: Contract, robot: RobotSpec) -> Array:
    if contract.action_offset == "home":
        return float32(robot.home)
    if isinstance(contract.action_offset, str):
        raise BundleError(
            "expected action_offset as numbers or 'home', got "
            f"{contract.action_offset!r}"
        )
    return float32(contract.action_offset)


def _flat(contract: Contract, robot: RobotSpec, readings: dict[str, Array]) -> Array:
    """Return the foreign input (N, ...) by numpy: the reference for the graph nodes."""
    rows = len(next(iter(readings.values())))
    parts = []
    for part in contract.parts:
        if part.previous_output:
            parts.append(np.zeros((rows, robot.action.size), np.float32))
        elif part.constant:
            parts.append(np.tile(float32(part.constant), (rows, 1)))
        else:
            array = readings[part.array][:, _select(part, robot)]
            parts.append((array - float32(part.offset)) * float32(part.scale))
    return np.concatenate(parts, axis=1)


def _reference(
    model: bytes, contract: Contract, robot: RobotSpec, readings: dict[str, Array]
) -> Array:
    session = make_session(model, "cpu")
    flat = _flat(contract, robot, readings)
    expected = session.get_inputs()[0].shape[-1]
    if flat.shape[1] != expected:
        raise BundleError(
            f"expected parts of {expected} elements together, got {flat.shape[1]}"
        )
    rows = [session.run([contract.output], {contract.input: x[None]})[0] for x in flat]
    output = float32(rows)[:, 0]  # (N, A) or (N, chunk, A)
    chunk = () if contract.chunk == 1 else (contract.chunk,)
    if output.shape[1:] != (*chunk, robot.action.size):
        raise BundleError(
            f"expected an output (batch, {str((*chunk, robot.action.size))[1:-1]}) of "
            f"{robot.action.size} elements an action, got (batch, "
            f"{str(output.shape[1:])[1:-1]}): is `chunk` right?"
        )
    scaled = output * float32(contract.action_scale) + _offset(contract, robot)
    return robot.action.clip(scaled)


def _readings(robot: RobotSpec) -> dict[str, Array]:
    rng = np.random.default_rng(0)
    return {
        name: float32(
            rng.uniform(
                np.maximum(array.low, -3.0),
                np.minimum(array.high, 3.0),
                (_GOLDEN_VECTORS, array.size),
            )
        )
        for name, array in robot.observation.items()
    }


def _wrap(model: onnx.ModelProto, contract: Contract, robot: RobotSpec) -> bytes:
    """Return the foreign graph with the contract as nodes before and after it."""
    inner = onnx.compose.add_prefix(model, _PREFIX).graph
    constants = list(inner.initializer)
    flat = [_part_nodes(i, p, robot, constants) for i, p in enumerate(contract.parts)]
    join = helper.make_node(
        "Concat",
        [nodes[-1].output[0] if nodes else name for nodes, name in flat],
        [_PREFIX + contract.input],
        axis=1,
    )
    before = [node for nodes, _ in flat for node in nodes]
    after = _action_nodes(contract, robot, constants)
    size = robot.action.size
    inputs = [_value(name, a.size) for name, a in robot.observation.items()]
    chunk = () if contract.chunk == 1 else (contract.chunk,)
    outputs = [_value("action", *chunk, size)]
    if _has_state(contract):
        inputs.append(_value(f"state.{_STATE}", size))
        outputs.append(_value(f"next_state.{_STATE}", size))
        last = [_PREFIX + contract.output]
        after.append(helper.make_node("Identity", last, [f"next_state.{_STATE}"]))
    nodes = [*before, join, *inner.node, *after]
    graph = helper.make_graph(nodes, "robostack", inputs, outputs, constants)
    result = helper.make_model(graph, opset_imports=model.opset_import)
    result.ir_version = model.ir_version
    onnx.checker.check_model(result)
    return bytes(result.SerializeToString())


def _part_nodes(
    i: int, part: Part, robot: RobotSpec, constants: list[onnx.TensorProto]
) -> tuple[list[onnx.NodeProto], str]:
    """Return the nodes that compute one part, and the name to use if there are none."""
    if part.previous_output:
        return [], f"state.{_STATE}"
    name = f"part{i}"

    def constant(suffix: str, value: object, dtype: type = np.float32) -> str:
        array: np.typing.NDArray[np.generic] = np.asarray(value, dtype)
        constants.append(numpy_helper.from_array(array, f"{name}/{suffix}"))
        return f"{name}/{suffix}"

    if part.constant:  # one row for each row of the first observation array
        first = next(iter(robot.observation))
        zero = constant("zero", np.zeros((robot.observation[first].size, 1)))
        row = constant("row", [part.constant])
        steps = [
            helper.make_node("MatMul", [first, zero], [f"{name}/column"]),
            helper.make_node("Add", [f"{name}/column", row], [f"{name}/out"]),
        ]
        return steps, ""
    chosen = constant("select", _select(part, robot), np.int64)
    offset = constant("offset", part.offset)
    scale = constant("scale", part.scale)
    steps = [
        helper.make_node("Gather", [part.array, chosen], [f"{name}/chosen"], axis=1),
        helper.make_node("Sub", [f"{name}/chosen", offset], [f"{name}/shifted"]),
        helper.make_node("Mul", [f"{name}/shifted", scale], [f"{name}/out"]),
    ]
    return steps, ""


def _action_nodes(
    contract: Contract, robot: RobotSpec, constants: list[onnx.TensorProto]
) -> list[onnx.NodeProto]:
    """Return the nodes from the foreign output to the limited action."""
    operands = {
        "Mul": float32(contract.action_scale),
        "Add": _offset(contract, robot),
        "Max": float32(robot.action.low),
        "Min": float32(robot.action.high),
    }
    nodes, at = [], _PREFIX + contract.output
    for operation, operand in operands.items():
        constants.append(numpy_helper.from_array(operand, f"action/{operation}"))
        to = "action" if operation == "Min" else f"action/after {operation}"
        nodes.append(helper.make_node(operation, [at, f"action/{operation}"], [to]))
        at = to
    return nodes


def _value(name: str, *shape: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape])


def _error(graph: bytes, inputs: dict[str, list[list[float]]], actions: Array) -> float:
    session = make_session(graph, "cpu")
    feeds = [
        {k: float32(v[i : i + 1]) for k, v in inputs.items()}
        for i in range(len(actions))
    ]
    found = [session.run(["action"], feed)[0][0] for feed in feeds]
    return float(np.abs(float32(found) - actions).max())


def _provenance(model_path: Path, contract: Contract) -> Provenance:
    return Provenance(
        algorithm=f"foreign ONNX file {model_path.name}",
        config=msgspec.to_builtins(contract),
        seed=0,
        steps=0,
        dataset_digest="",
        code_version=__version__,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        scores={},
    )
