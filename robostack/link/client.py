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

import secrets
import time
from types import TracebackType
from typing import TypeVar

import msgspec
import numpy as np
import zmq

from robostack.link import endpoints, sockets
from robostack.link.errors import LeftError, LinkError, RefusedError
from robostack.link.keys import ClientKeys
from robostack.link.monitor import Monitor
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
    decode_control,
    encode,
)
from robostack.spec import Array, RobotSpec, float32

_RESET_S = 60.0  # a real robot may take its time to go home
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
        self.reading: Reading | None = None  # the newest
        self._address = endpoints.parse(endpoint).control
        self._name = name
        self._lockstep = False
        self._timeout_s = timeout_s
        self._keys = keys
        self._identity = secrets.token_bytes(16)
        self._context: sockets.Context = zmq.Context()
        self._open()

    def hello(self, robot: RobotSpec | None = None, artefact: str = "") -> Welcome:
        """Take the lease; `robot` is what the policy was made for, None for any.

        Raises:
            RefusedError: another protocol, robot, or holder of the lease.
        """
        if self._context.closed:
            raise LinkError("expected an open client, and it was closed")
        if self._stale:
            self._shut()
            self._open()
        self.session, self.generation, self.reading = "", 0, None
        self._send(Hello(PROTOCOL, self._name, robot, artefact))
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
        self._send(Begin(self.session, seed, labels or {}))
        return self._answer(Reading, timeout_s)

    def command(
        self,
        action: Array,
        *,
        reading: Reading | None = None,
        ttl_s: float = 3600.0,
        intervention: bool = False,
    ) -> Command:
        """Return the command that answers `reading` (the newest) with `action` (A,)."""
        answered = reading or self.reading
        if answered is None:
            raise LinkError("expected an open episode: call begin first")
        return Command(
            self.session,
            answered.generation,
            answered.seq,
            time.monotonic(),
            ttl_s,
            intervention,
            Tensor.pack(float32(action)),
        )

    def send(self, command: Command) -> None:
        """Send `command`; what became of it is in the next reading."""
        self._send(command)

    def receive(self, timeout_s: float | None = None) -> Reading:
        """Return the newest reading that came since the last one.

        Raises:
            LeftError: the node ended the episode.
            LinkError: none came in time; one may still come.
        """
        reading = self._next(self._timeout_s if timeout_s is None else timeout_s)
        if reading is None:
            raise self._silence()
        return self._newest(reading)

    def step(self, action: Array, *, intervention: bool = False) -> Reading:
        """Send `action` (A,) in answer to the newest reading; return the next one."""
        self._send(self.command(action, intervention=intervention))
        reading = self._next(self._timeout_s)
        if reading is None:
            self._stale = True
            raise self._silence()
        return reading if self._lockstep else self._newest(reading)

    def end(self, *, terminated: bool = False, reason: str = "") -> Ended:
        """Close the episode; the robot holds.

        Raises:
            LeftError: the node had ended it before.
        """
        self._send(End(self.session, self.generation, terminated, reason))
        ended = self._answer(Ended, self._timeout_s)
        self.generation, self.reading = ended.generation, None
        return ended

    def close(self) -> None:
        """Give the lease back, and disconnect. Idempotent."""
        if self._context.closed:
            return
        if self.session:
            self._socket.setsockopt(zmq.LINGER, 100)  # let Bye out
            self._try_send(Bye(self.session))
        self._shut(linger_ms=100 if self.session else 0)
        self._context.term()

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

    def _open(self) -> None:
        self._socket = sockets.make(self._context, zmq.DEALER)
        self._socket.setsockopt(zmq.ROUTING_ID, self._identity)
        self._monitor = Monitor(self._socket)
        self._wait_ms = -1
        self._stale = False  # an answer may still come that nobody waits for
        sockets.connect(self._socket, self._address, self._keys)

    def _shut(self, linger_ms: int = 0) -> None:
        self._monitor.close()
        self._socket.close(linger=linger_ms)

    def _send(self, message: Message) -> None:
        if self._context.closed:
            raise LinkError("expected an open client, and it was closed")
        if self._stale:
            raise LinkError(
                "expected a new hello: an earlier call failed, and its answer may "
                "still be under way"
            )
        if not self._try_send(message):
            raise self._silence()

    def _try_send(self, message: Message) -> bool:
        try:
            self._socket.send(encode(message), zmq.DONTWAIT)
        except zmq.Again:
            return False
        return True

    def _answer(self, kind: type[_M], timeout_s: float) -> _M:
        """Return the answer to a request: every one has exactly one."""
        deadline = time.monotonic() + timeout_s
        notice: Notice | None = None
        while (left_s := deadline - time.monotonic()) > 0:
            message = self._receive(left_s)
            if isinstance(message, Reading) and not self._is_news(message):
                continue
            if isinstance(message, Reading):
                self.reading, self.generation = message, message.generation
            if isinstance(message, kind):
                return message
            if isinstance(message, Notice):
                notice = message
                self.generation = max(self.generation, notice.generation)
            if isinstance(message, Refusal):
                if notice is not None and kind is Ended:
                    raise LeftError(notice)
                raise RefusedError(message)
        self._stale = True
        raise self._silence()

    def _next(self, timeout_s: float) -> Reading | None:
        """Return the next reading of this episode, or None when time is up."""
        deadline = time.monotonic() + timeout_s
        left_s = timeout_s
        while left_s > 0:
            message = self._receive(left_s)
            if message is not None and (reading := self._heed(message)) is not None:
                return reading
            left_s = deadline - time.monotonic()
        return None

    def _newest(self, reading: Reading) -> Reading:
        """Return the last of `reading` and those that came after it."""
        while (more := self._decode(zmq.DONTWAIT)) is not None:
            reading = self._heed(more) or reading
        return reading

    def _heed(self, message: Control) -> Reading | None:
        """Return `message` if it is a reading that is news; raise if it is bad news."""
        if isinstance(message, Reading):
            if not self._is_news(message):
                return None
            self.reading, self.generation = message, message.generation
            return message
        if isinstance(message, Refusal):
            self._stale = True
            raise RefusedError(message)
        if isinstance(message, Notice) and message.generation > self.generation:
            self.reading, self.generation = None, message.generation
            raise LeftError(message)
        return None

    def _is_news(self, reading: Reading) -> bool:
        if reading.session != self.session:
            return False
        if self.reading is None:
            return reading.generation > self.generation
        return reading.generation == self.generation and reading.seq > self.reading.seq

    def _receive(self, timeout_s: float) -> Control | None:
        wait_ms = max(1, int(timeout_s * 1000))
        if wait_ms != self._wait_ms:
            self._socket.setsockopt(zmq.RCVTIMEO, wait_ms)
            self._wait_ms = wait_ms
        return self._decode(0)

    def _decode(self, flags: int) -> Control | None:
        try:
            frame = self._socket.recv(flags)
        except zmq.Again:
            return None
        if not frame:  # the node asks the sockets whether we are still here
            return None
        try:
            return decode_control(frame)
        except msgspec.MsgspecError as error:
            self._stale = True
            raise LinkError(
                f"the node at {self.endpoint} sent what is no message of protocol "
                f"{PROTOCOL}: {error}"
            ) from error

    def _silence(self) -> LinkError:
        return LinkError(self._monitor.explain(self.endpoint))


def arrays(tensors: dict[str, Tensor]) -> dict[str, Array]:
    """Return the arrays of a reading or step."""
    return {name: _array(tensor) for name, tensor in tensors.items()}


def _array(tensor: Tensor) -> Array:
    array = tensor.unpack()
    if array.dtype != np.float32:
        raise LinkError(f"expected float32 arrays from a node, got {array.dtype}")
    return array  # type: ignore[return-value]
