"""The recorder as a child process: started, awaited, watched, and ended."""

from __future__ import annotations

import contextlib
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

_READY_S = 10.0  # to start python and hear the node
_END_S = 10.0  # to close its file


class RecorderProcessError(RuntimeError):
    """The recorder did not come up, or died."""


class RecorderProcess:
    """A running recorder."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process = process
        self._folder = folder

    @property
    def pid(self) -> int:
        """Process number."""
        return self._process.pid

    def trouble(self) -> str:
        """Return why nothing is being recorded, or "" while something is."""
        code = self._process.poll()
        if code is None:
            return ""
        return (
            f"the recorder ended with code {code}; what it had written is in "
            f"{self._folder}, and robostack data repair makes recordings of it"
        )


@contextlib.contextmanager
def spawn(
    endpoint: str, folder: Path, keys: Path | None = None
) -> Iterator[RecorderProcess]:
    """Record the node at `endpoint` into `folder` while the context is open.

    Raises:
        RecorderProcessError: it did not hear the node in time, or could not write.
    """
    command = [sys.executable, "-m", "robostack.node.recorder", endpoint, str(folder)]
    if keys is not None:
        command += ["--keys", str(keys)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    try:
        if not _hears(process.stdout, time.monotonic() + _READY_S):
            process.stdout.close()
            raise RecorderProcessError(
                f"expected the recorder to hear {endpoint} within {_READY_S:g} s, and "
                "it did not; see what it said above"
            )
        drain = threading.Thread(target=_drain, args=(process.stdout,), daemon=True)
        drain.start()  # a full pipe would stop the recorder
        yield RecorderProcess(process, folder)
    finally:
        process.terminate()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _drain(lines: IO[str]) -> None:
    with lines:
        for _ in lines:
            continue


def _hears(lines: IO[str], deadline_s: float) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(lines, selectors.EVENT_READ)
        while (left_s := deadline_s - time.monotonic()) > 0:
            if selector.select(left_s):
                line = lines.readline()
                if line.strip() == "ready":
                    return True
                if not line:
                    return False
    return False
