"""The keys of a node's own terminal: the stop that needs no network, and the clear.

    SPACE, s   stop: latch ESTOP
    c          clear a latched FAULT or ESTOP, once its cause is acknowledged with y
    d          disable: no episode can begin; d again enables
    q          end the node

Nothing that comes over a network leads to `clear`: whoever clears stands here.
"""

from __future__ import annotations

import contextlib
import getpass
import threading
from collections.abc import Callable, Iterator

from robostack.node.keyboard import Keys, keyboard
from robostack.node.loops import Node

HELP = "keys: SPACE or s stop, c clear, d disable or enable, q end"

_LOOK_S = 0.1  # how often the thread looks whether to end
_END_S = 2.0

Say = Callable[[str], None]


@contextlib.contextmanager
def terminal(
    descriptor: int, node: Node, end: Callable[[], None], say: Say
) -> Iterator[bool]:
    """Obey keys on a thread of its own, for as long as this lasts.

    Gives whether there is a terminal; a pipe is none.

    Args:
        descriptor: where keys come from.
        node: what they are about.
        end: ends the node.
        say: hears what came of a key, in a sentence.
    """
    over = threading.Event()
    with keyboard(descriptor) as keys:
        if keys is None:
            yield False
            return
        desk = Desk(node, end, say)
        thread = threading.Thread(
            target=_work, args=(desk, keys, over), name="terminal", daemon=True
        )
        thread.start()
        try:
            yield True
        finally:
            over.set()
            thread.join(_END_S)


class Desk:
    """What each key does; knows nothing of terminals."""

    def __init__(self, node: Node, end: Callable[[], None], say: Say) -> None:
        self._supervisor = node.supervisor
        self._machine = node.supervisor.machine
        self._end = end
        self._say = say
        self._asked = ""  # cause that was shown, and waits to be acknowledged
        self._who = f"{_user()} at the node's terminal"

    def press(self, key: str) -> None:
        """Act on one key."""
        asked, self._asked = self._asked, ""
        if key in {" ", "s"}:
            self._supervisor.leave("estop", f"stopped by {self._who}")
            self._say(f"{self._machine.state}: {self._machine.cause}")
        elif asked:
            self._acknowledge(asked, key)
        elif key == "c":
            self._ask()
        elif key == "d":
            self._toggle()
        elif key == "q":
            self._end()
        elif key.isprintable():
            self._say(HELP)

    def _ask(self) -> None:
        if not self._machine.latched:
            self._say(f"nothing to clear: the node is in {self._machine.state}")
            return
        self._asked = self._latched()
        self._say(
            f"{self._asked}; press y if you understand why, and it may move again"
        )

    def _acknowledge(self, asked: str, key: str) -> None:
        if key != "y":
            self._say("not cleared")
        elif asked != self._latched():
            self._say("not cleared: something else happened meanwhile; press c again")
        else:
            cleared = self._supervisor.clear(f"acknowledged by {self._who}")
            how = "cleared" if cleared else "not cleared"
            self._say(f"{how}: {self._machine.state}: {self._machine.cause}")

    def _latched(self) -> str:
        return f"{self._machine.state}: {self._machine.cause}"

    def _toggle(self) -> None:
        if self._machine.state == "disabled":
            self._supervisor.enable(f"enabled by {self._who}")
        else:
            self._supervisor.leave("disabled", f"disabled by {self._who}")
        self._say(f"{self._machine.state}: {self._machine.cause}")


def _work(desk: Desk, keys: Keys, over: threading.Event) -> None:
    while not over.is_set():
        for key in keys(_LOOK_S):
            desk.press(key)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name
        return "somebody"
