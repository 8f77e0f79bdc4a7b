"""Robot-node test 9: shuffled names give identical motion, a renamed joint is refused.

The policy is elementwise, each joint by its name, so that no sum depends on the order.
"""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from conftest import linear_manifest
from robot_examples import LockstepFake

from robostack import bundle
from robostack.bundle import Golden
from robostack.hardware.fake.joints import SPEC
from robostack.limits import derive
from robostack.link.client import Client, arrays
from robostack.link.errors import RefusedError
from robostack.node.embedded import embedded
from robostack.runtime.loop import Job, run_episode
from robostack.runtime.permute import between, greet
from robostack.runtime.policy import planner
from robostack.runtime.session import Session
from robostack.spec import ArraySpec, float32

pytest.importorskip("onnx")
from onnx import helper, numpy_helper

STEPS, SHUFFLES = 60, 12
NAMES = ("pan", "lift", "elbow", "flex", "roll", "grip")
MANY = msgspec.structs.replace(
    SPEC,
    observation={
        "joint_position": ArraySpec(
            NAMES, ("rad",) * 6, (-2.0, -2.1, -2.2, -2.3, -2.4, -2.5), (2.6,) * 6
        ),
        "joint_velocity": ArraySpec.uniform(NAMES, "rad/s", -10.0, 10.0),
    },
    action=ArraySpec(NAMES, ("rad",) * 6, (-1.5,) * 6, (1.1, 1.2, 1.3, 1.4, 1.5, 1.6)),
    home=(0.0,) * 6,
    max_action_step=(0.05, 0.06, 0.07, 0.08, 0.09, 0.1),
)


class Many(LockstepFake):
    """Six joints, each with its own bounds."""

    spec = MANY

    def __init__(self) -> None:
        super().__init__(derive(MANY))


def array_in(order, array):
    """Return `array` with its elements in the order of indices `order`."""
    at = [tuple(column[i] for i in order) for column in msgspec.structs.astuple(array)]
    return ArraySpec(*at)


def shuffled(spec, rng):
    """Return `spec` with every array in an order of its own."""
    order = rng.permutation(spec.action.size)
    return msgspec.structs.replace(
        spec,
        observation={
            name: array_in(rng.permutation(a.size), a)
            for name, a in spec.observation.items()
        },
        action=array_in(order, spec.action),
        home=tuple(spec.home[i] for i in order),
        max_action_step=tuple(spec.max_action_step[i] for i in order),
    )


