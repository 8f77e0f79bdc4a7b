"""Weighted importance sampling: reweigh what was earned by what would have been done.

    weight   w_t = prod_{k <= t} pi(a_k | s_k) / behaviour(a_k | s_k)     per episode
    value    sum_t gamma^t (sum_i w_it r_it) / (sum_i w_it)               over episodes

Per decision, self-normalized (Precup, Sutton and Singh, 2000, "Eligibility traces for
off-policy policy evaluation"; Thomas, 2015, section 3.7). Products are sums of
logarithms, and are taken relative to the largest, so that a thousand steps of a
thousandth each are no zero. An episode that terminated goes on earning nothing at the
weight it had; one that was truncated says nothing of what would have come, and is left
out from there on, as is what comes after a gap in a recording.

What is judged is the drawn policy: a deterministic one does nothing of what was logged.
The behaviour policy is seldom known, and is cloned from the logs. Look at the effective
number of episodes (Kish, 1965: (sum w)^2 / sum w^2 of whole episodes) before the value:
near 1, a single episode speaks for all.

Where we differ from the papers: the density of the behaviour is a clone's, not the true
one, which makes the estimate biased, and often less noisy; and actions at the rim of
their bounds count by the density just within it, where clipping gave them mass.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from robostack.learner import LearnerError
from robostack.spec import Array
from robostack.training.ope import (
    Candidate,
    Estimate,
    Evidence,
    LogProb,
    Numbers,
    OpeError,
    Options,
    clone,
    interval,
)

_SPAN = 600.0  # ratios of weights up to exp(this) are held by floats, with sums of them


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hyperparameters of weighted importance sampling."""

    cloning_updates: int = 5_000  # of the behaviour policy, by `bc`

    def __post_init__(self) -> None:
        """Refuse what no estimate could mean."""
        if self.cloning_updates < 1:
            raise LearnerError(
                f"expected cloning_updates of at least 1, got {self.cloning_updates}"
            )


class Table(NamedTuple):
    """Episodes side by side, E of them, T steps of the longest."""

    reward: Numbers  # (E, T), 0 after the end
    log_weight: Numbers  # (E, T), as it was at the end thereafter; -inf: not known
    last: Numbers  # (E,) log-weight of the whole episode


def estimate(
    evidence: Evidence,
    candidates: Sequence[Candidate],
    config: Config,
    options: Options,
    report: Callable[[int, int], None],
) -> list[Estimate]:
    """Judge all candidates against one clone of the behaviour."""
    mute = [c.name for c in candidates if c.log_prob is None]
    if mute:
        raise OpeError(
            f"expected policies with a known density for wis, {', '.join(mute)} has "
            f"none: give the run, not its bundle, or judge it by fqe"
        )
    behaviour = clone(evidence, config.cloning_updates, options.seed, report)
    logged = _log_prob(behaviour, evidence)
    return [_judge(evidence, c, logged, options) for c in candidates]


def _judge(
    evidence: Evidence, candidate: Candidate, logged: Numbers, options: Options
) -> Estimate:
    assert candidate.log_prob is not None
    table = tabulate(evidence, _log_prob(candidate.log_prob, evidence) - logged)

    def statistic(counts: Numbers) -> Numbers:
        return values(table, counts, evidence.gamma)

    episodes = len(table.reward)
    low, high = interval(statistic, episodes, options)
    return Estimate(
        policy=candidate.name,
        estimator="wis",
        value=float(statistic(np.ones((1, episodes)))[0]),
        low=low,
        high=high,
        ess=effective(table.last),
    )


def values(table: Table, counts: Numbers, gamma: float) -> Numbers:
    """Return the estimates (R,) of resamples that hold episodes `counts` (R, E) times.

    Weights are relative to the largest that a resample holds. To have them for all
    resamples at once, they are taken relative to the largest of all, and, for those
    resamples to which that left nothing, to the largest of what is much smaller.
    """
    reward, log_weight, _ = table
    mean = np.zeros((len(counts), reward.shape[1]))
    open_ = np.ones(mean.shape, bool)
    top = log_weight.max(0)
    while np.isfinite(top).any():
        largest = np.where(np.isfinite(top), top, np.inf)
        weight = np.exp(np.minimum(log_weight - largest, _SPAN))
        total = counts @ weight
        found = open_ & (total >= np.exp(-_SPAN))
        mean[found] = (counts @ (weight * reward))[found] / total[found]
        open_ &= ~found
        smaller = open_.any(0) & (log_weight < top - _SPAN)
        top = np.where(smaller, log_weight, -np.inf).max(0)
    discounted: Numbers = mean @ gamma ** np.arange(mean.shape[1])
    return discounted


def effective(log_weight: Numbers) -> float:
    """Return the effective number of episodes of log-weights (E,)."""
    weight = np.exp(log_weight - log_weight.max())
    return float(weight.sum() ** 2 / np.square(weight).sum())


def tabulate(evidence: Evidence, log_ratio: Numbers) -> Table:
    """Put the episodes of `evidence` side by side; `log_ratio` (N,) of each step."""
    batch = evidence.transitions
    bounds = np.searchsorted(evidence.episode, np.arange(len(evidence.starts) + 1))
    longest = int(np.diff(bounds).max())
    shape = (len(evidence.starts), longest)
    reward, log_weight = np.zeros(shape), np.full(shape, -np.inf)
    last = np.empty(len(reward))
    for i, (first, end) in enumerate(itertools.pairwise(bounds)):
        step = evidence.step[first:end]
        known = int((step == np.arange(len(step))).sum())
        rows = slice(first, first + known)
        total = log_ratio[rows].cumsum()
        reward[i, :known] = batch.reward[rows]
        log_weight[i, :known] = total
        last[i] = total[-1] if known else -np.inf
        if known == len(step) and batch.discount[end - 1] == 0:
            log_weight[i, known:] = last[i]
    return Table(reward, log_weight, last)


def _log_prob(log_prob: LogProb, evidence: Evidence) -> Numbers:
    batch = evidence.transitions
    found: Array = log_prob(batch.observation, batch.action)
    return found.astype(np.float64)
