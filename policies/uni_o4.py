"""Uni-O4: one on-policy objective, offline and online (Lei et al., arXiv:2311.03351).

    fit        critics    those of IQL, shared by all and frozen afterwards
               policies   n clones that disagree                     (`_ensemble.py`)
               dynamics   an ensemble, for judging     (`_dynamics.py`, `_judge.py`)
    improve    candidate  PPO's clipped step at states of the data (`_improvement.py`)
               gate       every so often: where the candidate's AM-Q is above the best
                          so far, it becomes pi_i; it goes on either way
    online     PPO on rollouts, from the best policy and from V  (`phase = "online"`)

`steps` are divided by shares: the last `improvement_share` improve, all before fit, the
first `cloning_share` of all also clone. The policy that acts and is exported is that of
the n behind the gate whose AM-Q is best, and the first until they are judged. Going on
online is the same state under `phase = "online"`: there a batch is a rollout, as
`_ppo.py` says, of which only the chosen policy and V learn, by rates and a clip that
fall linearly to 0, and everything of the offline phases stays.

What diversifies: three policies cloned 300 updates from actions of two modes, mean
pairwise KL [nats] and loss of each, over three seeds (benchmarks/differences.py)

    alpha = 0                         0.00005    1.476    the released code's default
    "envelope",   alpha 0.1           0.00008    1.476
    "envelope",   alpha 1             0.0044     1.478
    "envelope",   alpha 2             0.16       1.555
    "assignment", alpha 0.1           0.020      1.482    ours
    "assignment", alpha 0.5           0.62       1.711

Where we differ from the paper and its code, and what it changes (numbers without a
source: benchmarks/differences.py):
- The default is `disagreement = "assignment"`, an option of the released code: actions
  of the data weigh more for the member that foresees them best. The paper's objective,
  log pi_i + alpha KL(pi_i || envelope), is "envelope": its pull apart is, like that of
  cloning together, of second order in the distance, and loses to it below alpha = 1.
  The released default takes the envelope as a constant at actions of the data, which
  only rescales cloning, by 1 + alpha; Adam undoes that.
- Members learn at the same time from the same batch, as one matmul, not one by one:
  mean pairwise KL 0.64 ± 0.02 nats, theirs 0.62 ± 0.03 (two modes, alpha 0.5).
- Terminations are learned, for want of a formula for every robot: of the ends of a
  random Hopper 54 ± 3 % are foreseen at their very step, and 0.3 % of other steps are
  taken for ends. So those who fall live on in the model for some steps. Starts are
  dealt out to the elites, each of which keeps its own (`_dynamics.py`).
- Time-outs are bootstrapped, where the released code ends episodes by them offline:
  values are those of going on, as the paper's formulas have them. Not measured.
- A candidate's ratio is of actions as drawn, before they are cut off at the rim; the
  released code takes the density of the cut one. Critics see it cut off. Returns of a
  pendulum after 2,400 steps of improvement are -747 ± 140, theirs -786 ± 117; of the
  last ratios the clip held 5 % ± 6, of theirs 12 % ± 15.
- What the gate let through is deployed, chosen by AM-Q; the authors deploy the last
  candidates, and try the three best in the real task.
- The target critic, which V was fit to, judges. It follows at every update by half of
  the rate at which theirs does at every other, which is the same to 1e-5 of a step.
- Policies begin wide, at a log-std near -0.5, by small last weights; the authors' begin
  orthogonal, near -2.5. Online they squash the log-std once more. Layers are ReLU, also
  where theirs are tanh (halfcheetah's medium and medium-replay, hammer, relocate). The
  clip of the improvement stays; theirs falls for 200 updates, which is by 2 % of 10,000
  and by a fifth of Kitchen's 1,000.
- The model sees one batch for all of its members, and its observations stay in the box
  of those seen.
The last four were not measured.

On hopper's medium logs, 5,000 updates, improvement takes clones of 1231, 1109 and 1113
to 1593, 1312 and 35: AM-Q did not see the fall. At horizons of 100 it sees less.
"""

from __future__ import annotations

import copy
from typing import Literal, NamedTuple, SupportsFloat

import torch
from torch import Tensor

from robostack.learner import Batch, LearnerError, Statistics
from robostack.spec import float32

from ._checks import check_reward
from ._codec import Deployed
from ._dynamics import Dynamics, dynamics_adam, held_out
from ._ensemble import Chosen, Disagreement, alone, clone, replace
from ._export import export_onnx
from ._gate import Gate
from ._gaussian import BoundedGaussianPolicy
from ._improvement import try_out
from ._judge import Critics, Judge, fit_dynamics
from ._learner import Inputs, Mean, Rim, TorchLearner, adam, make_critics, minimize
from ._nets import Mlp
from ._ppo import OnPolicy, PpoConfig, clipped_loss, descend

NEEDS_REWARD = True
ON_POLICY = True  # online a batch is what its policy just did, whole and in order


