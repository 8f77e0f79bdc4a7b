"""What algorithms need around their update: batches in; actions, ONNX and state out.

`state` holds all networks, the codec, the moments of all optimizers, the random
generator and the number of updates, so that `load` goes on bit for bit as if never
stopped. Settings are not part of it: learning rates follow from the configuration and
the number of updates, so that a phase with other settings can go on from any state.
"""

from __future__ import annotations

import copy
import io
import math
import pickle
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, SupportsFloat, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from robostack.learner import Batch, LearnerError, Statistics, noise
from robostack.spec import Array, RobotSpec, float32

from ._checks import check
from ._codec import EDGE, Actor, Codec, Deployed
from ._export import export_onnx
from ._nets import Critic, GaussianPolicy
from ._random import normal
from ._settings import Settings, computing

VERSION = 1  # raise on a change of what `state` holds that older ones do not fit


class Inputs(NamedTuple):
    """A batch as networks see it; of S runs together, S is the first axis of all."""

    observations: Tensor  # (2B, O): present ones, then next ones
    observation: Tensor  # (B, O), a view of the first half
    action: Tensor  # (B, A), within (-1, 1)
    reward: Tensor  # (B,)
    discount: Tensor  # (B,)

    def td_target(self, future: Tensor) -> Tensor:
        """Return what critics should say (B,), where `future` (B,) is what comes."""
        return self.reward + self.discount * future


class Metric(SupportsFloat):
    """What a tensor says, computed only if somebody reads it."""

    def __init__(self, value: Tensor) -> None:
        self._value = value.detach()

    def of(self, run: int) -> Metric:
        """Return that of one of several runs, whose axis is the first."""
        return type(self)(self._value[run])


class Mean(Metric):
    """The mean of a tensor."""

    def __float__(self) -> float:
        """Return the mean."""
        return float(self._value.mean())


class Rim(Metric):
    """The share of action elements at or beyond the rim.

    Much of it means that the codec cuts off what the data does: raise `delta_reach`.
    """

    def __float__(self) -> float:
        """Return the share, 0 to 1."""
        return float((self._value.abs() >= EDGE).float().mean())


Told = TypeVar("Told", bound=Settings)


