"""Several runs of one algorithm that learn together, in one batched update.

    run         its own seed, weights, moments, batches and random numbers
    together    every tensor (S, ...): one product for a layer of all S runs

There is no second update: the algorithm's own is taken by a copy of the first learner
whose parameters and moments are stacked. Those of each run are views of its part of the
stack, so that it acts, exports and is saved as ever, with nothing to copy back.

No run reads another's part. Each is what it would be alone but for rounding, since a
product of many rounds otherwise than that of one; what is not finite in one run stays
there. Losses are minimized by their sum, which gives every run its own gradient.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, SupportsFloat

import numpy as np
import torch
from torch import Tensor, nn

from robostack.learner import Batch, Learner, LearnerError
from robostack.spec import Array

from ._learner import Told, TorchLearner

_COUNT, _MOMENTS = "step", ("exp_avg", "exp_avg_sq")  # as torch's Adam has them


class TogetherLearner(TorchLearner[Told]):
    """A learner whose update takes a leading axis of runs; see learner.Joining.

    For that, axes of its tensors are counted from the last, and its random numbers are
    those of _random.py.
    """

    _joined: Together | None = None  # who has our tensors
    _heavy = False  # one update fills the caches of a processor

    def gains(self) -> bool:
        """Whether runs are faster together, on our device."""
        return not (self._heavy and self._device.type == "cpu")

    def join(self, others: Sequence[Learner]) -> Together:
        """Return what updates this run and `others`, at the same update, together."""
        return Together([self, *others])

    def update(self, batch: Batch) -> dict[str, SupportsFloat]:
        """Learn alone from `batch`; return metrics."""
        self._leave()
        return super().update(batch)

    def load(self, state: bytes) -> None:
        """Resume from `state`, alone."""
        self._leave()
        super().load(state)

    def _leave(self) -> None:
        """Have a count of our own; whoever has joined us cannot go on.

        Our part of the stack is nobody else's, but that count is of all its runs.
        """
        if self._joined is None:
            return
        self._joined = None
        for optimizer in self._optimizers.values():
            for state in optimizer.state.values():
                state[_COUNT] = state[_COUNT].clone()


class Together:
    """Fulfils robostack.learner.Together."""

    def __init__(self, learners: Sequence[Learner]) -> None:
        """Stack what `learners` are.

        Raises:
            LearnerError: they are not of one kind, or not at the same update.
        """
        self._learners = _alike(learners)
        twins = _stack_parameters([learner._nets for learner in self._learners])
        for name in self._learners[0]._optimizers:
            twins |= _stack_moments([one._optimizers[name] for one in self._learners])
        self._all = _stand_in(self._learners, twins)
        for learner in self._learners:
            learner._joined = self

    def update(self, batches: Sequence[Batch]) -> list[dict[str, SupportsFloat]]:
        """Take one gradient step in every run, on its own batch; return metrics.

        Raises:
            LearnerError: a batch cannot be used; no run has learned anything.
        """
        if any(learner._joined is not self for learner in self._learners):
            raise LearnerError(
                "expected runs that learned nothing alone since they were joined; join "
                "them again"
            )
        before = self._all._seldom
        metrics = self._all.update(_stacked(batches))
        for run, learner in enumerate(self._learners):
            learner._updates = self._all._updates
            if self._all._seldom is not before:
                learner._seldom = _of(self._all._seldom, run)
        return [_of(metrics, run) for run in range(len(self._learners))]


def _alike(learners: Sequence[Learner]) -> list[TogetherLearner[Any]]:
    """Return the learners; raise LearnerError unless they can learn together."""
    alike = [one for one in learners if isinstance(one, TogetherLearner)]
    kinds = {(type(one), one.spec.digest, one._config, one._steps) for one in alike}
    if len(alike) != len(learners) or len(kinds) != 1:
        raise LearnerError(
            "expected learners of one algorithm that can learn together, of one robot "
            "and one configuration"
        )
    at = sorted({(one._updates, one._begun) for one in alike})
    if len(at) != 1:
        raise LearnerError(f"expected learners at the same update, got {at}")
    first, *others = (dict(one._nets.named_buffers()) for one in alike)
    for name, ours in first.items():
        if not all(torch.equal(ours, buffers[name]) for buffers in others):
            raise LearnerError(f"expected the same {name} of learners of one dataset")
    return alike


def _stack_parameters(nets: Sequence[nn.Module]) -> dict[int, Any]:
    """Make parameters views of stacks; return these, by the id of the first's own."""
    twins: dict[int, Any] = {}
    for params in zip(*(net.parameters() for net in nets), strict=True):
        whole = torch.stack([param.detach() for param in params])
        twins[id(params[0])] = nn.Parameter(whole, params[0].requires_grad)
        for param, part in zip(params, whole, strict=True):
            param.data = part
    return twins


