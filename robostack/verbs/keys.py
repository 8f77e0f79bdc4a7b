"""`robostack keys`: who a node is, whom it lets in, and who releases its policies.

    robot$  robostack keys make node            prints what to type at the other
    laptop$ robostack keys join laptop 5f3a...  prints what to type at the robot
    robot$  robostack keys allow node 81c0... --name laptop

Secrets never travel: what is typed at the other computer are public keys.
"""

from __future__ import annotations

import shlex
import socket
from pathlib import Path

import msgspec
from rich.table import Table
from tyro.conf import Positional

from robostack import signing
from robostack.link import keys

from .verb import Verb, console


class Make(msgspec.Struct, frozen=True):
    """Make the keys of a node, in a folder that only you can read.

    With --signing, make instead the keys of somebody who releases bundles.
    """

    folder: Positional[Path]  # to make; nothing in it is overwritten
    signing: bool = False  # release.secret signs, release.public is for --trust


class Join(msgspec.Struct, frozen=True):
    """Make the keys of a client that talks to one node."""

    folder: Positional[Path]  # to make; nothing in it is overwritten
    node: Positional[str]  # the node's public key: 64 digits, or its self.public


class Allow(msgspec.Struct, frozen=True):
    """Let a client in, at once: a running node need not be restarted."""

    folder: Positional[Path]  # of the node's keys
    client: Positional[str]  # its public key: 64 digits, or its self.public
    name: str  # what to call it


class List(msgspec.Struct, frozen=True):
    """List the clients that a node lets in."""

    folder: Positional[Path]  # of the node's keys


class Revoke(msgspec.Struct, frozen=True):
    """Refuse a client from its next connect on.

    A connection that is open stays open: `robostack stop`, or a restart of the node,
    ends it.
    """

    folder: Positional[Path]  # of the node's keys
    name: Positional[str]  # of the client, as `list` shows it


def make(flags: Make) -> int:
    """Make keys of a node, or for signing."""
    if flags.signing:
        key_id = signing.make(flags.folder)
        console.print(f"made {flags.folder}/release.secret and .public, key {key_id}")
        _tell(
            f"robostack bundle sign POLICY.onnx --key {flags.folder}/release.secret",
            f"robostack serve ROBOT --trust {flags.folder}/release.public",
        )
        return 0
    pair = keys.make_node(flags.folder)
    console.print(f"made the keys of a node in {flags.folder}; nobody is let in yet")
    console.print("at each computer that may connect:")
    _tell(f"robostack keys join mykeys {keys.line(pair.public)}")
    return 0


def join(flags: Join) -> int:
    """Make keys of a client."""
    pair = keys.make_client(flags.folder, keys.public_key(flags.node))
    console.print(f"made the keys of a client in {flags.folder}; at the node:")
    name = shlex.quote(socket.gethostname() or "NAME")
    _tell(f"robostack keys allow NODE_FOLDER {keys.line(pair.public)} --name {name}")
    console.print(f"then give --keys {flags.folder} to run and stop")
    return 0


def allow(flags: Allow) -> int:
    """Add a client to the list."""
    keys.allow(flags.folder, flags.name, keys.public_key(flags.client))
    console.print(f"{flags.name} is let in from now on")
    return 0


def show(flags: List) -> int:
    """Print the list."""
    node = keys.load_node(flags.folder)
    table = Table("client", "public key")
    for name, public in keys.clients(flags.folder).items():
        table.add_row(name, keys.line(public))
    console.print(f"node: {keys.line(node.pair.public)}", soft_wrap=True)
    console.print(table if table.row_count else "nobody is let in")
    return 0


def revoke(flags: Revoke) -> int:
    """Take a client off the list."""
    keys.revoke(flags.folder, flags.name)
    console.print(
        f"{flags.name} is refused from its next connect on; if it is connected now, "
        f"restart the node"
    )
    return 0


def _tell(*commands: str) -> None:
    """Print commands to be copied, unbroken."""
    for command in commands:
        console.print(f"  {command}", soft_wrap=True, highlight=False, markup=False)


VERBS = {
    "make": Verb(Make, make),
    "join": Verb(Join, join),
    "allow": Verb(Allow, allow),
    "list": Verb(List, show),
    "revoke": Verb(Revoke, revoke),
}
