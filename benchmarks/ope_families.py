"""Families of policies that `benchmarks/ope.py` has judged, each fixed beforehand.

    nine      clones of random, medium and expert rollouts, on their way and with noise
    chosen    on these, and on no others, settings of estimators were chosen
    fresh     nobody looked at their truth before settings were

Runs without a folder are trained by `ope.py policies`; the others are those of
`benchmarks/offline.py`, with `--algorithms iql`, six seeds for the mix and three for
medium, of 20,000 updates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Candidate(NamedTuple):
    """The policy that a run had after some updates, and what is done to its actions."""

    run: str
    updates: int
    noise: float = 0.0  # spread of a normal [action unit]; then clipped to the bounds
    part: float = 1.0  # of the actions, before noise
    uniform: float = 0.0  # half width of uniform noise [action unit]

    def actor(self, act: Callable, seed: int = 0) -> Callable:
        """Return actions (B, A) as a function of observations (B, O), from a learner's.

        All noise comes from one generator, which goes on from call to call.
        """
        rng = np.random.default_rng(seed)

        def done(observation: np.ndarray) -> np.ndarray:
            action = self.part * act(observation, None)
            drawn = rng.standard_normal(action.shape, dtype=np.float32)
            action = action + self.noise * drawn
            if self.uniform:
                action = action + rng.uniform(-self.uniform, self.uniform, action.shape)
            return action.clip(-1.0, 1.0).astype(np.float32)

        return done


NINE = {
    "random": Candidate("random", 3_000),
    "medium, 1,000 updates": Candidate("medium", 1_000),
    "medium, 10,000 updates": Candidate("medium", 10_000),
    "expert, 500 updates": Candidate("expert", 500),
    "expert, 2,000 updates": Candidate("expert", 2_000),
    "expert, 4,000 updates": Candidate("expert", 4_000),
    "expert, 10,000 updates": Candidate("expert", 10_000),
    "expert, noise 0.3": Candidate("expert", 10_000, 0.3),
    "expert, noise 0.6": Candidate("expert", 10_000, 0.6),
}
CHOSEN = {
    "bc of medium": Candidate("bc/medium/0", 20_000),
    "bc of the mix": Candidate("bc/medium-expert/0", 20_000),
    "bc of the mix, noise 0.2": Candidate("bc/medium-expert/0", 20_000, 0.2),
    "bc of the mix, noise 0.45": Candidate("bc/medium-expert/0", 20_000, 0.45),
    "bc of the mix, noise 0.8": Candidate("bc/medium-expert/0", 20_000, 0.8),
    "iql of medium": Candidate("iql/medium/0", 20_000),
    "iql of the mix": Candidate("iql/medium-expert/0", 20_000),
    "uniform": Candidate("bc/medium/0", 20_000, part=0.0, uniform=1.0),
    "zero": Candidate("bc/medium/0", 20_000, part=0.0),
}
FRESH = {
    "iql of the mix, seed 3": Candidate("iql/medium-expert/3", 12_000),
    "iql of the mix, seed 4": Candidate("iql/medium-expert/4", 20_000),
    "iql of medium, seed 2": Candidate("iql/medium/2", 20_000),
    "bc of the mix, seed 5": Candidate("bc/medium-expert/5", 20_000),
    "bc of medium, seed 2": Candidate("bc/medium/2", 12_000),
    "iql, seed 3, noise 0.4": Candidate("iql/medium-expert/3", 12_000, 0.4),
    "iql, seed 3, noise 0.7": Candidate("iql/medium-expert/3", 12_000, 0.7),
    "bc, seed 5, 0.7 of it": Candidate("bc/medium-expert/5", 20_000, part=0.7),
    "bc of random, 500 updates": Candidate("random", 500),
}
FAMILIES = {"nine": NINE, "chosen": CHOSEN, "fresh": FRESH}
