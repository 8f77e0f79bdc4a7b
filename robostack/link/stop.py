"""The stop path, seen from outside: no lease, no handshake, a socket of its own."""

from __future__ import annotations

import zmq

from robostack.link import endpoints, sockets
from robostack.link.errors import LinkError
from robostack.link.keys import ClientKeys
from robostack.link.monitor import Monitor
from robostack.messages import UNREADABLE, Stop, Stopped, decode_stop, encode


def request_stop(
    endpoint: str,
    *,
    who: str,
    timeout_s: float = 2.0,
    keys: ClientKeys | None = None,
) -> Stopped:
    """Latch ESTOP at the node; needs no lease and no handshake.

    Raises:
        LinkError: no confirmation came. Use the robot's own switch.
    """
    context: sockets.Context = zmq.Context()
    socket = sockets.make(context, zmq.REQ)
    monitor = Monitor(socket)
    try:
        sockets.connect(socket, endpoints.parse(endpoint).stop, keys)
        socket.send(encode(Stop(who)), zmq.DONTWAIT)
        if not socket.poll(int(timeout_s * 1000)):
            raise LinkError(
                f"NOT STOPPED, use the robot's own switch: {monitor.explain(endpoint)}"
            )
        answer = decode_stop(socket.recv())
    except (zmq.ZMQError, *UNREADABLE) as error:
        raise LinkError(f"NOT STOPPED, use the robot's own switch: {error}") from error
    finally:
        monitor.close()
        socket.close(linger=0)
        context.term()
    if not isinstance(answer, Stopped):
        raise LinkError(f"NOT STOPPED, use the robot's own switch: got {answer}")
    return answer
