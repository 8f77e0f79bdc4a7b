"""The recorder as a child process, seen from whoever started it."""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
import time
from pathlib import Path

_STOP_S = 10.0  # for closing a file; then it is killed, and its recording is partial


class RecorderDiedError(RuntimeError):
    """The recorder is gone, or did not get ready; one sentence says why."""


class RecorderProcess:
    """A recorder at work; a context manager that closes its file on the way out.

    `saved` has the finished recordings, `alive` says whether more can come.
    """

    def __init__(
        self, endpoint: str, folder: Path, keyring: Path | None = None
    ) -> None:
        """Start it; `wait_ready` says when it hears the node."""
        command = [sys.executable, "-m", "robostack.node.recorder"]
        command += [endpoint, str(folder)]
        command += [] if keyring is None else ["--keyring", str(keyring)]
        self._process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,  # Ctrl-C is for us: we end the episode first, then it
        )
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._errors: list[str] = []
        self.saved: list[Path] = []
        self._threads = [
            threading.Thread(target=self._listen, daemon=True),
            threading.Thread(target=self._complain, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> RecorderProcess:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self.stop()

    @property
    def alive(self) -> bool:
        """Whether it still records."""
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """Process id, for signals."""
        return self._process.pid

    @property
    def complaint(self) -> str:
        """What it said on stderr."""
        return "".join(self._errors).strip()

    def wait_ready(self, timeout_s: float) -> None:
        """Return once it hears the node, so that no episode begins without it."""
        self._wait_for("ready", timeout_s)

    def wait_saved(self, timeout_s: float) -> Path:
        """Return the next finished recording that nobody waited for yet."""
        return Path(self._wait_for("saved", timeout_s))

    def stop(self) -> int:
        """Let it close its file; return its exit status."""
        self._process.terminate()
        try:
            status = self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        for thread in self._threads:
            thread.join(_STOP_S)
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()
        return status

    def _wait_for(self, word: str, timeout_s: float) -> str:
        deadline = time.monotonic() + timeout_s
        while (left_s := deadline - time.monotonic()) > 0:
            try:
                line = self._lines.get(timeout=left_s)
            except queue.Empty:
                break
            if not line:
                status = self._process.wait()
                raise RecorderDiedError(
                    f"the recorder exited with status {status}: "
                    f"{self.complaint or 'it said nothing'}"
                )
            said, _, detail = line.strip().partition(" ")
            if said == word:
                return detail
        raise RecorderDiedError(
            f"expected the recorder to say {word!r} within {timeout_s:g} s, it did "
            f"not; is the node up? {self.complaint}".rstrip()
        )

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            word, _, detail = line.strip().partition(" ")
            if word == "saved":
                self.saved.append(Path(detail))
            self._lines.put(line)
        self._lines.put("")  # the end: it died

    def _complain(self) -> None:
        assert self._process.stderr is not None
        self._errors.extend(self._process.stderr)
