"""Wire format between a node and its clients: one msgpack frame per message.

    control   client DEALER <-> node ROUTER
              Hello -> Welcome | Refusal      once: protocol and spec, by name
              Begin -> Reading | Refusal      reset the robot, open an episode, ACTIVE
              Command -> Reading              one action for the reading it answers
              End -> Ended | Refusal          close the episode, HOLD
              Bye                             give the lease back
              Notice                          the node left ACTIVE by itself, and why
    watch     node PUB -> any number of watchers and recorders
              Opened, then Step, Frame, Event ..., then Closed, for every episode
    stop      anybody REQ <-> node REP, on a thread of its own, no lease needed
              Stop -> Stopped

Every field is required, since a default would be sent to a motor as if somebody had
meant it. A generation counts the times the node entered or left ACTIVE: a command of
another generation than the present one is dropped and counted. Stamps are of the node's
own clock, so that no clocks are ever compared.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from robostack.limits import Limits
from robostack.spec import RobotSpec

PROTOCOL = 2  # raise on any change of the structs below
MAX_BYTES = 16 * 1024 * 1024  # sockets refuse longer frames before allocating

State = Literal["disabled", "arming", "hold", "active", "safe", "fault", "estop"]


_DTYPES = {name: np.dtype(name) for name in ("<f4", "<f8", "|u1")}  # parsed once


class Tensor(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An array as raw little-endian bytes; never pickled.

    Decoding copies the bytes out of the frame, where they may lie at an odd address:
    numpy and ONNX Runtime want aligned arrays.
    """

    dtype: Literal["<f4", "<f8", "|u1"]
    shape: tuple[int, ...]
    data: bytes

    @classmethod
    def pack(cls, array: npt.NDArray[np.generic]) -> Tensor:
        """Copy `array` into a message field."""
        return cls(array.dtype.str, array.shape, array.tobytes())  # type: ignore[arg-type]

    def unpack(self) -> npt.NDArray[np.generic]:
        """View the bytes as a read-only array.

        Raises:
            ValueError: shape and bytes disagree.
        """
        array = np.frombuffer(self.data, _DTYPES[self.dtype])
        return array if array.shape == self.shape else array.reshape(self.shape)


class Message(
    msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True, gc=False
):
    """Base of all messages; the class name travels as the tag."""


class Hello(Message, frozen=True):
    """First words of a client that wants to command."""

    protocol: int
    client: str  # who it is, for people
    robot: RobotSpec | None  # what its policy was made for; None: whatever there is
    artefact: str  # content hash of the bundle it runs, or ""
    chunk: int  # actions per inference of its policy
    history: int  # readings that its policy sees at once


class Welcome(Message, frozen=True):
    """The lease is yours."""

    session: str
    robot: RobotSpec
    limits: Limits  # what the node enforces; no message changes it
    lockstep: bool  # the node advances when a command arrives; else in real time
    address: str  # what is served, such as sim:pendulum
    state: State


class Refusal(Message, frozen=True):
    """The node will not, and what would have to change."""

    code: str  # "spec", "protocol", "lease", "state", "session"
    sentence: str
    differences: tuple[str, ...]


class Begin(Message, frozen=True):
    """Reset the robot and open an episode."""

    session: str
    seed: int | None  # for worlds: fixes everything random
    labels: dict[str, str]  # recorded: task, policy, operator, ...


class Reading(Message, frozen=True):
    """What the robot sensed, and what became of the previous command."""

    session: str
    generation: int
    seq: int  # control periods since the episode was opened
    stamp_s: float  # node's clock, when the sensors were read
    arrays: dict[str, Tensor]
    truth: dict[str, Tensor]  # for referees, never for policies; empty on hardware
    applied: Tensor  # (A,) action in effect in the period before; at first, home
    clamped: bool  # the limiter changed the previous action


class Command(Message, frozen=True):
    """What a client wants, in answer to one reading."""

    session: str
    generation: int
    seq: int  # of the reading it answers
    sent_s: float  # sender's clock; for reports only
    ttl_s: float  # the node drops it when the reading it answers is older than this
    intervention: bool  # a person, not the policy, chose it
    action: Tensor  # (A,)


class End(Message, frozen=True):
    """Close the episode."""

    session: str
    generation: int
    terminated: bool  # the task ended; else it was truncated
    reason: str


class Ended(Message, frozen=True):
    """The episode is closed and the robot holds."""

    generation: int
    steps: int
    overruns: int
    clamps: int
    refused: dict[str, int]  # commands not applied, by cause


class Notice(Message, frozen=True):
    """The node left ACTIVE by itself."""

    generation: int
    state: State
    cause: str


class Bye(Message, frozen=True):
    """Give the lease back."""

    session: str


class Stop(Message, frozen=True):
    """Stop now: the node latches ESTOP."""

    who: str


class Stopped(Message, frozen=True):
    """The robot is in its safe state."""

    state: State


class Opened(Message, frozen=True):
    """An episode begins."""

    generation: int
    stamp_s: float
    wall_ns: int  # wall clock, for people
    address: str
    robot: RobotSpec
    client: str
    artefact: str
    seed: int | None
    labels: dict[str, str]


class Step(Message, frozen=True):
    """One control period: a reading, and the action applied in answer to it.

    The last `Step` of an episode lacks an action: it is what was sensed at its end. In
    a period without a command (real time only) `requested` is None, and `applied` is
    the action that stayed in effect, or a target on the way to rest within limits.
    """

    generation: int
    seq: int
    stamp_s: float
    arrays: dict[str, Tensor]
    truth: dict[str, Tensor]
    requested: Tensor | None  # (A,) as the client sent it; None: no command was applied
    applied: Tensor | None  # (A,) in effect in this period, as the robot took it
    clamped: tuple[str, ...]  # names of the action elements the limiter changed
    age_s: float  # of the command when applied; 0 without one
    intervention: bool
    ages_s: dict[str, float]  # of sensors that a thread of the driver fills


class Frame(Message, frozen=True):
    """One camera frame."""

    generation: int
    seq: int
    stamp_s: float
    camera: str
    pixels: Tensor  # (H, W, 3) uint8


class Event(Message, frozen=True):
    """Something worth a line in the log: a change of state, a refusal, a drop."""

    generation: int
    stamp_s: float
    kind: str
    text: str


class Closed(Message, frozen=True):
    """An episode ended; with the node's counts."""

    generation: int
    stamp_s: float
    terminated: bool
    reason: str
    steps: int
    overruns: int
    clamps: int
    refused: dict[str, int]


Control = (
    Hello | Welcome | Refusal | Begin | Reading | Command | End | Ended | Notice | Bye
)
Watch = Opened | Step | Frame | Event | Closed

# The bound methods themselves: a function around each would cost as much as its work.
# Decoders raise one of UNREADABLE for whatever is not one of their messages.
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
encode: Callable[[Message], bytes] = msgspec.msgpack.Encoder().encode
decode_control: Callable[[bytes], Control] = msgspec.msgpack.Decoder(Control).decode
decode_watch: Callable[[bytes], Watch] = msgspec.msgpack.Decoder(Watch).decode
decode_stop: Callable[[bytes], Stop | Stopped]
decode_stop = msgspec.msgpack.Decoder(Stop | Stopped).decode
