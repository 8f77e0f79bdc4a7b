"""Any node, or any world or robot by address, as a gymnasium.Env.

    env = RobotEnv("sim:pendulum", "swing_up")                  # starts its own node
    env = RobotEnv("tcp://127.0.0.1:5555", "swing_up", flat=True)

A world that the environment starts runs in lockstep, as fast as it can. At a node in
real time `step` takes a control period, and a caller that is slower than the node's
command time-out finds its episode truncated.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Any

import gymnasium
import msgspec
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec

from robostack import plugins
from robostack.limits import derive
from robostack.link.client import Client, arrays
from robostack.link.errors import LeftError
from robostack.link.keys import ClientKeys
from robostack.messages import Reading
from robostack.node.embedded import embedded
from robostack.node.serve import Options
from robostack.robot import Task
from robostack.spec import Array, ArraySpec, RobotSpec, concatenate

Observation = dict[str, Array] | Array
Info = dict[str, Any]


class RobotEnv(gymnasium.Env[Observation, Array]):
    """A robot and a task; observations by name, or end to end in spec order.

    `info` has what a policy must not see: `truth`, `success`; and what became of the
    action: `applied`, `clamped`.
    """

    metadata = {"render_modes": []}  # noqa: RUF012  gymnasium's own way

    def __init__(
        self,
        where: str,
        task: str | Task,
        *,
        flat: bool = False,
        keys: ClientKeys | None = None,
    ) -> None:
        """Connect to the node at `where`, or start one if it is an address."""
        self._stack = contextlib.ExitStack()
        self._flat = flat
        owned = where.startswith(("sim:", "hardware:"))
        try:
            endpoint = self._start(where) if owned else where
            client = Client(endpoint, name="gymnasium", keys=keys)
            self._client = self._stack.enter_context(client)
            welcome = self._client.hello()
            self._robot = welcome.robot
            self._task = _task(welcome.address, task)
        except BaseException:
            self._stack.close()
            raise
        self._labels = {"task": task if isinstance(task, str) else task.instruction}
        self._reading: Reading | None = None  # the newest of an open episode
        self._columns: dict[str, Array] = {}
        self._steps = 0
        self.action_space = _box(self._robot.action)
        self.observation_space = _space(self._robot, flat=flat)
        if owned:
            self.spec = EnvSpec(
                id="robostack/Robot-v0",
                entry_point="robostack.gym:RobotEnv",
                nondeterministic=not welcome.lockstep,
                kwargs={"where": where, "task": task, "flat": flat},
            )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, Info]:
        """Close the open episode as truncated, if there is one, and open the next."""
        super().reset(seed=seed)
        self._end(terminated=False, reason="reset")
        begin = int(self.np_random.integers(2**31)) if seed is None else seed
        reading = self._client.begin(begin, self._labels)
        self._steps = 0
        self._columns = _columns(reading)
        self._reading = reading
        return self._observation(reading), self._info(reading, success=False)

    def step(
        self, action: Array
    ) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Act for one control period."""
        if self._reading is None:
            raise gymnasium.error.ResetNeeded("expected reset() before step()")
        try:
            reading = self._client.step(action)
        except LeftError as error:
            return self._left(self._reading, error)
        self._reading = reading
        self._steps += 1
        now = _columns(reading)
        window = {name: np.stack([self._columns[name], now[name]]) for name in now}
        window["action"] = arrays({"action": reading.applied})["action"][None]
        self._columns = now
        success = bool(self._task.success(window)[-1])
        terminated = bool(self._task.terminated(window)[0])
        truncated = self._steps >= self._task.horizon and not terminated
        if terminated or truncated:
            self._end(terminated=terminated, reason="task" if terminated else "horizon")
        info = self._info(reading, success=success)
        reward = float(self._task.reward(window)[0])
        return self._observation(reading), reward, terminated, truncated, info

    def close(self) -> None:
        """Close the open episode, give the lease back, end the node if it is ours."""
        with contextlib.ExitStack() as stack:
            stack.push(self._stack.pop_all())
            self._end(terminated=False, reason="closed")

    def _start(self, address: str) -> str:
        node = embedded(address, options=_options(address))
        return self._stack.enter_context(node).endpoint

    def _end(self, *, terminated: bool, reason: str) -> None:
        if self._reading is None:
            return
        self._reading = None
        with contextlib.suppress(LeftError):  # it ended by itself just before
            self._client.end(terminated=terminated, reason=reason)

    def _left(
        self, last: Reading, error: LeftError
    ) -> tuple[Observation, float, bool, bool, Info]:
        """Truncate where the node merely holds; a fault is for people to see."""
        self._reading = None
        if error.notice.state not in ("hold", "safe"):
            raise error
        info = self._info(last, success=False) | {"cause": error.notice.cause}
        return self._observation(last), 0.0, False, True, info

    def _observation(self, reading: Reading) -> Observation:
        named = {name: array.copy() for name, array in arrays(reading.arrays).items()}
        return concatenate(self._robot, named) if self._flat else named

    def _info(self, reading: Reading, *, success: bool) -> Info:
        return {
            "truth": arrays(reading.truth),
            "success": success,
            "applied": arrays({"action": reading.applied})["action"],
            "clamped": reading.clamped,
        }


def _task(address: str, task: str | Task) -> Task:
    if isinstance(task, Task):
        return task
    kind, name, argument = plugins.parse(address)
    module = plugins.load(kind, name)
    tasks: dict[str, Task] = module.tasks(argument) if hasattr(module, "tasks") else {}
    if task not in tasks:
        raise plugins.PluginError(
            plugins.unknown(f"task of {address}", task, list(tasks))
        )
    return tasks[task]


def _columns(reading: Reading) -> dict[str, Array]:
    truth = {f"truth.{name}": a for name, a in arrays(reading.truth).items()}
    return arrays(reading.arrays) | truth


def _space(robot: RobotSpec, *, flat: bool) -> spaces.Space[Any]:
    if not flat:
        return spaces.Dict({name: _box(a) for name, a in robot.observation.items()})
    low = [x for array in robot.observation.values() for x in array.low]
    high = [x for array in robot.observation.values() for x in array.high]
    return spaces.Box(np.array(low, np.float32), np.array(high, np.float32))


def _box(array: ArraySpec) -> spaces.Space[Any]:
    low, high = np.array(array.low, np.float32), np.array(array.high, np.float32)
    return spaces.Box(low, high)


def _options(address: str) -> Options:
    """Return how to serve `address` for ourselves.

    Exploration throws joints back and forth, which a node takes for a wrong scale and
    latches, and begins anywhere; in a world of our own, targets are still limited, and
    that is enough.
    """
    if plugins.parse(address).kind != "sim":
        return Options()
    limits = derive(plugins.spec(address))
    free = msgspec.structs.replace(limits, reversals=sys.maxsize, gate=())
    return Options(lockstep=True, limits=free)
