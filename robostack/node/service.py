"""Answers the control messages of clients: one lease, one episode at a time."""

from __future__ import annotations

import secrets
import time
from typing import NamedTuple, Protocol

from robostack.clock import Clock
from robostack.limits import Limits
from robostack.messages import (
    PROTOCOL,
    UNREADABLE,
    Begin,
    Bye,
    Command,
    Control,
    End,
    Ended,
    Hello,
    Message,
    Opened,
    Refusal,
    Welcome,
    decode_control,
    encode,
)
from robostack.node.journal import Journal
from robostack.node.pilot import Pilot
from robostack.node.supervisor import Supervisor
from robostack.signing import SigningError, Trust
from robostack.spec import RobotSpec, difference

_PROBE = b""  # asks the sockets, not the client, whether the client is still there


class Wire(Protocol):
    """Where answers go."""

    def send(self, identity: bytes, frame: bytes) -> bool:
        """Send without waiting; return whether the client is still there."""


class Face(NamedTuple):
    """What a node tells a client about itself."""

    address: str
    robot: RobotSpec
    limits: Limits
    lockstep: bool
    lease_s: float  # silence after which another client may have the lease
    trust: Trust | None = None  # whose bundles may be run here; None: any


class Lease(NamedTuple):
    """Who may command."""

    identity: bytes
    session: str
    client: str
    artefact: str  # content hash of its bundle, without the signature
    policy: dict[str, str]  # what its handshake says of it, recorded as labels


