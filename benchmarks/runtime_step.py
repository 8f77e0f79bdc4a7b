"""What a step through the runtime costs, against a bare ONNX Runtime call.

    python benchmarks/runtime_step.py [--rounds 15] [--calls 2000]

The graph is a real export: IQL's policy, 2 x 256, for the SO-101 at its table. A bare
call is `session.run` of the same graph on prepared inputs, one thread, CPU; a step is
`Session.act`: check shapes, copy the reading in, run, check and copy the action out.
Both are timed in turn, round by round; the figure is the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime

from robostack import plugins
from robostack.bundle import NOISE, Provenance, expected_inputs
from robostack.export import export
from robostack.learner import Statistics
from robostack.runtime.session import Session
from robostack.spec import RobotSpec


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calls", type=int, default=2000)
    arguments = parser.parse_args()
    robot: RobotSpec = plugins.load("sim", "so101_table").spec("")
    with tempfile.TemporaryDirectory() as folder:
        session = Session(make_policy(robot, Path(folder) / "p.onnx"), "cpu")
    bare, feed = prepare(session)
    reading = {name: array[0] for name, array in feed.items() if name != NOISE}
    rows = [
        (
            median_s(lambda: bare.run(None, feed), arguments.calls),
            median_s(lambda: session.act(reading), arguments.calls),
        )
        for _ in range(arguments.rounds)
    ]
    ratios = sorted(step / alone for alone, step in rows)
    print(f"bare session.run  {1e6 * statistics.median(r[0] for r in rows):6.1f} us")
    print(f"Session.act       {1e6 * statistics.median(r[1] for r in rows):6.1f} us")
    print(
        f"ratio, median of {len(ratios)} paired rounds: "
        f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    )


def make_policy(robot: RobotSpec, path: Path):  # noqa: ANN201
    """Export an untrained IQL policy: its weights do not change its cost."""
    module = plugins.load("policies", "iql")
    size = robot.observation_size
    still = Statistics(np.zeros(size, np.float32), np.ones(size, np.float32), 0.0, 1.0)
    learner = module.Learner(robot, module.Config(), statistics=still, steps=1, seed=0)
    provenance = Provenance("iql", {}, 0, 0, "", "", "", {})
    return export(learner, path, provenance, np.zeros((0, size), np.float32))[0]


def prepare(session: Session) -> tuple[onnxruntime.InferenceSession, dict]:
    """Return a bare session of the same graph, and inputs for it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    bare = onnxruntime.InferenceSession(
        session.policy.model, options, providers=["CPUExecutionProvider"]
    )
    rng = np.random.default_rng(0)
    shapes = expected_inputs(session.policy.manifest)
    feed = {k: rng.normal(size=(1, *n)).astype("f4") for k, n in shapes.items()}
    return bare, feed | {NOISE: np.zeros_like(feed[NOISE])}


def median_s(call: Callable[[], object], calls: int) -> float:
    """Return the median duration of `call` [s]."""
    times = []
    for _ in range(calls):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


if __name__ == "__main__":
    main()
