"""A person at the robot: alone, or over a policy's shoulder, with no jump in between.

Whoever takes over is blended in: from the action that is in effect to what they want,

    action_k = effect + w_k (wanted_k - effect)        w_k = 1/n, 2/n, ..., 1

over 0.3 s, or as many periods as it takes to ask for no more than half of the robot's
largest step. The policy sees every reading while a person moves the robot, so its
memory is right when it gets the robot back; its plan is dropped.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from robostack.messages import Reading
from robostack.runtime.author import Answer, Author, Counts
from robostack.spec import Array, RobotSpec, float32
from robostack.teleop.teleoperator import Teleoperator, TeleopError, too_far

BLEND_S = 0.3
RAMP_S = 1.0  # at the start of an episode: a leader may be some way off
_PART = 0.5  # of the largest step: what a blend asks for at most


class Blend:
    """Goes from one action to others that follow, evenly."""

    def __init__(self, start: Array, wanted: Array, robot: RobotSpec, s: float) -> None:
        self._start = start
        most = _PART * float32(robot.max_action_step)
        steps = float(np.max(np.abs(wanted - start) / most, initial=0.0))
        self.periods = math.ceil(max(s / robot.control_period_s, steps, 1.0))
        self._k = 0

    def __call__(self, wanted: Array) -> Array:
        """Return the action (A,) of the next period; in the end `wanted` itself."""
        self._k += 1
        if self._k >= self.periods:
            return wanted
        return self._start + np.float32(self._k / self.periods) * (wanted - self._start)


class Operated:
    """A person moves the robot, from the first reading to the last."""

    def __init__(self, teleoperator: Teleoperator, robot: RobotSpec) -> None:
        self._teleoperator = teleoperator
        self._robot = robot
        self._blend: Blend | None = None
        self.counts, self.inference_s = Counts(), list[float]()

    def begin(self) -> None:
        """Take over anew."""
        self._teleoperator.begin()
        self.counts, self.inference_s = Counts(), list[float]()
        self._blend = None

    def answer(self, reading: Reading) -> Answer | None:
        """Return what the person wants; None if that is not known.

        Raises:
            TeleopError: the robot is too far from where the person wants it.
        """
        effect = float32(reading.applied.unpack())
        if self._blend is None:
            self._teleoperator.start(effect)
        wanted = self._teleoperator.read()
        if wanted is None:
            self.counts.starved += 1
            self._blend = None  # it may be elsewhere when it comes back
            return None
        if self._blend is None:
            if sentence := too_far(self._robot, effect, wanted):
                raise TeleopError(sentence)
            self._blend = Blend(effect, wanted, self._robot, RAMP_S)
        return Answer(self._blend(wanted), intervention=True)

    def watch(self, reading: Reading) -> None:
        """Do nothing: a person sees the robot."""

    def resume(self, seq: int) -> None:
        """Do nothing: nobody else takes over."""


class Shared:
    """A policy moves the robot, and a person whenever they want to."""

    def __init__(
        self,
        policy: Author,
        teleoperator: Teleoperator,
        robot: RobotSpec,
        note: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        """Share a robot.

        Args:
            policy: moves the robot as long as nobody intervenes.
            teleoperator: what the person has, connected.
            robot: the node's.
            note: hears, in a sentence, who has the robot, and why somebody has not.
        """
        self._policy = policy
        self._teleoperator = teleoperator
        self._robot = robot
        self._note = note
        self._reset()

    def _reset(self) -> None:
        self._taken = False  # a person has the robot
        self._blend: Blend | None = None
        self._returning = False  # the policy has not yet moved it since
        self._refused = ""

    @property
    def counts(self) -> Counts:
        """What the policy could not do."""
        return self._policy.counts

    @property
    def inference_s(self) -> list[float]:
        """How long each inference took."""
        return self._policy.inference_s

    def begin(self) -> None:
        """Give the robot to the policy."""
        self._teleoperator.begin()
        self._policy.begin()
        self._reset()

    def answer(self, reading: Reading) -> Answer | None:
        """Return what the person wants, if they want to, else what the policy does."""
        wanted = self._teleoperator.read()
        if self._teleoperator.intervening:
            self._take(reading, wanted)
        elif self._taken:
            self._give_back(reading)
        else:
            self._refused = ""
        if self._taken:
            return self._by_person(reading, wanted)
        return self._by_policy(reading)

    def watch(self, reading: Reading) -> None:
        """Let the policy see it."""
        self._policy.watch(reading)

    def resume(self, seq: int) -> None:
        """Let the policy go on."""
        self._policy.resume(seq)

    def _take(self, reading: Reading, wanted: Array | None) -> None:
        if self._taken or wanted is None:
            return
        effect = float32(reading.applied.unpack())
        self._teleoperator.start(effect)
        wanted = self._teleoperator.read()
        sentence = "" if wanted is None else too_far(self._robot, effect, wanted)
        if wanted is None or sentence:
            if sentence and not self._refused:
                self._note(f"the policy keeps the robot: {sentence}")
            self._refused = sentence
            return
        self._taken, self._refused = True, ""
        self._blend = Blend(effect, wanted, self._robot, BLEND_S)
        self._note("the operator has the robot")

    def _give_back(self, reading: Reading) -> None:
        self._taken, self._returning, self._blend = False, True, None
        self._policy.resume(reading.seq)
        self._note("the policy has the robot")

    def _by_person(self, reading: Reading, wanted: Array | None) -> Answer | None:
        self._policy.watch(reading)
        if wanted is None:
            self._policy.counts.starved += 1
            self._blend = None  # they may be elsewhere when they come back
            return None
        if self._blend is None:
            effect = float32(reading.applied.unpack())
            self._blend = Blend(effect, wanted, self._robot, BLEND_S)
        return Answer(self._blend(wanted), intervention=True)

    def _by_policy(self, reading: Reading) -> Answer | None:
        answer = self._policy.answer(reading)
        if answer is None or answer.holding:
            return answer
        if self._returning:
            self._returning = False
            effect = float32(reading.applied.unpack())
            self._blend = Blend(effect, answer.action, self._robot, BLEND_S)
        if self._blend is None:
            return answer
        return answer._replace(action=self._blend(answer.action))
