"""CURVE key pairs on disk, and the list of clients that a node lets in.

    node/
      self.secret         the node's key pair (mode 0600)
      self.public         its public half: copy to clients
      clients/NAME.public the public key of every client that may connect
    client/
      self.secret
      self.public         copy into the node's clients/ folder
      node.public         the node it talks to

Files have ZMQ's own certificate format.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import NamedTuple

import zmq
import zmq.auth

from robostack.link.errors import LinkError

_TEXT = 'metadata\ncurve\n    public-key = "{}"\n'
_SECRET = '    secret-key = "{}"\n'


class KeyPair(NamedTuple):
    """A CURVE key pair, Z85-encoded."""

    public: bytes
    secret: bytes


class NodeKeys(NamedTuple):
    """What a node needs: who it is, and whom it lets in."""

    pair: KeyPair
    clients: frozenset[bytes]


class ClientKeys(NamedTuple):
    """What a client needs: who it is, and whom it talks to."""

    pair: KeyPair
    node: bytes


def make(directory: Path) -> KeyPair:
    """Make a new key pair in `directory`; refuse to overwrite one."""
    pair = KeyPair(*zmq.curve_keypair())
    public = _TEXT.format(pair.public.decode())
    secret = public + _SECRET.format(pair.secret.decode())
    directory.mkdir(parents=True, exist_ok=True)
    for path, text, mode in (
        (directory / "self.secret", secret, 0o600),
        (directory / "self.public", public, 0o644),
    ):
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        try:
            descriptor = os.open(path, flags, mode)
        except FileExistsError as error:
            raise LinkError(
                f"expected no key in {directory}, found {path.name}: delete it by "
                f"hand if you mean to replace it"
            ) from error
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
    return pair


def load_node(directory: Path) -> NodeKeys:
    """Read a node's keys, and its allow-list."""
    paths = sorted((directory / "clients").glob("*.public"))
    return NodeKeys(_pair(directory), frozenset(_public(path) for path in paths))


def load_client(directory: Path) -> ClientKeys:
    """Read a client's keys, and those of its node."""
    return ClientKeys(_pair(directory), _public(directory / "node.public"))


def _pair(directory: Path) -> KeyPair:
    path = directory / "self.secret"
    public, secret = _load(path)
    if secret is None:
        raise LinkError(f"expected a secret key in {path}, found only a public one")
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise LinkError(
            f"expected {path} to be readable by its owner only (mode 600), found mode "
            f"{mode:o}: chmod 600 it, and make new keys if others could read it"
        )
    return KeyPair(public, secret)


def _public(path: Path) -> bytes:
    return _load(path)[0]


def _load(path: Path) -> tuple[bytes, bytes | None]:
    try:
        return zmq.auth.load_certificate(path)
    except (OSError, ValueError) as error:
        raise LinkError(f"expected a CURVE key in {path}: {error}") from error
