"""The claim of IQL at toy size: a high expectile joins halves of ways that it saw."""

import argparse
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("gymnasium")

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
FAST = {"learning_rate": 1e-3, "target_rate": 0.02}
FEW = argparse.Namespace(data=40_000, updates=4_000, online=0, episodes=200)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_high_expectile_stitches_where_sarsa_and_cloning_do_not(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    import claims_iql

    found = {"iql_0.9": [], "iql_0.5": [], "bc": []}
    for name, runs in found.items():
        algorithm, settings = claims_iql.METHODS[name]
        fast = FAST if algorithm == "iql" else {"learning_rate": 1e-3}
        monkeypatch.setitem(claims_iql.METHODS, name, (algorithm, settings | fast))
        runs += [claims_iql.run(name, seed, FEW) for seed in (0, 1)]
    rates = {
        name: np.mean([r["offline"] for r in runs]) for name, runs in found.items()
    }
    assert rates["iql_0.9"] > rates["iql_0.5"] + 0.3, rates
    assert rates["iql_0.9"] > rates["bc"] + 0.3, rates
    assert max(run["correlation"] for run in found["iql_0.9"]) < -0.9
