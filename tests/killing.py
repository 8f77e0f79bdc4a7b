"""`robostack train` in processes of its own, and SIGKILL for them.

Loading torch takes longer than all the rest, so a nursery loads it once and forks: each
child is a process of its own, that runs the command and nothing else.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from robostack.training import checkpoint
from robostack.training.run import CHECKPOINTS

TIMEOUT_S = 60.0

NURSERY = """
import json, os, sys
import robostack.verbs.learn
from robostack import cli, plugins
from robostack.training import offline, online
from robostack.training.evaluate import open_arena

for name in plugins.names("policies"):
    plugins.load("policies", name)
open_arena("sim:gym/InvertedPendulum-v5").world.close()
answers = os.fdopen(os.dup(1), "w")  # what commands print goes elsewhere
os.dup2(2, 1)
cli.main(json.loads(sys.stdin.readline()))  # and what training loads, is loaded
for line in sys.stdin:
    words, log = json.loads(line)
    if not (pid := os.fork()):
        file = os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        os.dup2(file, 1), os.dup2(file, 2)
        os._exit(cli.main(words))
    print(pid, file=answers, flush=True)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    print(code, file=answers, flush=True)
os._exit(0)  # there is nothing to tidy up
"""


class Nursery:
    """Runs `robostack train`, one process at a time."""

    def __init__(self, warming):
        """`warming`: the words of a command that loads what others need."""
        self._process = subprocess.Popen(
            [sys.executable, "-c", NURSERY],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._write(warming)

    def run(self, folder, words):
        """Train in `folder`, to the end."""
        self._start(folder, words)
        code = int(self._process.stdout.readline())
        assert code == 0, (folder / "log").read_text()

    def kill(self, folder, words, step, delay_s):
        """Train in `folder`, and kill it `delay_s` after its checkpoint of `step`.

        Return whether it was killed: it may have come to its end before.
        """
        pid, deadline = self._start(folder, words), time.monotonic() + TIMEOUT_S
        while newest_step(folder / "run") < step:
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.0005)
        time.sleep(delay_s)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        code = int(self._process.stdout.readline())
        assert code in (0, -signal.SIGKILL), (folder / "log").read_text()
        return code != 0

    def close(self):
        """End it."""
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def _start(self, folder, words):
        folder.mkdir(exist_ok=True)
        command = ["train", *map(str, words), "--resume", "--run", f"{folder}/run"]
        self._write([command, f"{folder}/log"])
        return int(self._process.stdout.readline())

    def _write(self, value):
        self._process.stdin.write(msgspec.json.encode(value) + b"\n")
        self._process.stdin.flush()


def newest_step(run):
    """Return the step of the newest checkpoint; -1 without any."""
    steps = [int(path.stem) for path in (run / CHECKPOINTS).glob("*.ckpt")]
    return max(steps, default=-1)


def final(folder):
    """Return everything that a run ended with, but for the times in it."""
    run = Path(folder) / "run"
    files = sorted(p for p in run.iterdir() if p.suffix in (".jsonl", ".f32"))
    contents = {path.name: path.read_bytes() for path in files}
    return checkpoint.newest(run / CHECKPOINTS), contents