class TorchLearner(Generic[Told]):
    """Fulfils robostack.learner.Learner; an algorithm adds `_build` and `_update`."""

    def __init__(
        self,
        spec: RobotSpec,
        config: Told,
        *,
        statistics: Statistics,
        steps: int,
        seed: int,
    ) -> None:
        self.spec = spec
        self._config = config
        self._steps = steps  # of schedules
        self._device = make_device(config.device)
        self._codec = Codec.configured(spec, statistics, config).to(self._device)
        self._rng = torch.Generator(self._device).manual_seed(seed)
        self._lead: tuple[int, ...] = ()  # of all tensors: runs that learn together
        self._updates = 0
        self._begun = 0  # of them, those of runs that this one began with
        self._seldom: dict[str, SupportsFloat] = {}  # metrics not of every update
        self._build(statistics)

    def _build(self, statistics: Statistics) -> None:
        """Make networks and optimizers, and `_adopt` them."""
        raise NotImplementedError

    def _adopt(
        self,
        policy: Deployed[Actor],
        nets: Mapping[str, nn.Module],
        optimizers: Mapping[str, torch.optim.Optimizer],
    ) -> None:
        """Take charge of everything that is saved; call at the end of `_build`."""
        self._policy = policy
        self.stochastic = policy.stochastic
        self._nets = nn.ModuleDict({"codec": self._codec, **nets})
        self._optimizers = dict(optimizers)

    def update(self, batch: Batch) -> dict[str, SupportsFloat]:
        """Learn from `batch`; return metrics, computed where somebody reads them."""
        with computing(self._config.precision):
            return self._update(batch)

    def _update(self, batch: Batch) -> dict[str, SupportsFloat]:
        raise NotImplementedError

    def act(self, observation: Array, rng: np.random.Generator | None) -> Array:
        """Return actions (B, A) [robot units]; samples, if drawn by `rng`."""
        arrays = [float32(observation)]
        if self.stochastic:
            shape = (len(observation), self.spec.action.size)
            drawn = np.zeros(shape, np.float32) if rng is None else noise(rng, shape)
            arrays.append(drawn)
        with torch.inference_mode():
            tensors = [torch.from_numpy(array).to(self._device) for array in arrays]
            action: Array = self._policy(*tensors).cpu().numpy().copy()
        return action

    def log_prob(self, observation: Array, action: Array) -> Array:
        """Return the log-density (B,), per robot unit, of `action` (B, A)."""
        pair = (torch.from_numpy(float32(x)) for x in (observation, action))
        with torch.inference_mode():
            density = self._policy.log_prob(*(x.to(self._device) for x in pair))
        return float32(density.cpu().numpy())

    def export(self) -> bytes:
        """Return the policy as one ONNX graph; robostack/bundle.py has the layout."""
        return export_onnx(self._policy, self.spec)

    def state(self) -> bytes:
        """Return everything that `load` needs to go on as if never stopped."""
        file = io.BytesIO()
        content = {
            "version": VERSION,
            "robot": self.spec.digest,
            "updates": self._updates,
            "begun": self._begun,
            "seldom": {name: float(value) for name, value in self._seldom.items()},
            "rng": self._rng.get_state(),
            "nets": {k: v.clone() for k, v in self._nets.state_dict().items()},
            "optimizers": {
                name: _moments(optimizer)
                for name, optimizer in self._optimizers.items()
            },
        }
        torch.save(content, file)
        return file.getvalue()

    def load(self, state: bytes) -> None:
        """Resume from `state`, or begin with that of an algorithm that has more.

        What of it is not ours is left out: CQL's state begins SAC.
        """
        content = _read(state)
        if content["version"] != VERSION or content["robot"] != self.spec.digest:
            raise LearnerError(
                f"expected the state of a learner of version {VERSION} for robot "
                f"{self.spec.name} ({self.spec.digest}), got version "
                f"{content['version']} for robot {content['robot']}"
            )
        ours = self._nets.state_dict()
        differing = _different(ours, content["nets"])
        if (
            not differing
            and not self._optimizers.keys() <= content["optimizers"].keys()
        ):
            differing = f"it has the optimizers {', '.join(content['optimizers'])}"
        if differing:
            raise LearnerError(
                f"the state is of another algorithm or configuration: {differing}"
            )
        self._nets.load_state_dict({name: content["nets"][name] for name in ours})
        for name, optimizer in self._optimizers.items():
            groups = optimizer.state_dict()["param_groups"]  # settings: our own
            moments = content["optimizers"][name]
            optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self._rng.set_state(content["rng"])
        self._updates = content["updates"]
        self._begun = content.get("begun", 0)  # none of it in the oldest states
        seldom = content.get("seldom", {})
        self._seldom |= {k: seldom[k] for k in self._seldom if k in seldom}

    def begin(self, state: bytes) -> None:
        """Begin with what another run ended with; schedules begin anew."""
        self.load(state)
        self._begun = self._updates

    @property
    def _done(self) -> int:
        """Updates of this run."""
        return self._updates - self._begun

    def _inputs(self, batch: Batch) -> Inputs:
        """Return `batch` as tensors, in the networks' units; rewards may be NaN."""
        check(self.spec, batch, self._lead)
        size = batch.reward.shape[-1]
        both = np.concatenate((batch.observation, batch.next_observation), axis=-2)
        raw, action, reward, discount = (
            torch.from_numpy(float32(x)).to(self._device, non_blocking=True)
            for x in (both, batch.action, batch.reward, batch.discount)
        )
        observations = self._codec.observation(raw)
        here = (..., slice(size), slice(None))
        action = self._codec.encode(action, raw[here])
        return Inputs(observations, observations[here], action, reward, discount)

    def _noise(self, *lead: int) -> Tensor:
        """Return standard normal numbers (*lead, A) of the learner's own generator."""
        return normal(self._rng, (*self._lead, *lead, self.spec.action.size))


