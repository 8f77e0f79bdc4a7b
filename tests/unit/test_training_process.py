"""The process that trains keeps memory, and limits threads, unless told otherwise."""

import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource
import numpy as np
from robostack.training.process import prepare

{}

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def make():
    return [np.ones(2**18, np.float32) for _ in range(4)]

make()
before = faults()
for _ in range(20):
    make()
print(faults() - before)
"""


def run(code, **environment):
    told = {**os.environ, **environment}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=told,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc alone")
def test_memory_that_was_freed_is_not_asked_for_again():
    pages = 20 * 4 * 2**20 // os.sysconf("SC_PAGE_SIZE")
    assert int(run(FAULTS.format("prepare()"))) < pages / 10
    assert int(run(FAULTS.format(""))) > pages / 2


@pytest.mark.parametrize(
    ("told", "threads"), [({}, "1"), ({"OMP_NUM_THREADS": "2"}, "2")]
)
def test_threads_are_as_the_environment_says_or_one(told, threads, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    code = "import os; from robostack.training.process import prepare; prepare()"
    assert run(f"{code}; print(os.environ['OMP_NUM_THREADS'])", **told) == threads
