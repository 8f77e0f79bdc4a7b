"""The report of the demo: what the logs were worth, and what was learned from them.

Only numbers that this run made are on the page.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from robostack import plots
from robostack.data.dataset import Dataset
from robostack.export import Proof
from robostack.report import Report
from robostack.runtime.loop import Outcome
from robostack.spec import Array, float32

_STRIP = 8  # frames
_CURVES = (
    "evaluation/success",
    "evaluation/return",
    "loss/value",
    "loss/critic",
    "loss/policy",
)


class Score(NamedTuple):
    """Returns and successes of E episodes."""

    returns: npt.NDArray[np.float64]
    success: npt.NDArray[np.bool_]

    @property
    def rate(self) -> float:
        """Part of the episodes that succeeded."""
        return float(self.success.mean())

    @property
    def error(self) -> float:
        """Standard error of the rate."""
        return math.sqrt(self.rate * (1 - self.rate) / len(self.success))


class Live(NamedTuple):
    """Episodes that were driven, and why the node ended others by itself."""

    outcomes: list[Outcome]
    held: list[str]


class Results(NamedTuple):
    """All that the report tells."""

    logs: Score
    policy: Score
    proof: Proof
    trials: list[Outcome]  # in lockstep
    live: Live  # in real time, recorded
    recorded: Dataset
    seconds: dict[str, float]  # by step


def make(folder: Path, address: str, results: Results) -> Report:
    """Return the report of the demo in `folder`, which drove the world at `address`."""
    report = Report("robostack demo: from logs to a moving twin")
    before, after = results.logs, results.policy
    report.lead(
        f"The policy succeeds in {after.rate:.0%} of {len(after.success)} trials, the "
        f"logs it learned from in {before.rate:.0%} of {len(before.success)}. Mean "
        f"return {before.returns.mean():.3g} before, {after.returns.mean():.3g} after: "
        f"{_verdict(before, after)}."
    )
    _scores(report, before, after)
    _learning(report, folder)
    _frames(report, results.recorded)
    _timing(report, results)
    _artefacts(report, folder, results)
    _next_steps(report, folder, address)
    return report


def _verdict(before: Score, after: Score) -> str:
    gap = after.rate - before.rate
    error = math.hypot(before.error, after.error)
    word = "better" if gap > 0 else "worse" if gap < 0 else "apart"
    return (
        f"{abs(gap) * 100:.0f} points {word} (standard error {error * 100:.0f} points)"
    )


def _scores(report: Report, before: Score, after: Score) -> None:
    report.heading("Before and after")
    head = ("", "episodes", "success", "mean return", "median", "worst", "best")
    rows = [
        (
            name,
            len(s.returns),
            f"{s.rate:.1%} \u00b1 {s.error:.1%}",
            float(s.returns.mean()),
            float(np.median(s.returns)),
            float(s.returns.min()),
            float(s.returns.max()),
        )
        for name, s in (("logs", before), ("policy, over ZMQ", after))
    ]
    report.table(head, rows)
    groups = {"logs": float32(before.returns), "policy": float32(after.returns)}
    report.picture(plots.compare(groups, "return"), "returns of logs and policy")
    report.text(
        "Success is judged by the world's referee on the true position of the cube, "
        "which is no part of what operator and policy observe: they see what a tag "
        "tracker would say."
    )


def _learning(report: Report, folder: Path) -> None:
    report.heading("Learning curves")
    lines = (folder / "run" / "metrics.jsonl").read_bytes().splitlines()
    rows = [msgspec.json.decode(line, type=dict[str, float]) for line in lines]
    series = {}
    for name in _CURVES:
        points = [(row["step"], row[name]) for row in rows if name in row]
        if points:
            series[name] = ([x for x, _ in points], [y for _, y in points])
    report.picture(plots.curves(series, "updates"), "learning curves")


def _frames(report: Report, recorded: Dataset) -> None:
    report.heading("What it did")
    episode = recorded.episode(0)
    for camera, frames in episode.frames.items():
        count = len(frames.step)
        chosen = [int(i) for i in np.linspace(0, count - 1, min(_STRIP, count))]
        report.text(f"Camera {camera}, first recorded episode:")
        report.strip(
            [
                (f"{episode.time_s[frames.step[i]]:.1f} s", frames.jpeg[i])
                for i in chosen
            ]
        )


def _timing(report: Report, results: Results) -> None:
    report.heading("Loop timing")
    live, held = results.live
    period_s = np.concatenate([o.period_s for o in live])
    inference_s = np.concatenate([o.inference_s for o in live])
    rows = [_timing_row("period", period_s), _timing_row("policy alone", inference_s)]
    report.text(
        f"{len(live)} episodes in real time, node, policy and recorder in a process "
        f"each; {sum(o.late for o in live)} of {len(period_s)} readings came more than "
        f"half a period late, {sum(o.ended.overruns for o in live)} ticks were missed, "
        f"{sum(o.ended.clamps for o in live)} actions limited by the node."
    )
    if held:
        report.text(
            f"{len(held)} more episodes were ended by the watchdog, and run again "
            f"({held[0]}): this computer was busy."
        )
    report.table(("[ms]", "p50", "p99", "max"), rows)
    groups = {
        "period": float32(1e3 * period_s),
        "policy alone": float32(1e3 * inference_s),
    }
    report.picture(plots.timings(groups, "ms"), "histograms of the loop's timing")
    lockstep = np.concatenate([o.period_s for o in results.trials])
    report.text(
        f"In lockstep the same node made {1 / np.median(lockstep):.0f} steps a second."
    )


def _timing_row(name: str, seconds: Array) -> tuple[object, ...]:
    values = (*np.percentile(seconds, (50, 99)), seconds.max())
    return (name, *(round(float(1e3 * value), 3) for value in values))


def _artefacts(report: Report, folder: Path, results: Results) -> None:
    report.heading("Where everything lies")
    proof, folder = results.proof, folder.resolve()
    worst = max(proof.action_error, proof.sample_error)
    report.table(
        ("what", "where", "note"),
        [
            ("logs, a dataset", folder / "logs", "robostack data inspect shows them"),
            ("training run", folder / "run", "tensorboard --logdir shows its curves"),
            (
                "bundle",
                folder / "policy.onnx",
                f"within {worst:.2g} of what was trained, {proof.rows} observations",
            ),
            ("recordings, MCAP", folder / "recordings", "Foxglove and Rerun open them"),
            (
                "recordings as a dataset",
                folder / "recorded",
                f"{len(results.recorded)} episodes",
            ),
        ],
    )
    report.table(
        ("step", "seconds"),
        [(name, round(seconds, 1)) for name, seconds in results.seconds.items()],
    )


def _next_steps(report: Report, folder: Path, address: str) -> None:
    report.heading("Next, on your own robot")
    policy = folder.resolve() / "policy.onnx"
    report.text("See the twin again, by hand, in two terminals:")
    report.code(
        f"robostack serve {address} --bind tcp://127.0.0.1:5555\n"
        f"robostack run {policy} --robot tcp://127.0.0.1:5555 --record recordings"
    )
    report.text(
        "Your own logs take the same road (robostack data formats lists what can be "
        "read); put your robot's driver or world in place of the address:"
    )
    report.code(
        f"robostack data import LOGS --dataset mine --robot {address}\n"
        "robostack data inspect mine --plot mine.png\n"
        "robostack train iql --dataset mine --run mine-run --recipe robot\n"
        "robostack export mine-run mine.onnx\n"
        f"robostack bundle verify mine.onnx --robot {address}"
    )
