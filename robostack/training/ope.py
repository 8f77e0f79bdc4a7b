"""Off-policy evaluation: what a policy would earn, told from logs of another.

    evidence     transitions of a dataset, which episode each is of, where all began
    candidates   the policies that are judged, as functions of observations
    estimator    (evidence, candidates, options) -> what each would earn, how surely

What is estimated is the mean discounted return from the first observations of the
data's episodes. An estimator is a module of `policies/_ope`, found by its name, with
`Config` (a frozen struct of defaults) and `estimate`, as `Estimator` below says. Fitted
Q evaluation needs torch, whose only home is `policies/`; here is what no estimator can
do without, and it needs numpy alone. Policies come as functions of arrays, so that an
exported graph is judged as a learner is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from robostack import plugins
from robostack.data.dataset import Dataset
from robostack.data.replay import Replay
from robostack.learner import Batch, Statistics
from robostack.spec import Array, RobotSpec
from robostack.training.process import prepare

KIND = "policies._ope"
CLONING_BATCH = 256
_TICK = 100  # updates between two reports

Numbers = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Act = Callable[[Array, np.random.Generator | None], Array]  # as Learner.act
LogProb = Callable[[Array, Array], Array]  # as robostack.learner.Density.log_prob


class OpeError(ValueError):
    """Logs, policies or estimators that do not go together."""


class Evidence(NamedTuple):
    """What estimators may look at: N transitions of E episodes."""

    spec: RobotSpec
    transitions: Batch  # (N, ...), in order
    episode: Indices  # (N,) 0 to E - 1, in order
    step: Indices  # (N,) since the episode began; jumps where a recording has a gap
    starts: Array  # (E, O) first observations
    gamma: float


class Candidate(NamedTuple):
    """A policy that is judged."""

    name: str
    act: Act
    log_prob: LogProb | None  # None: it has no density, or none that is known


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What all estimators are told."""

    seeds: int = 4  # independent fits, where an estimator fits anything
    seed: int = 0
    draw: bool = False  # judge drawn actions, not the deterministic ones
    confidence: float = 0.95  # of the interval
    resamples: int = 1000  # of episodes, for the interval

    def __post_init__(self) -> None:
        """Refuse what no estimate could mean."""
        if min(self.seeds, self.resamples) < 1 or not 0 < self.confidence < 1:
            raise OpeError(
                f"expected seeds and resamples of at least 1 and 0 < confidence < 1, "
                f"got {self.seeds}, {self.resamples} and {self.confidence}"
            )


class Estimate(msgspec.Struct, frozen=True):
    """What one policy would earn, says one estimator."""

    policy: str
    estimator: str
    value: float  # mean discounted return
    low: float  # ends of the interval
    high: float
    ess: float | None  # effective number of episodes; None: nothing was reweighed


class Estimator(Protocol):
    """The `estimate` of a module of `policies/_ope`."""

    def __call__(
        self,
        evidence: Evidence,
        candidates: Sequence[Candidate],
        config: Any,
        options: Options,
        report: Callable[[int, int], None],
    ) -> list[Estimate]:
        """Judge all candidates; `report` hears how much of the work is done."""


def names() -> list[str]:
    """Return the names of all estimators."""
    return plugins.names(KIND)


def estimate(
    name: str,
    evidence: Evidence,
    candidates: Sequence[Candidate],
    options: Options | None = None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> list[Estimate]:
    """Judge `candidates` by the estimator `name`, with its default settings."""
    prepare()
    if name not in names():
        raise OpeError(plugins.unknown("an estimator", name, names()))
    module = plugins.load(KIND, name)
    judge: Estimator = module.estimate
    return judge(evidence, candidates, module.Config(), options or Options(), report)


def gather(
    dataset: Dataset, *, gamma: float = 0.99, labeller: str = "logged"
) -> Evidence:
    """Return the evidence that `dataset` gives, with rewards by `labeller`."""
    replay = Replay.from_dataset(dataset, gamma=gamma, labeller=labeller)
    batch = replay.transitions()
    steps = [np.flatnonzero(item.transitions) for item in dataset.episodes]
    steps = [step for step in steps if len(step)]
    lengths = [len(step) for step in steps]
    firsts = np.cumsum([0, *lengths[:-1]])
    return Evidence(
        spec=dataset.spec,
        transitions=batch,
        episode=np.repeat(np.arange(len(steps)), lengths),
        step=np.concatenate(steps),
        starts=batch.observation[firsts],
        gamma=gamma,
    )


def clone(
    evidence: Evidence,
    updates: int,
    seed: int,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> LogProb:
    """Return the density of a policy that does what was done, cloned by `bc`."""
    module = plugins.load("policies", "bc")
    batch = evidence.transitions
    mean, std = batch.observation.mean(0), batch.observation.std(0)
    learner = module.Learner(
        evidence.spec,
        module.Config(normalize=True),
        statistics=Statistics(mean, std, 0.0, 0.0),
        steps=updates,
        seed=seed,
    )
    rng = np.random.default_rng(seed)
    for update in range(updates):
        rows = rng.integers(len(batch.reward), size=CLONING_BATCH)
        learner.update(
            Batch(
                batch.observation[rows],
                batch.action[rows],
                batch.reward[rows],
                batch.discount[rows],
                batch.next_observation[rows],
            )
        )
        if update % _TICK == 0:
            report(update, updates)
    log_prob: LogProb = learner.log_prob
    return log_prob


def interval(
    statistic: Callable[[Numbers], Numbers], episodes: int, options: Options
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of `statistic` over episodes.

    Efron, 1979: the statistic of E episodes drawn with replacement, many times. It is
    asked once, for all resamples (R,), how often each holds an episode (R, E).
    """
    rng = np.random.default_rng(options.seed)
    counts = np.stack(
        [
            np.bincount(rng.integers(episodes, size=episodes), minlength=episodes)
            for _ in range(options.resamples)
        ]
    )
    return percentiles(statistic(counts.astype(np.float64)), options)


def percentiles(drawn: Numbers, options: Options) -> tuple[float, float]:
    """Return the ends of the interval that `drawn` (R,) statistics mean."""
    tail = (1.0 - options.confidence) / 2
    low, high = np.quantile(drawn, (tail, 1.0 - tail))
    return float(low), float(high)
