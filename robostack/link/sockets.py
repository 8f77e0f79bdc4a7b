"""ZMQ sockets with the options that every one of ours has, and no others.

Bounded messages, no lingering, TCP keep-alives that notice a dead peer, CURVE where
keys are given, and a refusal to listen beyond this computer without them.

No ZMQ heartbeats: one that goes unanswered while a receive queue is full aborts the
process (libzmq issue 3937), which a spamming client could bring about.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket as unix
from collections.abc import Iterator

import zmq
from zmq.auth.thread import ThreadAuthenticator

from robostack.link.endpoints import is_local
from robostack.link.errors import LinkError
from robostack.link.keys import ClientKeys, NodeKeys
from robostack.messages import MAX_BYTES

log = logging.getLogger(__name__)

Socket = zmq.Socket[bytes]
Context = zmq.Context[Socket]
_DOMAIN = b"robostack"
_HANDSHAKE_MS = 3000  # then whoever connected and said nothing is hung up on
_KEEPALIVE = {  # a peer that lost its power is gone after 5 s
    zmq.TCP_KEEPALIVE: 1,
    zmq.TCP_KEEPALIVE_IDLE: 2,
    zmq.TCP_KEEPALIVE_INTVL: 1,
    zmq.TCP_KEEPALIVE_CNT: 3,
}


def make(context: Context, kind: int, max_bytes: int = MAX_BYTES) -> Socket:
    """Return a socket with bounded messages that closes at once."""
    socket = context.socket(kind)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.MAXMSGSIZE, max_bytes)
    for option, value in _KEEPALIVE.items():
        socket.setsockopt(option, value)
    return socket


def bind(socket: Socket, endpoint: str, keys: NodeKeys | None) -> None:
    """Listen at `endpoint`; off this computer only with keys.

    Raises:
        LinkError: keys are missing, or somebody else listens there.
    """
    if keys is None and not is_local(endpoint):
        raise LinkError(
            f"expected keys to listen at {endpoint}, which other computers can reach: "
            f"give the node a folder of CURVE keys, or listen at tcp://127.0.0.1:PORT"
        )
    socket.setsockopt(zmq.HANDSHAKE_IVL, _HANDSHAKE_MS)
    socket.setsockopt(zmq.ZAP_DOMAIN, _DOMAIN)
    if keys is not None:
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.pair.public)
        socket.setsockopt(zmq.CURVE_SECRETKEY, keys.pair.secret)
    try:
        _refuse_second_owner(endpoint)
        with _owner_only():
            socket.bind(endpoint)
    except (zmq.ZMQError, OSError) as error:
        raise LinkError(f"expected to listen at {endpoint}: {error}") from error


@contextlib.contextmanager
def _owner_only() -> Iterator[None]:
    """Make files, as Unix sockets are, that only their owner may open."""
    before = os.umask(0o177)
    try:
        yield
    finally:
        os.umask(before)


def connect(socket: Socket, endpoint: str, keys: ClientKeys | None) -> None:
    """Connect to `endpoint`, now or whenever somebody listens there."""
    if keys is not None:
        socket.setsockopt(zmq.CURVE_SERVERKEY, keys.node)
        socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.pair.public)
        socket.setsockopt(zmq.CURVE_SECRETKEY, keys.pair.secret)
    socket.connect(endpoint)


@contextlib.contextmanager
def authenticated(context: Context, keys: NodeKeys | None) -> Iterator[None]:
    """Let in only the clients that `keys` lists, for as long as this lasts.

    Without keys everybody is let in, and yet asked for: a socket with a domain to ask
    in refuses ZMTP 1 and 2, which none of ours speaks. A precaution: an attacked node
    once ended in an assertion of libzmq 4.3.5 (zmtp_engine.cpp:422), near the code for
    those dialects. What led there is not known; it could not be brought about again.
    """
    authenticator = ThreadAuthenticator(context)
    authenticator.start()
    try:
        if keys is not None:
            provider = _List(keys)
            authenticator.configure_curve_callback(_DOMAIN.decode(), provider)
        yield
    finally:
        authenticator.stop()


class _List:
    """The allow-list, as pyzmq asks for it, from its own thread."""

    def __init__(self, keys: NodeKeys) -> None:
        self._keys = keys

    def callback(self, domain: str, key: bytes) -> bool:
        """Return whether the client with public `key` may connect."""
        del domain
        try:
            return self._keys.lets_in(key)
        except (LinkError, OSError) as error:  # nobody, until somebody mends it
            log.warning("nobody is let in: %s", error)
            return False


def _refuse_second_owner(endpoint: str) -> None:
    """Raise OSError if a Unix socket is served: ZMQ would take it over silently."""
    scheme, _, path = endpoint.partition("://")
    if scheme != "ipc":
        return
    with unix.socket(unix.AF_UNIX) as probe:
        if probe.connect_ex(path) == 0:
            raise OSError("somebody else listens there")
