"""The same names in another order: computed by name, shown, and adapted both ways.

A node never adapts: it accepts its own spec only. So the client asks for that first,
puts its policy's elements in the node's order, and says hello with the result, which
the node compares in full. Whatever differs otherwise is refused as before.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from robostack.bundle import Bundle
from robostack.link.client import Client
from robostack.messages import Welcome
from robostack.spec import Array, ArraySpec, RobotSpec, difference

Order = npt.NDArray[np.intp]


class Permutation(NamedTuple):
    """How a policy's order of elements and a node's go together."""

    observation: dict[str, Order]  # policy's element i is the node's element order[i]
    actions: Order  # node's element i is the policy's element order[i]
    sentences: tuple[str, ...]  # the same, for people

    def reading(self, arrays: dict[str, Array]) -> dict[str, Array]:
        """Return a node's arrays in the policy's order."""
        return {k: a[self.observation[k]] for k, a in arrays.items()}

    def action(self, actions: Array) -> Array:
        """Return a policy's actions (..., A) in the node's order."""
        return np.ascontiguousarray(actions[..., self.actions])


class Greeting(NamedTuple):
    """A lease, and what it takes to use it."""

    welcome: Welcome
    permutation: Permutation | None  # None: the orders are the same


def greet(client: Client, policy: Bundle) -> Greeting:
    """Take the lease for `policy`, in the node's order of elements.

    Raises:
        RefusedError: more than the order differs.
    """
    manifest = policy.manifest
    theirs = client.hello(None, policy.artefact).robot
    permutation = between(manifest.robot, theirs)
    welcome = client.hello(
        manifest.robot if permutation is None else reorder(manifest.robot, theirs),
        policy.artefact,
        chunk=manifest.chunk,
        history=manifest.history,
    )
    return Greeting(welcome, permutation)


def between(mine: RobotSpec, theirs: RobotSpec) -> Permutation | None:
    """Return the permutation that makes `mine` into `theirs`.

    None if they are the same, or if no permutation does.
    """
    if mine == theirs or reorder(mine, theirs) != theirs:
        return None
    return Permutation(
        observation={
            name: order(array.names, theirs.observation[name].names)
            for name, array in mine.observation.items()
        },
        actions=order(theirs.action.names, mine.action.names),
        sentences=tuple(
            line for line in difference(mine, theirs) if "permutation" in line
        ),
    )


def order(wanted: tuple[str, ...], found: tuple[str, ...]) -> Order:
    """Return where each of `wanted` is in `found`."""
    return np.array([found.index(name) for name in wanted], np.intp)


def reorder(mine: RobotSpec, theirs: RobotSpec) -> RobotSpec:
    """Return `mine` with its elements in the order of `theirs`, where that is all."""
    observation = {
        name: _reordered(array, theirs.observation.get(name, array))
        for name, array in mine.observation.items()
    }
    action = _reordered(mine.action, theirs.action)
    at = [mine.action.names.index(name) for name in action.names]
    return msgspec.structs.replace(
        mine,
        observation=observation,
        action=action,
        home=tuple(mine.home[i] for i in at),
        max_action_step=tuple(mine.max_action_step[i] for i in at),
    )


def _reordered(mine: ArraySpec, theirs: ArraySpec) -> ArraySpec:
    if sorted(mine.names) != sorted(theirs.names):
        return mine
    at = [mine.names.index(name) for name in theirs.names]
    columns = (mine.names, mine.units, mine.low, mine.high)
    names, units, low, high = (tuple(column[i] for i in at) for column in columns)
    return msgspec.structs.replace(mine, names=names, units=units, low=low, high=high)