class Config(PpoConfig, frozen=True, forbid_unknown_fields=True):
    """Hyperparameters of Uni-O4; the defaults are the paper's for locomotion.

    `clip`, the epochs and both rates of policy and value are those of going on online.
    """

    phase: Literal["offline", "online"] = "offline"
    members: int = 4  # policies
    disagreement: Disagreement = "assignment"  # see above
    alpha: float = 0.1  # weight of the disagreement; 0: none
    expectile: float = 0.7  # of the value function; 0.9 for sparse mazes
    cloning_share: float = 0.2  # of all updates, the first, that clone
    improvement_share: float = 0.1  # of all updates, the last, that improve
    improvement_clip: float = 0.25  # on the ratio
    improvement_rate: float = 1e-4  # falls linearly to 0
    gate: bool = True  # else every candidate replaces its policy
    gate_period: int = 100  # updates
    horizon: int = 1000  # [steps] imagined; shorten it where AM-Q explodes
    starts: int = 512  # observations of the data that imagined episodes begin from
    count_ended: bool = False  # imagined steps after an end count as 0
    target_rate: float = 0.0025  # Polyak averaging of the target critic, per update
    learning_rate: float = 1e-4  # of critics and cloning
    dynamics_rate: float = 1e-3
    weight_decay: float = 1e-4  # of the last layer of the dynamics; less before
    models: int = 7  # members of the dynamics
    elites: int = 5  # of them, that are asked
    holdout: float = 0.1  # share of the transitions that choose the elites
    hidden: tuple[int, ...] = (256, 256, 256)  # of the policies
    critic_hidden: tuple[int, ...] = ()  # (): as the policies
    value_hidden: tuple[int, ...] = ()  # (): as the policies
    dynamics_hidden: tuple[int, ...] = ()  # (): as the policies
    critics: int = 2
    clip: float = 0.05
    entropy: float = 0.01
    minibatch: int = 128
    policy_learning_rate: float = 1e-5
    value_learning_rate: float = 2e-4

    def __post_init__(self) -> None:
        """Refuse what no run could mean."""
        super().__post_init__()
        shares = (self.cloning_share, self.improvement_share, self.holdout)
        if not (0 <= min(shares) <= max(shares) <= 1 and 0 < self.expectile < 1):
            raise LearnerError(
                f"expected cloning_share, improvement_share and holdout within 0 and "
                f"1, and 0 < expectile < 1, got {shares} and {self.expectile}"
            )
        if not 0 < self.elites <= min(self.models, self.starts):
            raise LearnerError(
                f"expected 0 < elites <= models and starts, got {self.elites}, "
                f"{self.models} and {self.starts}"
            )
        if not min(self.members, self.horizon, self.gate_period) > 0:
            raise LearnerError(
                f"expected members, horizon and gate_period > 0, got {self.members}, "
                f"{self.horizon} and {self.gate_period}"
            )


class Phases(NamedTuple):
    """When what is learned [updates]."""

    cloning_end: int
    fit_end: int


def phases(config: Config, steps: int) -> Phases:
    """Divide `steps`."""
    fit_end = max(steps - round(config.improvement_share * steps), 1)
    return Phases(min(round(config.cloning_share * steps), fit_end), fit_end)


