"""Take each promise of the node away, one by one, and see a test fail.

    make faults                          all of them
    python tests/faults/mutate.py latch  those whose name contains "latch"

A mutation replaces a piece of the source, which has to occur once, in a copy of it;
then the tests that guard the promise run against the copy. One that all tests survive
is a promise that nobody keeps watch over. The tests first have to pass unmutated.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = ("policies", "sim", "hardware")
PASSED, FAILED = 0, 1  # exit codes of pytest; others mean that it could not even begin
TIMEOUT_S = 60.0  # of one test; a mutation may well make one hang

sys.path.insert(0, str(Path(__file__).parent))

from mutations import MUTATIONS, Mutation


class Result(NamedTuple):
    """What became of one mutation."""

    mutation: Mutation
    verdict: str  # "killed", "survived", or "invalid"
    detail: str


def assemble(folder: Path) -> Path:
    """Copy the source as it is installed; return the package's folder."""
    package = folder / "robostack"
    ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
    shutil.copytree(ROOT / "robostack", package, ignore=ignore)
    for kind in PLUGINS:
        shutil.copytree(ROOT / kind, package / kind, ignore=ignore)
    return package


def source(package: Path, file: str) -> Path:
    """Return where a file of the repository lies in the copy."""
    return package / file.removeprefix("robostack/")


def run_tests(folder: Path, tests: tuple[str, ...]) -> tuple[int, str]:
    """Run `tests` against the copy in `folder`; return exit code and last lines."""
    command = [sys.executable, "-P", "-m", "pytest", "-x", "-q", "--no-header"]
    command += ["--tb=line", "-p", "no:cacheprovider", "-m", "", "--durations=0"]
    command += ["-o", f"timeout={TIMEOUT_S}", "--", *tests]
    paths = {"PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1"}
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | paths | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    words = [line for line in done.stdout.splitlines() if "FAILED" in line[:8]]
    last = (done.stdout.strip() or done.stderr.strip()).splitlines()[-1:]
    return done.returncode, "; ".join(words[:1] or last)[:160]


def attempt(mutation: Mutation) -> Result:
    """Apply one mutation to a fresh copy, and run its tests."""
    with tempfile.TemporaryDirectory(prefix="robostack-mutant-") as name:
        package = assemble(Path(name))
        path = source(package, mutation.file)
        text = path.read_text()
        if (times := text.count(mutation.old)) != 1:
            return Result(mutation, "invalid", f"expected the piece once, got {times}")
        path.write_text(text.replace(mutation.old, mutation.new))
        code, words = run_tests(Path(name), mutation.tests)
    verdict = {PASSED: "survived", FAILED: "killed"}.get(code, "invalid")
    return Result(mutation, verdict, words)


def baseline(mutations: list[Mutation]) -> str:
    """Return what fails without any mutation, or an empty string.

    Some of the tests keep real time, and a busy computer does not: twice counts.
    """
    tests = tuple(dict.fromkeys(test for m in mutations for test in m.tests))
    with tempfile.TemporaryDirectory(prefix="robostack-mutant-") as name:
        assemble(Path(name))
        for _ in range(2):
            code, words = run_tests(Path(name), tests)
            if code == PASSED:
                return ""
    return words


def main() -> int:
    """Try all mutations; return 0 if every one was killed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", help="only those that contain one of these")
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    chosen = [
        m for m in MUTATIONS if not args.names or any(n in m.name for n in args.names)
    ]
    if not chosen:
        print(f"no mutation is named like {args.names}")
        return 1
    if failing := baseline(chosen):
        print(f"these tests fail without any mutation: {failing}")
        return 1
    with ThreadPoolExecutor(args.jobs) as pool:
        results = []
        for result in pool.map(attempt, chosen):
            results.append(result)
            promise, name = result.mutation.promise, result.mutation.name
            print(f"{result.verdict:9} {promise:4} {name}: {result.detail}", flush=True)
    counts = {v: sum(r.verdict == v for r in results) for v in VERDICTS}
    print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    return 0 if counts["killed"] == len(results) else 1


VERDICTS = ("killed", "survived", "invalid")

if __name__ == "__main__":
    sys.exit(main())
