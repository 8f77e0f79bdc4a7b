"""Between the robot's units and those of a network.

    observation   (o - mean) / std                        or as it is
    action        [low, high]  <->  [-1, 1]                          frame "absolute"
                  o[tracks] +- reach * max_action_step  <->  [-1, 1] frame "delta"

In the delta frame a network learns small steps from where the robot is measured to be;
what leaves the codec is absolute all the same, in the robot's units, and within bounds.
"""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from robostack.learner import LearnerError, Statistics
from robostack.spec import RobotSpec

from ._settings import ActionFrame, Settings

EDGE = 1.0 - 1e-5  # actions of the data are clipped to this
STD_FLOOR = 1e-3  # added to the spread, so that a constant column stays finite


class Codec(nn.Module):
    """Fixed affine maps, as buffers: they are saved, loaded and exported."""

    mean: Tensor
    std: Tensor
    low: Tensor
    high: Tensor
    middle: Tensor
    reach: Tensor

    def __init__(
        self,
        spec: RobotSpec,
        statistics: Statistics,
        *,
        normalize: bool,
        frame: ActionFrame,
        reach: float,
    ) -> None:
        super().__init__()
        mean, std = torch.tensor(statistics.mean), torch.tensor(statistics.std)
        if len(mean) != spec.observation_size:
            raise LearnerError(
                f"expected statistics of {spec.observation_size} observations as "
                f"{spec.name} has them, got {len(mean)}"
            )
        low, high = torch.tensor(spec.action.low), torch.tensor(spec.action.high)
        self._tracked = tracked(spec, frame)
        half = (high - low) / 2
        half[half == 0] = 1.0  # an element that cannot move
        step = torch.tensor(spec.max_action_step)
        self.register_buffer("mean", mean if normalize else torch.zeros_like(mean))
        scale = std + STD_FLOOR if normalize else torch.ones_like(std)
        self.register_buffer("std", scale)
        self.register_buffer("low", low)
        self.register_buffer("high", high)
        self.register_buffer("middle", (low + high) / 2)
        self.register_buffer("reach", reach * step if self._tracked else half)

    @classmethod
    def configured(
        cls, spec: RobotSpec, statistics: Statistics, config: Settings
    ) -> Codec:
        """Return the codec that an algorithm's configuration asks for."""
        return cls(
            spec,
            statistics,
            normalize=config.normalize,
            frame=config.action_frame,
            reach=config.delta_reach,
        )

    def standard(self, statistics: Statistics) -> tuple[Tensor, Tensor]:
        """Return mean and spread (O,) of the dataset, as networks see observations."""
        mean, std = (torch.tensor(x, device=self.mean.device) for x in statistics[:2])
        return self.observation(mean), (std + STD_FLOOR) / self.std

    def observation(self, observation: Tensor) -> Tensor:
        """Return `observation` (B, O) as networks see it."""
        return (observation - self.mean) / self.std

    def encode(self, action: Tensor, observation: Tensor) -> Tensor:
        """Return `action` (B, A), given in robot units, within (-1, 1)."""
        unit = (action - self._origin(observation)) / self.reach
        return unit.clamp_(-EDGE, EDGE)

    def decode(self, unit: Tensor, observation: Tensor) -> Tensor:
        """Return the action (B, A) in robot units, within bounds."""
        action = self._origin(observation) + unit * self.reach
        return torch.minimum(torch.maximum(action, self.low), self.high)

    def _origin(self, observation: Tensor) -> Tensor:
        return observation[..., self._tracked] if self._tracked else self.middle


def tracked(spec: RobotSpec, frame: ActionFrame) -> slice | None:
    """Return where in an observation is what the action is relative to, if anything."""
    if frame == "absolute" or (frame == "auto" and not spec.tracks):
        return None
    if not spec.tracks:
        raise LearnerError(
            f'expected action_frame = "absolute" (or "auto") for {spec.name}, whose '
            f'actions are no targets for anything it observes; got "delta"'
        )
    names = list(spec.observation)
    sizes = [spec.observation[name].size for name in names]
    start = sum(sizes[: names.index(spec.tracks)])
    return slice(start, start + spec.action.size)


class Actor(Protocol):
    """A network that gives actions in [-1, 1], and draws them from noise."""

    def __call__(self, observation: Tensor) -> Tensor:
        """Return the deterministic action (B, A), that of noise 0."""

    def sample(self, observation: Tensor, noise: Tensor) -> Tensor:
        """Return the action (B, A) that standard normal `noise` (B, A) means."""


@runtime_checkable
class Dense(Protocol):
    """An actor whose samples have a density that can be told."""

    def log_density(self, observation: Tensor, action: Tensor) -> Tensor:
        """Return the log-density (B,) of `action` (B, A), within (-1, 1)."""


A_co = TypeVar("A_co", bound=Actor, covariant=True)


class Deployed(nn.Module, Generic[A_co]):
    """A policy as a robot runs it: readings in, actions in robot units out.

    One that is `stochastic` takes noise after the readings, and draws from it.
    """

    def __init__(self, codec: Codec, policy: A_co, *, stochastic: bool = True) -> None:
        super().__init__()
        self.codec = codec
        self.policy = policy
        self.stochastic = stochastic

    def forward(self, *arrays: Tensor) -> Tensor:
        """Return actions (B, A) for readings (B, n) in spec order, and noise (B, A)."""
        readings = arrays[:-1] if self.stochastic else arrays
        observation = torch.cat(readings, dim=-1)
        seen = self.codec.observation(observation)
        if self.stochastic:
            unit = self.policy.sample(seen, arrays[-1])
        else:
            unit = self.policy(seen)
        return self.codec.decode(unit, observation)

    def log_prob(self, observation: Tensor, action: Tensor) -> Tensor:
        """Return the log-density (B,), per robot unit, of `action` (B, A) there.

        An action at or beyond the rim counts as one just within it.
        """
        if not (self.stochastic and isinstance(self.policy, Dense)):
            raise LearnerError(
                "expected a policy that draws its actions from a density, this one is "
                "deterministic or does not tell its density"
            )
        unit = self.codec.encode(action, observation)
        density = self.policy.log_density(self.codec.observation(observation), unit)
        return density - self.codec.reach.log().sum()