def _stack_moments(optimizers: Sequence[torch.optim.Optimizer]) -> dict[int, Any]:
    """Do the same with what optimizers remember; the count of steps is one for all."""
    twins: dict[int, Any] = {}
    for params in zip(*(_parameters(one) for one in optimizers), strict=True):
        pairs = zip(optimizers, params, strict=True)
        states = [one.state[param] or _begun(one, param) for one, param in pairs]
        for name in states[0]:
            values = [state[name] for state in states]
            if name == _COUNT:
                whole = values[0].clone()
                parts: Iterable[Tensor] = [whole] * len(values)
            else:
                parts = whole = torch.stack(values)
            for state, part in zip(states, parts, strict=True):
                state[name] = part
            twins[id(states[0][name])] = whole
    return twins


def _parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [param for group in optimizer.param_groups for param in group["params"]]


def _begun(optimizer: torch.optim.Optimizer, param: nn.Parameter) -> dict[str, Tensor]:
    """Return what fused Adam begins with, which it would make at its first step."""
    zero = torch.zeros((), device=param.device)
    moments = {name: torch.zeros_like(param.detach()) for name in _MOMENTS}
    optimizer.state[param] = {_COUNT: zero} | moments
    return optimizer.state[param]  # type: ignore[no-any-return]


def _stand_in(
    learners: Sequence[TogetherLearner[Any]], twins: dict[int, Any]
) -> TogetherLearner[Any]:
    """Return a copy of the first learner that has `twins` where it has its own.

    Codec and specification stay shared; random numbers come from all generators.
    """
    first = learners[0]
    twins |= {id(one): one for one in [first.spec, *first._nets.buffers()]}
    twins[id(first._rng)] = tuple(one._rng for one in learners)
    twins[id(first._seldom)] = {
        name: _Each([one._seldom[name] for one in learners]) for name in first._seldom
    }
    twins[id(first._joined)] = None
    stand_in = copy.deepcopy(first, twins)
    stand_in._lead = (len(learners),)
    return stand_in


def _stacked(batches: Sequence[Batch]) -> Batch:
    """Return batches as one, whose columns (S, B, ...) have an axis for their runs."""
    return Batch(*(_column(column) for column in zip(*batches, strict=True)))


def _column(parts: Sequence[Array | None]) -> Any:
    there = [part for part in parts if part is not None]
    if len({part.shape for part in there}) > 1:
        raise LearnerError("expected batches of one size for runs that learn together")
    return np.stack(there) if len(there) == len(parts) else None


class _Several(Protocol):
    """A metric of all runs."""

    def of(self, run: int) -> SupportsFloat:
        """Return that of one of them."""


class _Each:
    """Metrics of one name, one of each run."""

    def __init__(self, metrics: Sequence[SupportsFloat]) -> None:
        self._metrics = metrics

    def of(self, run: int) -> SupportsFloat:
        """Return that of one of the runs."""
        return self._metrics[run]


class _Of(SupportsFloat):
    """A metric of one of several runs, computed only if somebody reads it."""

    def __init__(self, metric: _Several, run: int) -> None:
        self._metric, self._run = metric, run

    def __float__(self) -> float:
        """Return it."""
        return float(self._metric.of(self._run))


def _of(metrics: Mapping[str, Any], run: int) -> dict[str, SupportsFloat]:
    return {name: _Of(metric, run) for name, metric in metrics.items()}