class Learner(TorchLearner[Config]):
    """The networks of Uni-O4 and their updates."""

    def _build(self, statistics: Statistics) -> None:
        spec, config, codec = self.spec, self._config, self._codec
        self._phases = phases(config, self._steps)
        size, hidden = spec.observation_size, config.hidden
        sizes, lead = (size, *hidden, spec.action.size), (config.members,)
        self.policy = BoundedGaussianPolicy(sizes, self._rng, lead=lead)
        self.candidate = copy.deepcopy(self.policy)
        self.value = Mlp((size, *(config.value_hidden or hidden), 1), self._rng)
        self.critic, self.target = make_critics(
            codec, config.critic_hidden or hidden, self._rng, members=config.critics
        )
        self._critics = Critics(self.value, self.critic, self.target)
        self.dynamics = self._make_dynamics(statistics)
        self.gate = Gate(config.members, config.starts, size, self._device)
        self._judge = Judge(
            self._critics,
            self.dynamics,
            config.elites,
            config.horizon,
            config.count_ended,
        )
        self._ppo = OnPolicy(self.policy, self.value, config, self._rng)
        self._chosen = Chosen(self.policy, self.gate.chosen)
        self._adams = self._make_adams()
        names = ("policy", "candidate", "value", "critic", "target", "dynamics", "gate")
        nets = {name: getattr(self, name) for name in names}
        self._adopt(Deployed(codec, self._chosen), nets, self._adams)
        self._seldom = self._nothing()

    def _make_dynamics(self, statistics: Statistics) -> Dynamics:
        config = self._config
        mean, std = self._codec.standard(statistics)
        hidden, actions = config.dynamics_hidden or config.hidden, self.spec.action.size
        return Dynamics(
            hidden, actions, self._rng, members=config.models, mean=mean, std=std
        )

    def _make_adams(self) -> dict[str, torch.optim.Optimizer]:
        config = self._config
        return {
            "cloning": adam([self.policy], config.learning_rate),
            "value": adam([self.value], config.learning_rate),
            "critic": adam([self.critic], config.learning_rate),
            "dynamics": dynamics_adam(
                self.dynamics, config.dynamics_rate, config.weight_decay
            ),
            "candidate": adam([self.candidate], config.improvement_rate),
            "online_policy": self._ppo.policy_adam,
            "online_value": self._ppo.value_adam,
        }

    def _update(self, batch: Batch) -> dict[str, SupportsFloat]:
        """Take one step of the phase that it is time for."""
        check_reward(batch)
        inputs = self._inputs(batch)
        if self._config.phase == "online":
            chosen, progress = self.gate.chosen, self._done / self._steps
            known = self._ppo.update(inputs, member=chosen, progress=progress)
        elif self._updates < self._phases.fit_end:
            known = self._fit(batch, inputs)
            if self._updates < self._phases.cloning_end:
                known |= self._clone(inputs)
            self.gate.remember(inputs.observation, self._updates)
        else:
            known = self._improve(inputs.observation)
        self._updates += 1
        self._seldom |= known
        return self._seldom | {"actions_at_rim": Rim(inputs.action)}

    def export(self) -> bytes:
        """Return the best policy, alone, as one ONNX graph."""
        policy = alone(self.policy, int(self.gate.chosen))
        return export_onnx(Deployed(self._codec, policy), self.spec)

    def _fit(self, batch: Batch, inputs: Inputs) -> dict[str, SupportsFloat]:
        """Take a step on critics and dynamics."""
        config = self._config
        out = held_out(batch.observation, batch.action, config.holdout)
        kept = torch.from_numpy(float32(~out)).to(self._device)
        return self._critics.fit(
            inputs,
            self._adams,
            expectile=config.expectile,
            target_rate=config.target_rate,
        ) | fit_dynamics(
            self.dynamics, inputs, kept, self._adams["dynamics"], self._updates
        )

    def _clone(self, inputs: Inputs) -> dict[str, SupportsFloat]:
        """Take a step on the policies: do what the data does, and disagree."""
        config, moments = self._config, self.policy.moments(inputs.observation)
        kind, alpha = config.disagreement, config.alpha
        total, loss, kl = clone(moments, inputs.action, kind, alpha, self._noise)
        minimize(total, self._adams["cloning"])
        return {"loss/policy": Mean(loss), "pairwise_kl": Mean(kl)}

    def _improve(self, observation: Tensor) -> dict[str, SupportsFloat]:
        """Take PPO's step on all candidates, at states of the data (B, O)."""
        config, begin = self._config, self._phases.fit_end
        if self._updates == begin:
            replace(self.candidate, self.policy, torch.ones_like(self.gate.best) > 0)
            self.gate.begin(self._score(self.policy))
        left = 1.0 - (self._updates - begin) / (self._steps - begin)
        adam = self._adams["candidate"]
        adam.param_groups[0]["lr"] = config.improvement_rate * max(left, 0.0)
        tried = try_out(self.policy, self._critics, observation, self._noise)
        ratio = tried.ratio(self.candidate)
        loss = clipped_loss(ratio, tried.advantage, config.improvement_clip)
        descend(loss, adam, config.max_gradient, lead=1)
        if (self._updates - begin + 1) % config.gate_period == 0:
            score = self._score(self.candidate)
            better = self.gate.admit(score, always=not config.gate)
            replace(self.policy, self.candidate, better)
        return {
            "loss/improvement": Mean(loss),
            "clipped": Mean(((ratio - 1.0).abs() > config.improvement_clip).float()),
            **self._verdict(),
        }

    def _verdict(self) -> dict[str, SupportsFloat]:
        gate = self.gate
        return {
            "gate/am_q": Mean(gate.best.amax()),
            "gate/accepted": Mean(gate.accepted.sum().float()),
            "gate/judged": Mean(gate.judged.float() * len(gate.best)),
        }

    def _score(self, policies: BoundedGaussianPolicy) -> Tensor:
        """Return the AM-Q (N,) of `policies`."""
        return self._judge.score(policies, self.gate.starts)

    def _nothing(self) -> dict[str, SupportsFloat]:
        """Return the metrics of phases that have not been, so that names stay."""
        losses = ("value", "critic", "policy", "dynamics", "improvement")
        names = ("v", "pairwise_kl", "clipped", "error/dynamics")
        nothing = Mean(torch.zeros((), device=self._device))
        online = () if self._config.phase == "offline" else ("entropy", "value")
        return (
            dict.fromkeys((*names, *online), nothing)
            | {f"loss/{name}": nothing for name in losses}
            | self._verdict()
        )
