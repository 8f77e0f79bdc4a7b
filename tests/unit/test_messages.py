import pickle

import msgspec
import numpy as np
import pytest

from robostack.limits import derive
from robostack.messages import (
    Begin,
    Bye,
    Closed,
    Command,
    End,
    Ended,
    Event,
    Frame,
    Hello,
    Notice,
    Opened,
    Reading,
    Refusal,
    Step,
    Stop,
    Stopped,
    Tensor,
    Welcome,
    decode_control,
    decode_stop,
    decode_watch,
    encode,
)

ONE = Tensor.pack(np.float32([1.0, 2.0]))
PIXELS = Tensor.pack(np.arange(12, dtype=np.uint8).reshape(2, 2, 3))


def control(robot):
    return [
        Hello(1, "me", robot, "abc", 8, 2),
        Hello(1, "me", None, "", 1, 1),
        Welcome("s", robot, derive(robot), True, "sim:x", "hold"),
        Refusal("spec", "no", ("a", "b")),
        Begin("s", 3, {"task": "lift"}),
        Reading("s", 1, 2, 3.0, {"a": ONE}, {"t": ONE}, ONE, True),
        Command("s", 1, 2, 3.0, 0.1, False, ONE),
        End("s", 1, True, "done"),
        Ended(2, 10, 0, 1, {"stale": 2}),
        Notice(2, "fault", "why"),
        Bye("s"),
    ]


def watch(robot):
    return [
        Opened(1, 2.0, 3, "sim:x", robot, "me", "", None, {}),
        Step(1, 0, 2.0, {"a": ONE}, {}, None, None, (), 0.0, False, {}),
        Step(1, 1, 2.0, {"a": ONE}, {}, ONE, ONE, ("hip",), 0.01, True, {"a": 0.02}),
        Frame(1, 1, 2.0, "top", PIXELS),
        Event(1, 2.0, "state", "hold"),
        Closed(1, 2.0, False, "end", 10, 0, 0, {}),
    ]


def test_control_messages_survive_the_wire(robot):
    for message in control(robot):
        assert decode_control(encode(message)) == message


def test_watch_messages_survive_the_wire(robot):
    for message in watch(robot):
        assert decode_watch(encode(message)) == message


def test_stop_messages_survive_the_wire():
    for message in (Stop("me"), Stopped("estop")):
        assert decode_stop(encode(message)) == message


def test_tensor_unpacks_what_was_packed_aligned_and_read_only():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    frame = msgspec.msgpack.encode(Tensor.pack(array))
    back = msgspec.msgpack.decode(frame, type=Tensor).unpack()
    assert np.array_equal(back, array)
    assert back.flags.aligned
    assert not back.flags.writeable


def test_tensor_packs_in_c_order():
    array = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    assert np.array_equal(Tensor.pack(array).unpack(), array)


def test_tensor_refuses_bytes_that_are_too_few():
    with pytest.raises(ValueError, match="reshape"):
        Tensor("<f4", (3,), b"1234").unpack()


@pytest.mark.parametrize("dtype", ["<i8", "|O", "<f2", ">f4", "|V8"])
def test_only_three_types_travel(dtype):
    frame = msgspec.msgpack.encode([dtype, [1], b"12345678"])
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(frame, type=Tensor)


def test_every_field_is_required(robot):
    for message in control(robot):
        fields = msgspec.msgpack.decode(encode(message))
        for name in fields.keys() - {"type"}:
            less = {k: v for k, v in fields.items() if k != name}
            with pytest.raises(msgspec.ValidationError):
                decode_control(msgspec.msgpack.encode(less))


def test_unknown_fields_are_refused():
    fields = {"type": "Bye", "session": "s", "also": 1}
    with pytest.raises(msgspec.ValidationError):
        decode_control(msgspec.msgpack.encode(fields))


def test_a_message_of_another_socket_is_refused(robot):
    for message in watch(robot):
        with pytest.raises(msgspec.ValidationError):
            decode_control(encode(message))
    with pytest.raises(msgspec.ValidationError):
        decode_control(encode(Stop("me")))


@pytest.mark.parametrize(
    "frame", [b"", b"\xc1", b"x" * 100, pickle.dumps({"a": 1}), b"\x81" * 5000]
)
@pytest.mark.parametrize("decode", [decode_control, decode_watch, decode_stop])
def test_garbage_is_refused(decode, frame):
    with pytest.raises((msgspec.MsgspecError, RecursionError)):
        decode(frame)
