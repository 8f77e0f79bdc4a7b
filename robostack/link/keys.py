"""CURVE key pairs on disk, and the list of clients that a node lets in.

    node/
      self.secret         the node's key pair (mode 0600)
      self.public         its public half: copy to clients
      clients/NAME.public the public key of every client that may connect
    client/
      self.secret
      self.public         copy into the node's clients/ folder
      node.public         the node it talks to

Files have ZMQ's own certificate format. A public key fits into a line of 64 hexadecimal
digits, which is how people pass it on. Folders of keys, and the files in them, may be
written by their owner only. A node reads its list of clients again at every connect.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import NamedTuple

import zmq
import zmq.auth
from zmq.utils import z85

from robostack.link.errors import LinkError

_TEXT = 'metadata\ncurve\n    public-key = "{}"\n'
_SECRET = '    secret-key = "{}"\n'
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_LINE = re.compile(r"[0-9a-f]{64}")


class KeyPair(NamedTuple):
    """A CURVE key pair, Z85-encoded."""

    public: bytes
    secret: bytes


class NodeKeys(NamedTuple):
    """What a node needs: who it is, and whom it lets in."""

    pair: KeyPair
    clients: frozenset[bytes]
    folder: Path | None = None  # where that list is; read again at every connect

    def lets_in(self, client: bytes) -> bool:
        """Return whether the client with this public key may connect now.

        Raises:
            LinkError: the list cannot be read.
        """
        if self.folder is None:
            return client in self.clients
        return client in clients(self.folder).values()


class ClientKeys(NamedTuple):
    """What a client needs: who it is, and whom it talks to."""

    pair: KeyPair
    node: bytes


def make(directory: Path) -> KeyPair:
    """Make a new key pair in `directory`; refuse to overwrite one."""
    pair = KeyPair(*zmq.curve_keypair())
    _folder(directory)
    secret = _TEXT.format(pair.public.decode()) + _SECRET.format(pair.secret.decode())
    _write(directory / "self.secret", secret, 0o600)
    _write(directory / "self.public", _TEXT.format(pair.public.decode()), 0o644)
    return pair


def make_node(directory: Path) -> KeyPair:
    """Make the keys of a node that lets nobody in yet."""
    pair = make(directory)
    _folder(directory / "clients")
    return pair


def make_client(directory: Path, node: bytes) -> KeyPair:
    """Make the keys of a client of the node with the public key `node`."""
    pair = make(directory)
    _write(directory / "node.public", _TEXT.format(node.decode()), 0o644)
    return pair


def allow(directory: Path, name: str, client: bytes) -> None:
    """Let the node with keys in `directory` accept `client`, from now on.

    Raises:
        LinkError: these are no keys of a node, or the name or the key is listed.
    """
    _pair(directory)
    if not _NAME.fullmatch(name):
        raise LinkError(
            f"expected a name of letters, digits, dots and dashes, got {name!r}"
        )
    for other, listed in clients(directory).items():
        if listed == client:
            raise LinkError(f"expected a new key, got that of {other!r}")
    _folder(directory / "clients")
    _write(
        directory / "clients" / f"{name}.public", _TEXT.format(client.decode()), 0o644
    )


def revoke(directory: Path, name: str) -> None:
    """Let the node with keys in `directory` refuse `name` from its next connect on."""
    listed = clients(directory)
    if name not in listed:
        known = ", ".join(listed) or "nobody"
        raise LinkError(f"expected one of the clients let in ({known}), got {name!r}")
    (directory / "clients" / f"{name}.public").unlink()


def clients(directory: Path) -> dict[str, bytes]:
    """Return whom the node with keys in `directory` lets in: name -> public key."""
    folder = directory / "clients"
    if not folder.is_dir():
        return {}
    _check_folder(folder)
    return {path.stem: _public(path) for path in sorted(folder.glob("*.public"))}


def public_key(text: str) -> bytes:
    """Return the key that `text` is, in a line, or names: a *.public file."""
    if _LINE.fullmatch(text):
        return z85.encode(bytes.fromhex(text))
    path = Path(text)
    if not path.is_file():
        raise LinkError(
            f"expected a public key, as 64 hexadecimal digits or a *.public file, got "
            f"{text!r}"
        )
    return _public(path)


def line(public: bytes) -> str:
    """Return the public key as people pass it on: 64 hexadecimal digits."""
    return z85.decode(public).hex()


def load_node(directory: Path) -> NodeKeys:
    """Read a node's keys, and its allow-list."""
    return NodeKeys(_pair(directory), frozenset(clients(directory).values()), directory)


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
    _check_folder(directory)
    return KeyPair(public, secret)


def _public(path: Path) -> bytes:
    key, _ = _load(path)
    _check_folder(path)
    return key


def _check_folder(path: Path) -> None:
    """Refuse a folder, or a list in it, that others could change."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o022:
        raise LinkError(
            f"expected {path} to be writable by its owner only, found mode {mode:o}: "
            f"chmod go-w it, and look whether every key in it is yours"
        )


def _folder(path: Path) -> None:
    """Make a folder for keys, mode 700, or check the one that is there."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check_folder(path)


def _write(path: Path, text: str, mode: int) -> None:
    """Write a new file; its mode is `mode` from the start, whatever the umask."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode & 0o600)
    except FileExistsError as error:
        raise LinkError(
            f"expected no key in {path.parent}, found {path.name}: delete it by hand "
            f"if you mean to replace it"
        ) from error
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        os.fchmod(descriptor, mode)


def _load(path: Path) -> tuple[bytes, bytes | None]:
    try:
        return zmq.auth.load_certificate(path)
    except (OSError, ValueError) as error:
        raise LinkError(f"expected a CURVE key in {path}: {error}") from error
