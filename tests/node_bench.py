"""A node on the bench: no sockets, no threads, its time moved by hand."""

from __future__ import annotations

import numpy as np
from robot_examples import LockstepFake

from robostack.limits import derive
from robostack.messages import (
    PROTOCOL,
    Begin,
    Command,
    End,
    Hello,
    Reading,
    Tensor,
    Welcome,
    decode_control,
    decode_watch,
    encode,
)
from robostack.node.journal import Journal
from robostack.node.pilot import Pilot
from robostack.node.service import Face, Service
from robostack.node.supervisor import Supervisor


class Watcher:
    """Collects what is published."""

    def __init__(self) -> None:
        self.messages = []

    def send(self, message):
        self.messages.append(decode_watch(encode(message)))

    def watched(self):
        return True

    def of(self, kind):
        return [m for m in self.messages if isinstance(m, kind)]


class Wire:
    """Collects answers by client; a client in `gone` has disconnected."""

    def __init__(self) -> None:
        self.answers = {}
        self.gone = set()

    def send(self, identity, frame):
        if identity in self.gone:
            return False
        if frame:
            self.answers.setdefault(identity, []).append(decode_control(frame))
        return True


class Bench:
    """A connected node and its clients."""

    def __init__(self, robot=None, limits=None, *, lockstep=True) -> None:
        self.robot = robot or LockstepFake()
        self.clock = self.robot.clock
        self.limits = limits or derive(self.robot.spec)
        self.watcher, self.wire = Watcher(), Wire()
        self.journal = Journal(self.watcher, self.clock)
        self.supervisor = Supervisor(self.robot, self.clock, self.limits, self.journal)
        self.machine = self.supervisor.machine
        self.pilot = Pilot(
            self.robot,
            self.clock,
            self.limits,
            self.supervisor,
            self.journal,
            lockstep=lockstep,
        )
        face = Face("test:fake", self.robot.spec, self.limits, lockstep, 10.0)
        self.service = Service(
            face, self.wire, self.pilot, self.supervisor, self.journal, self.clock
        )
        self.supervisor.connect()
        self.session = ""

    def say(self, message, client=b"me"):
        """Deliver `message`; return the last answer to `client`, and if it moved."""
        frame = message if isinstance(message, bytes) else encode(message)
        before = len(self.wire.answers.get(client, []))
        self.moved = self.service.handle(client, frame)
        answers = self.wire.answers.get(client, [])
        return answers[-1] if len(answers) > before else None

    def hello(self, client=b"me", robot=None, protocol=PROTOCOL, name="tester"):
        answer = self.say(Hello(protocol, name, robot, "", 1, 1), client)
        if isinstance(answer, Welcome):
            self.session = answer.session
        return answer

    def begin(self, seed=0):
        """Open an episode; return its first reading, or the refusal."""
        if not self.session:
            self.hello()
        self.reading = self.say(Begin(self.session, seed, {"task": "test"}))
        return self.reading

    def command(self, action=(0.0, 0.0), **fields):
        """Return a good command for the newest reading, with `fields` changed."""
        if not isinstance(action, Tensor):
            action = Tensor.pack(np.float32(action))
        good = {
            "session": self.session,
            "generation": self.reading.generation,
            "seq": self.reading.seq,
            "sent_s": 0.0,
            "ttl_s": 1.0,
            "intervention": False,
            "action": action,
        }
        return Command(**(good | fields))

    def tick(self):
        """End the period; return the next reading, None if the node left ACTIVE."""
        self.pilot.advance()
        if not self.service.observe():
            return None
        self.reading = self.wire.answers[b"me"][-1]
        assert isinstance(self.reading, Reading)
        return self.reading

    def step(self, action=(0.0, 0.0), **fields):
        """Send a command and end the period; return the next reading."""
        self.say(self.command(action, **fields))
        return self.tick()

    def end(self, *, terminated=False, reason="enough"):
        return self.say(End(self.session, self.machine.generation, terminated, reason))