class Service:
    """What the control thread does with each message, and once per period."""

    def __init__(
        self,
        face: Face,
        wire: Wire,
        pilot: Pilot,
        supervisor: Supervisor,
        journal: Journal,
        clock: Clock,
    ) -> None:
        self._face = face
        self._wire = wire
        self._pilot = pilot
        self._supervisor = supervisor
        self._machine = supervisor.machine
        self._journal = journal
        self._clock = clock
        self._lease: Lease | None = None
        self._heard_s = 0.0  # computer's clock, when the holder last spoke
        self.began = False  # an episode was opened since somebody last looked

    def handle(self, identity: bytes, frame: bytes) -> bool:
        """Act on one message; return whether an action was applied."""
        try:
            message = decode_control(frame)
        except UNREADABLE:
            self._journal.refuse("malformed", "not a message of this protocol")
            return False
        lease = self._lease
        if lease is None or identity != lease.identity:
            self._stranger(identity, message)
            return False
        self._heard_s = time.monotonic()
        if isinstance(message, Command) and message.session == lease.session:
            return self._pilot.admit(message)
        self._request(lease, message)
        return False

    def observe(self) -> bool:
        """Begin the next period of the open episode: read, send, then publish.

        Returns:
            Whether a reading was sent.
        """
        reading = self._pilot.observe()
        if reading is None or self._lease is None:
            self.notify()
            return False
        self._wire.send(self._lease.identity, encode(reading))
        self._pilot.file()
        return True

    def notify(self) -> None:
        """Tell the client if the node left ACTIVE by itself."""
        notice = self._supervisor.notice
        if notice is None:
            return
        self._supervisor.notice = None
        if self._lease is not None:
            self._wire.send(self._lease.identity, encode(notice))

    def probe(self) -> None:
        """End the episode of a client that is gone."""
        lease = self._lease
        if lease is not None and not self._wire.send(lease.identity, _PROBE):
            self._supervisor.leave("hold", f"client {lease.client!r} went away")
            self._lease = self._supervisor.notice = None

    def _request(self, lease: Lease, message: Control) -> None:
        """Act on what the holder of the lease wants, other than to move."""
        if isinstance(message, Hello):
            self._hello(lease.identity, message)
        elif not isinstance(message, Command | Begin | End | Bye):
            self._journal.refuse("malformed", "a message that only nodes send")
        elif message.session != lease.session:
            self._refuse_stranger(lease.identity)
        elif isinstance(message, Begin):
            self._begin(lease, message)
        elif isinstance(message, End):
            self._end(lease, message)
        else:
            self._supervisor.leave("hold", "the client said bye", asked=True)
            self._lease = None

    def _stranger(self, identity: bytes, message: Control) -> None:
        """Act on a message of a client without the lease."""
        if isinstance(message, Hello):
            self._hello(identity, message)
        elif isinstance(message, Command | Begin | End | Bye):
            self._refuse_stranger(identity)
        else:
            self._journal.refuse("malformed", "a message that only nodes send")

    def _hello(self, identity: bytes, hello: Hello) -> None:
        refusal = self._objection(identity, hello)
        if refusal is not None:
            self._journal.refuse(refusal.code, refusal.sentence)
            self._answer(identity, refusal)
            return
        self._supervisor.leave("hold", "another hello", asked=True)
        session = secrets.token_hex(8)
        sha256 = hello.artefact.partition(":")[0]
        self._lease = Lease(
            identity, session, hello.client, sha256, _about_policy(hello)
        )
        self._heard_s = time.monotonic()
        welcome = Welcome(
            session,
            self._face.robot,
            self._face.limits,
            self._face.lockstep,
            self._face.address,
            self._machine.state,
        )
        self._answer(identity, welcome)

    def _objection(self, identity: bytes, hello: Hello) -> Refusal | None:
        if hello.protocol != PROTOCOL:
            sentence = (
                f"expected protocol {PROTOCOL}, got {hello.protocol}: install the same "
                f"version of robostack on both sides"
            )
            return Refusal("protocol", sentence, ())
        if (sentence := _distrusted(self._face.trust, hello.artefact)) != "":
            return Refusal("signature", sentence, ())
        robot = self._face.robot
        if hello.robot is not None and hello.robot != robot:
            differences = tuple(difference(hello.robot, robot))
            sentence = (
                f"expected a policy for {robot.name} as this node serves it; 'here' is "
                f"the policy, 'there' the node:"
            )
            return Refusal("spec", sentence, differences)
        lease = self._lease
        if lease is None or identity == lease.identity:
            return None
        silence_s = time.monotonic() - self._heard_s
        present = self._wire.send(lease.identity, _PROBE)
        if present and silence_s <= self._face.lease_s:
            sentence = (
                f"client {lease.client!r} holds the lease, and was last heard "
                f"{silence_s:.1f} s ago: wait for it, or stop it"
            )
            return Refusal("lease", sentence, ())
        self._supervisor.leave("hold", f"client {lease.client!r} fell silent")
        self.notify()
        return None

    def _refuse_stranger(self, identity: bytes) -> None:
        self._journal.refuse("session", "from a client without the lease")
        sentence = (
            "expected the session of the lease, got another: the node was restarted, "
            "or the lease went to another client; say hello again"
        )
        self._answer(identity, Refusal("session", sentence, ()))

    def _begin(self, lease: Lease, begin: Begin) -> None:
        self._supervisor.notice = None  # about an episode that the client left behind
        if self._machine.state == "active":
            self._answer(
                lease.identity,
                Refusal("state", "an episode is open: end it before the next", ()),
            )
            return
        home = not self._machine.latched and self._pilot.begin(
            lease.session, begin.seed
        )
        if not (home and self._open(lease, begin)):
            self._answer(lease.identity, self._not_ready())

    def _open(self, lease: Lease, begin: Begin) -> bool:
        if not self._supervisor.activate():
            return False
        self._journal.open(
            Opened(
                self._machine.generation,
                self._clock.now(),
                time.time_ns(),
                self._face.address,
                self._face.robot,
                lease.client,
                lease.artefact,
                begin.seed,
                lease.policy | begin.labels | self._pilot.facts(),
            )
        )
        self._journal.state(self._machine.state, self._machine.cause)
        self.began = True
        return self.observe()

    def _not_ready(self) -> Refusal:
        self._supervisor.notice = None
        state = self._machine.state
        cause = self._pilot.objection or self._machine.cause
        cure = "; clear it at the node" if self._machine.latched else ""
        return Refusal("state", f"the node is in {state}: {cause}{cure}", ())

    def _end(self, lease: Lease, end: End) -> None:
        current = end.generation == self._machine.generation
        left = current and self._supervisor.leave(
            "hold", end.reason, terminated=end.terminated, asked=True
        )
        if not left:
            sentence = f"no episode is open; the node is in {self._machine.state}"
            self._answer(lease.identity, Refusal("state", sentence, ()))
            return
        counts = self._journal.counts
        self._answer(
            lease.identity,
            Ended(
                self._machine.generation,
                counts.steps,
                counts.overruns,
                counts.clamps,
                dict(counts.refused),
            ),
        )

    def _answer(self, identity: bytes, message: Message) -> None:
        self._wire.send(identity, encode(message))


def _distrusted(trust: Trust | None, artefact: str) -> str:
    """Return why a node with `trust` runs no such bundle, or an empty string."""
    if trust is None:
        return ""
    sha256, _, signature = artefact.partition(":")
    try:
        trust.check(sha256, signature)
    except SigningError as error:
        return str(error)
    return ""


def _about_policy(hello: Hello) -> dict[str, str]:
    """Return labels for the handshake of a policy; {} for a client without one."""
    if not hello.artefact:
        return {}
    return {"chunk": str(hello.chunk), "history": str(hello.history)}
