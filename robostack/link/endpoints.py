"""Where a node's three sockets are, all derived from the one endpoint people type.

tcp://HOST:PORT   control at PORT, watch at PORT + 1, stop at PORT + 2
ipc://PATH        control at PATH, watch at PATH.watch, stop at PATH.stop
"""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

from robostack.link.errors import LinkError

DEFAULT = "tcp://127.0.0.1:5555"
_LONGEST_PATH = 100  # a Unix socket's path has 108 bytes, ".watch" and NUL included


class Endpoints(NamedTuple):
    """The addresses of a node's sockets."""

    control: str
    watch: str
    stop: str


def parse(endpoint: str) -> Endpoints:
    """Return the three addresses that belong to `endpoint`.

    Raises:
        LinkError: it is not of a form given above.
    """
    scheme, _, rest = endpoint.partition("://")
    if scheme == "ipc" and 0 < len(rest.encode()) <= _LONGEST_PATH:
        return Endpoints(endpoint, f"{endpoint}.watch", f"{endpoint}.stop")
    host, colon, digits = rest.rpartition(":")
    if scheme == "tcp" and host and colon and digits.isascii() and digits.isdecimal():
        port = int(digits)
        if 0 < port <= 65533:
            tcp = (f"tcp://{host}:{port + i}" for i in range(3))
            return Endpoints(*tcp)
    raise LinkError(
        f"expected tcp://HOST:PORT (port 1 to 65533) or ipc://PATH (at most "
        f"{_LONGEST_PATH} bytes), got {endpoint!r}"
    )


def is_local(endpoint: str) -> bool:
    """Return whether only this computer can reach `endpoint`."""
    scheme, _, rest = endpoint.partition("://")
    if scheme == "ipc":
        return True
    host = rest.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name: only the one that is loopback by definition
        return host == "localhost"
