"""Benchmarks still begin, at their smallest size; what they find is not looked at."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("gymnasium")

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
THEIRS = {"offline_theirs"}  # runs in d3rlpy's own environment
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in THEIRS)
IMPORT_ALL = f"""
import importlib, sys
sys.path.insert(0, {str(FOLDER)!r})
for name in {SCRIPTS}:
    importlib.import_module(name)
"""
FEW = "--seeds 1 --episodes 1 --out OUT"
SMALLEST = [
    f"claims_h2o --methods iql_real h2o darc authors_turns authors_spread {FEW} "
    "--medium 1100 --data 300 --updates 8",
    f"claims_famo2o --methods famo2o famo2o_awac iql_3 {FEW} "
    "--data 300 --updates 5 --online 40",
    f"claims_iql --methods iql_0.9 bc {FEW} --data 300 --updates 5 --online 80",
    f"claims_ro2o --methods ro2o_not_online {FEW} "
    "--medium 20 --data 300 --updates 5 --warmup 300 --online 1000",
    f"claims_uni_o4 --methods uni_o4 iql {FEW} "
    "--medium 20 --data 600 --updates 600 --online 2000",
    "seeds --seeds 2 --updates 1 --rounds 1",
    "runtime_step --rounds 1 --calls 20",
    "offline_pace --help",
    "ope --help",
]
PARTS = ("arrays", "ours", "scores", "table")


def begin(script, told, folder):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MUJOCO_GL": "egl"}
    command = [sys.executable, str(FOLDER / f"{script}.py"), *told]
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_every_script_can_be_imported(tmp_path):
    subprocess.run([sys.executable, "-c", IMPORT_ALL], cwd=tmp_path, check=True)


@pytest.mark.parametrize("line", SMALLEST, ids=lambda line: line.split()[0])
def test_a_script_runs_at_its_smallest_size(line, tmp_path):
    script, *told = line.replace("OUT", str(tmp_path / "out.jsonl")).split()
    assert begin(script, told, tmp_path)


@pytest.mark.parametrize("algorithm", ["iql", "famo2o", "ro2o", "uni_o4", "rlpd"])
def test_scores_of_ours_are_trained_tried_and_shown(algorithm, tmp_path, shared_data):
    sizes = "--sets random --steps 10 --online 10 --seeds 1 --episodes 1 --hidden 8 8"
    told = f"--algorithms {algorithm} --checkpoints 1 {sizes}".split()
    told += ["--data", str(shared_data), "--work", str(tmp_path / "work")]
    shown = [begin("offline", [part, *told], tmp_path) for part in PARTS][-1]
    assert "| random (" in shown
    assert f"| {algorithm} |" in shown