def elementwise(spec, path, gains):
    """Write a bundle: action = a - b * position - c * velocity, joint by joint."""
    names = spec.action.names
    position, velocity = "joint_position", "joint_velocity"
    made = {
        "a": float32([gains[n][0] for n in names]),
        "b": float32([gains[n][1] for n in names]),
        "c": float32([gains[n][2] for n in names]),
        "low": float32(spec.action.low),
        "high": float32(spec.action.high),
    }
    for short, name in (("p", position), ("v", velocity)):
        found = spec.observation[name].names
        made[short] = np.array([found.index(n) for n in names], np.int64)
    nodes = [
        helper.make_node("Gather", [position, "p"], ["q"], axis=1),
        helper.make_node("Gather", [velocity, "v"], ["dq"], axis=1),
        helper.make_node("Mul", ["q", "b"], ["bq"]),
        helper.make_node("Mul", ["dq", "c"], ["cdq"]),
        helper.make_node("Sub", ["a", "bq"], ["left"]),
        helper.make_node("Sub", ["left", "cdq"], ["raw"]),
        helper.make_node("Max", ["raw", "low"], ["above"]),
        helper.make_node("Min", ["above", "high"], ["action"]),
    ]

    def port(name, size):
        return helper.make_tensor_value_info(name, 1, ["batch", size])

    graph = helper.make_graph(
        nodes,
        "elementwise",
        [port(name, a.size) for name, a in spec.observation.items()],
        [port("action", len(names))],
        [numpy_helper.from_array(v, k) for k, v in made.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    model.ir_version = 10
    zeros = {name: [[0.0] * a.size] for name, a in spec.observation.items()}
    action = np.clip(made["a"], made["low"], made["high"])
    manifest = linear_manifest(
        spec,
        stochastic=False,
        golden=Golden(zeros, [action.tolist()], 1e-6),
    )
    return bundle.write(path, model.SerializeToString(), manifest)


def gains(spec):
    rng = np.random.default_rng(3)
    high = min(spec.action.high)
    return {
        n: (0.6 * high * rng.uniform(-1, 1), *rng.uniform(0.005, 0.02, 2))
        for n in spec.action.names
    }


class Seen:
    """Writes down what a planner answers to what."""

    def __init__(self, author) -> None:
        self._author = author
        self.rows = []

    def __getattr__(self, name):
        return getattr(self._author, name)

    def answer(self, reading):
        answer = self._author.answer(reading)
        found = arrays(reading.arrays)
        self.rows.append(
            np.concatenate([*(found[k] for k in sorted(found)), answer.action])
        )
        return answer


def motion(robot, policy):
    """Return what the node read and was sent (STEPS, ...), and what was adapted."""
    with (
        embedded(robot() if callable(robot) else robot, lockstep=True) as node,
        Client(node.endpoint) as client,
    ):
        welcome, permutation = greet(client, policy)
        with planner(Session(policy, "cpu"), welcome, permutation) as author:
            seen = Seen(author)
            run_episode(client, welcome, seen, Job(STEPS, seed=1))
        return np.stack(seen.rows), permutation


@pytest.mark.parametrize("where", [Many, "sim:double_pendulum"])
def test_any_order_of_names_gives_the_same_motion_bit_for_bit(where, tmp_path):
    if isinstance(where, str):
        pytest.importorskip("mujoco")
    spec = MANY if where is Many else spec_of(where)
    straight, nothing = motion(where, elementwise(spec, tmp_path / "p", gains(spec)))
    assert nothing is None
    assert np.ptp(straight, axis=0).max() > 0.01  # it does move
    rng = np.random.default_rng(9)
    for i in range(SHUFFLES if where is Many else 4):
        other = shuffled(spec, rng)
        path = tmp_path / f"{i}.onnx"
        turned, _ = motion(where, elementwise(other, path, gains(spec)))
        assert (turned == straight).all()


def spec_of(address):
    from robostack import plugins

    kind, name, argument = plugins.parse(address)
    return plugins.load(kind, name).spec(argument)


def test_the_permutation_is_put_in_words():
    rng = np.random.default_rng(1)
    sentences = between(shuffled(MANY, rng), MANY).sentences
    assert any(s.startswith("action: the same names in another") for s in sentences)


@pytest.mark.parametrize("seed", range(5))
def test_a_renamed_joint_is_refused_in_any_order(seed, tmp_path):
    rng = np.random.default_rng(seed)
    joint = NAMES[rng.integers(6)]

    def rename(array):
        names = tuple("toe" if name == joint else name for name in array.names)
        return msgspec.structs.replace(array, names=names)

    toe = msgspec.structs.replace(
        MANY,
        observation={name: rename(a) for name, a in MANY.observation.items()},
        action=rename(MANY.action),
    )
    renamed = shuffled(toe, rng)
    values = dict.fromkeys(renamed.action.names, (0.1, 0.1, 0.1))
    policy = elementwise(renamed, tmp_path / "p.onnx", values)
    with (
        embedded(Many(), lockstep=True) as node,
        Client(node.endpoint) as client,
        pytest.raises(RefusedError, match="toe"),
    ):
        greet(client, policy)


@pytest.mark.parametrize("field", ["low", "high", "units"])
def test_a_shuffled_policy_with_one_more_difference_is_refused(field, tmp_path):
    column = list(getattr(MANY.action, field))
    column[2] = "deg" if field == "units" else column[2] * 1.01
    action = msgspec.structs.replace(MANY.action, **{field: tuple(column)})
    other = shuffled(
        msgspec.structs.replace(MANY, action=action), np.random.default_rng(2)
    )
    assert between(other, MANY) is None
    policy = elementwise(other, tmp_path / "p.onnx", gains(MANY))
    with (
        embedded(Many(), lockstep=True) as node,
        Client(node.endpoint) as client,
        pytest.raises(RefusedError),
    ):
        greet(client, policy)


def test_the_node_itself_refuses_another_order():
    other = shuffled(MANY, np.random.default_rng(4))
    with (
        embedded(Many(), lockstep=True) as node,
        Client(node.endpoint) as client,
        pytest.raises(RefusedError, match="permutation"),
    ):
        client.hello(other)