def make_policy(
    codec: Codec,
    hidden: tuple[int, ...],
    rng: torch.Generator,
    *,
    dropout: float = 0.0,
    stochastic: bool = True,
    first_log_std: float = 0.0,
) -> Deployed[GaussianPolicy]:
    """Return a Gaussian policy of the sizes of `codec`, ready to be deployed."""
    sizes = (len(codec.mean), *hidden, len(codec.low))
    policy = GaussianPolicy(sizes, rng, dropout=dropout, first_log_std=first_log_std)
    return Deployed(codec, policy, stochastic=stochastic)


def make_critics(
    codec: Codec,
    hidden: tuple[int, ...],
    rng: torch.Generator,
    *,
    members: int,
    norm: bool = False,
) -> tuple[Critic, Critic]:
    """Return an ensemble of critics of the sizes of `codec`, and its target."""
    sizes = (len(codec.mean) + len(codec.low), *hidden, 1)
    critic = Critic(sizes, rng, lead=(members,), norm=norm)
    return critic, copy.deepcopy(critic).requires_grad_(False)


def adam(nets: Sequence[nn.Module], learning_rate: float) -> torch.optim.Adam:
    """Return Adam with one group, and one kernel, per network."""
    groups = [{"params": list(net.parameters())} for net in nets]
    return torch.optim.Adam(groups, lr=learning_rate, fused=True)


def minimize(loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """Take a step down the gradient of `loss` (...,), summed; others' networks stay."""
    minimize_sum((loss,), optimizer)


def minimize_sum(losses: Iterable[Tensor], optimizer: torch.optim.Optimizer) -> None:
    """Take a step down the gradient of a sum, whose parts are made one after another.

    What one part keeps for its gradient is gone before the next is made.
    """
    params = [p for group in optimizer.param_groups for p in group["params"]]
    total: list[Tensor | None] = [None] * len(params)
    for loss in losses:
        each = torch.ones_like(loss)
        parts = torch.autograd.grad(loss, params, each, allow_unused=True)
        total = [_plus(a, b) for a, b in zip(total, parts, strict=True)]
    for param, gradient in zip(params, total, strict=True):
        param.grad = gradient
    optimizer.step()


def _plus(total: Tensor | None, part: Tensor | None) -> Tensor | None:
    """Return the sum of two gradients, of which either may be missing."""
    if total is None or part is None:
        return part if total is None else total
    return total.add_(part)


def cosine(initial: float, step: int, steps: int) -> float:
    """Return the learning rate at `step`, from `initial` to 0 at `steps` and after."""
    return initial * 0.5 * (1.0 + math.cos(math.pi * min(step / max(steps, 1), 1.0)))


def make_device(name: str) -> torch.device:
    """Return the device `name`; raise LearnerError if it is not there."""
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise LearnerError(f"cannot use the device {name!r}: {error}") from error
    return device


def _different(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> str:
    """Return the first of our parameters that theirs lack or have otherwise."""
    for name in ours:
        shapes = [tuple(s[name].shape) if name in s else None for s in (ours, theirs)]
        if shapes[0] != shapes[1]:
            return f"{name} of shape {shapes[0]} here is {shapes[1]} there"
    return ""


def _moments(optimizer: torch.optim.Optimizer) -> dict[int, dict[str, Any]]:
    """Return its state, whose bytes are the same whether it was loaded or not.

    Loaded keys are strings of their own, which pickle would write once more.
    """
    state = optimizer.state_dict()["state"].items()
    return {i: {sys.intern(k): v.clone() for k, v in own.items()} for i, own in state}


def _read(state: bytes) -> dict[str, Any]:
    try:
        content = torch.load(io.BytesIO(state), weights_only=True)
    except (RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as e:
        raise LearnerError(f"the state of a learner is damaged: {e}") from e
    if not isinstance(content, dict) or "version" not in content:
        raise LearnerError("expected the state of a learner, got something else")
    return content
