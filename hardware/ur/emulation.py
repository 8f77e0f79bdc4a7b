"""Starting the emulated controller, and telling it what shall go wrong."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

_END_S = 5.0


class Emulation:
    """An emulated controller in a process beside this one."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.host = self._line()

    def order(self, words: str) -> str:
        """Do as `emulator._ORDERS` has it; return the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(words + "\n")
        self._process.stdin.flush()
        return self._line()

    def tell(self) -> dict[str, Any]:
        """Return the state of the emulated arm and its program."""
        return dict(json.loads(self.order("tell")))

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@contextlib.contextmanager
def emulated(model: str) -> Iterator[Emulation]:
    """Give an emulated arm of that size, near home and at rest."""
    module = f"{__package__}.emulator"
    with subprocess.Popen(
        [sys.executable, "-m", module, model],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for the node, which stops the arm first
    ) as process:
        try:
            yield Emulation(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
