"""The client's end of the link: take the lease, open an episode, answer readings.

    with Client("tcp://127.0.0.1:5555", name="me", timeout_s=1.0) as client:
        welcome = client.hello(spec, artefact="")
        reading = client.begin(seed=0, labels={})
        while not over:
            reading = client.step(policy(reading))    # lockstep and real time alike
        ended = client.end(terminated=False, reason="enough")

Every call returns or raises LinkError by its deadline. After a LinkError start again
with `hello`; a `LeftError` says that the node ended the episode by itself, and `begin`
may open the next one.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import TypeVar

import numpy as np

from robostack.link import endpoints
from robostack.link.errors import LeftError, LinkError, RefusedError
from robostack.link.keys import ClientKeys
from robostack.link.mailbox import Mailbox
from robostack.messages import (
    PROTOCOL,
    Begin,
    Bye,
    Command,
    Control,
    End,
    Ended,
    Hello,
    Message,
    Notice,
    Reading,
    Refusal,
    Tensor,
    Welcome,
)
from robostack.spec import Array, RobotSpec, float32

_FLOAT32 = np.dtype(np.float32)
_RESET_S = 60.0  # a real robot may take its time to go home
_TTL_S = 3600.0  # no limit of the client's own: the node has one
_M = TypeVar("_M", bound=Message)


class Client:
    """A connection to one node, that may hold its lease."""

    def __init__(
        self,
        endpoint: str,
        *,
        name: str = "client",
        timeout_s: float = 5.0,
        keys: ClientKeys | None = None,
    ) -> None:
        if not 0 < timeout_s < 3600:
            raise LinkError(f"expected a time-out within an hour, got {timeout_s} s")
        self.endpoint = endpoint
        self.session = ""
        self.generation = 0
        self.reading: Reading | None = None  # the newest of the open episode
        self.passed: list[Reading] = []  # came before the newest, and not returned
        self._name = name
        self._lockstep = False
        self._timeout_s = timeout_s
        self._box = Mailbox(endpoints.parse(endpoint).control, keys)

    def hello(
        self,
        robot: RobotSpec | None = None,
        artefact: str = "",
        *,
        chunk: int = 1,
        history: int = 1,
    ) -> Welcome:
        """Take the lease; `robot` is what the policy was made for, None for any.

        Args:
            robot: its digest, names, order, units and limits must be the node's own.
            artefact: content hash of the policy's bundle.
            chunk: actions that the policy gives per inference.
            history: readings that the policy sees at once.

        Raises:
            RefusedError: another protocol, robot, or holder of the lease.
        """
        self._box.renew()
        self.session, self.generation, self.reading = "", 0, None
        self._box.send(Hello(PROTOCOL, self._name, robot, artefact, chunk, history))
        welcome = self._answer(Welcome, self._timeout_s)
        self.session, self._lockstep = welcome.session, welcome.lockstep
        return welcome

    def begin(
        self,
        seed: int | None = None,
        labels: dict[str, str] | None = None,
        timeout_s: float = _RESET_S,
    ) -> Reading:
        """Reset the robot, open an episode, and return its first reading."""
        self.reading = None
        self._box.send(Begin(self.session, seed, labels or {}))
        return self._answer(Reading, timeout_s)

    def command(
        self,
        action: Array,
        *,
        reading: Reading | None = None,
        ttl_s: float = _TTL_S,
        intervention: bool = False,
    ) -> Command:
        """Return the command that answers `reading` (the newest) with `action` (A,)."""
        answered = reading or self.reading
        if answered is None:
            raise LinkError("expected an open episode: call begin first")
        if action.dtype != _FLOAT32:
            action = float32(action)
        return Command(
            self.session,
            answered.generation,
            answered.seq,
            time.monotonic(),
            ttl_s,
            intervention,
            Tensor("<f4", action.shape, action.tobytes()),
        )

    def send(self, command: Command) -> None:
        """Send `command`; what became of it is in the next reading."""
        self._box.send(command)

    def receive(self, timeout_s: float | None = None) -> Reading:
        """Return the newest reading that came since the last one.

        Raises:
            LeftError: the node ended the episode.
            LinkError: none came in time; one may still come.
        """
        reading = self._next(self._timeout_s if timeout_s is None else timeout_s)
        if reading is None:
            raise self._box.silence()
        return self._newest(reading)

    def step(self, action: Array, *, intervention: bool = False) -> Reading:
        """Send `action` (A,) in answer to the newest reading; return the next one."""
        self._box.send(self.command(action, intervention=intervention))
        reading = self._next(self._timeout_s)
        if reading is None:
            self._box.stale = True
            raise self._box.silence()
        return reading if self._lockstep else self._newest(reading)

    def end(self, *, terminated: bool = False, reason: str = "") -> Ended:
        """Close the episode; the robot holds.

        Raises:
            LeftError: the node had ended it before.
        """
        self._box.send(End(self.session, self.generation, terminated, reason))
        ended = self._answer(Ended, self._timeout_s)
        self.generation, self.reading = ended.generation, None
        return ended

    def close(self) -> None:
        """Give the lease back, and disconnect. Idempotent."""
        self._box.close(Bye(self.session) if self.session else None)

    def __enter__(self) -> Client:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    def _answer(self, kind: type[_M], timeout_s: float) -> _M:
        """Return the answer to a request: every one has exactly one."""
        deadline = time.monotonic() + timeout_s
        notice: Notice | None = None
        while (left_s := deadline - time.monotonic()) > 0:
            message = self._box.wait(left_s)
            if isinstance(message, Notice):
                notice = message
                self.generation = max(self.generation, notice.generation)
            elif isinstance(message, Refusal):
                ended = notice is not None and kind is Ended
                raise LeftError(notice) if ended and notice else RefusedError(message)
            elif isinstance(message, Reading) and not self._is_news(message):
                continue
            elif isinstance(message, Reading):
                self._follow(message)
            if isinstance(message, kind):
                return message
        self._box.stale = True
        raise self._box.silence()

    def _next(self, timeout_s: float) -> Reading | None:
        """Return the next reading of this episode, or None when time is up."""
        message = self._box.receive(timeout_s)
        if type(message) is Reading and self._is_news(message):
            return self._follow(message)
        deadline = time.monotonic() + timeout_s
        while True:
            if message is not None and (reading := self._heed(message)) is not None:
                return reading
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return None
            message = self._box.wait(left_s)

    def _newest(self, reading: Reading) -> Reading:
        """Return the last of `reading` and those that came after it."""
        self.passed.clear()
        while (more := self._box.poll()) is not None:
            newer = self._heed(more)
            if newer is not None:
                self.passed.append(reading)
                reading = newer
        return reading

    def _follow(self, reading: Reading) -> Reading:
        self.reading, self.generation = reading, reading.generation
        return reading

    def _heed(self, message: Control) -> Reading | None:
        """Return `message` if it is a reading that is news; raise if it is bad news."""
        if isinstance(message, Reading):
            return self._follow(message) if self._is_news(message) else None
        if isinstance(message, Refusal):
            self._box.stale = True
            raise RefusedError(message)
        if isinstance(message, Notice) and message.generation > self.generation:
            self.reading, self.generation = None, message.generation
            raise LeftError(message)
        return None

    def _is_news(self, reading: Reading) -> bool:
        last = self.reading
        if reading.session != self.session:
            return False
        if last is None:
            return reading.generation > self.generation
        return reading.generation == last.generation and reading.seq > last.seq


def arrays(tensors: dict[str, Tensor]) -> dict[str, Array]:
    """Return the arrays of a reading or step, as read-only views."""
    found = {}
    for name, tensor in tensors.items():
        if tensor.dtype != "<f4":
            raise LinkError(f"expected float32 from a node, got {tensor.dtype}")
        array = np.frombuffer(tensor.data, _FLOAT32)
        flat = array.shape == tensor.shape
        found[name] = array if flat else array.reshape(tensor.shape)
    return found
