"""Signatures of bundles: Ed25519 over the content hash, by package `cryptography`.

    release.secret   PEM, PKCS 8, mode 0600: stays with whoever releases policies
    release.public   PEM: goes to every node, into what `serve --trust` names

A signature is one string, "HEX:KEY", where KEY is the short name of the public key. It
signs the words "robostack bundle" and the hash, so that a signature made with the same
key for another purpose is none of a bundle. What a node checks is in SECURITY.md.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

SIZE = 128 + 1 + 16  # characters of a signature
_DIGITS = re.compile(r"[0-9a-f]{128}")
_PURPOSE = "robostack bundle 1\n"
_T = TypeVar("_T")


class SigningError(ValueError):
    """A key that is none, or a bundle that nobody trusted has signed."""


class Trusted(NamedTuple):
    """A public key that a node or a person trusts."""

    name: str  # of its file
    key: Ed25519PublicKey


class Trust:
    """The keys whose bundles are accepted."""

    def __init__(self, keys: dict[str, Trusted]) -> None:
        self._keys = keys

    def check(self, sha256: str, signature: str) -> str:
        """Return the name of the trusted key that signed the bundle `sha256`.

        Raises:
            SigningError: none did; one sentence says why.
        """
        names = ", ".join(sorted(key.name for key in self._keys.values()))
        cure = f"sign it with a trusted key ({names}): robostack bundle sign"
        if not sha256 or not signature:
            what = f"the unsigned {sha256[:16]}" if sha256 else "none"
            raise SigningError(f"expected a signed bundle, got {what}: {cure}")
        digits, _, key_id = signature.partition(":")
        trusted = self._keys.get(key_id)
        if trusted is None:
            raise SigningError(
                f"expected bundle {sha256[:16]} to be signed by a trusted key, got key "
                f"{key_id[:16]!r}: {cure}"
            )
        if not _is_signed(trusted.key, sha256, digits):
            raise SigningError(
                f"the signature of bundle {sha256[:16]} is not by {trusted.name}: "
                f"it was changed, or belongs to another bundle; {cure}"
            )
        return trusted.name


def make(directory: Path) -> str:
    """Make release.secret and release.public in `directory`; return the key's id.

    Raises:
        SigningError: there is one already.
    """
    _need_cryptography()
    from cryptography.hazmat.primitives import serialization as formats
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    secret = Ed25519PrivateKey.generate()
    private = secret.private_bytes(
        formats.Encoding.PEM,
        formats.PrivateFormat.PKCS8,
        formats.NoEncryption(),
    )
    public = secret.public_key().public_bytes(
        formats.Encoding.PEM, formats.PublicFormat.SubjectPublicKeyInfo
    )
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    files = (("release.secret", private, 0o600), ("release.public", public, 0o644))
    for name, content, mode in files:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        try:
            descriptor = os.open(directory / name, flags, mode)
        except FileExistsError as error:
            raise SigningError(
                f"expected no key in {directory}, found {name}: delete it by hand if "
                f"you mean to replace it"
            ) from error
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
    return _id(secret.public_key())


def sign(sha256: str, secret: Path) -> str:
    """Return the signature of the bundle `sha256` by the key in the file `secret`."""
    key = _load_secret(secret)
    return f"{key.sign(_message(sha256)).hex()}:{_id(key.public_key())}"


def load_trust(path: Path) -> Trust:
    """Read one public key, or a folder of them (*.public).

    Raises:
        SigningError: there is none, or a file holds no Ed25519 key.
    """
    paths = sorted(path.glob("*.public")) if path.is_dir() else [path]
    if not paths:
        raise SigningError(
            f"expected a public key (*.public) in {path}, found none: put the "
            f"release.public of whoever releases bundles there"
        )
    keys = [(p, _load_public(p)) for p in paths]
    return Trust({_id(key): Trusted(p.stem, key) for p, key in keys})


def _is_signed(key: Ed25519PublicKey, sha256: str, digits: str) -> bool:
    from cryptography.exceptions import InvalidSignature

    if not _DIGITS.fullmatch(digits):
        return False
    try:
        key.verify(bytes.fromhex(digits), _message(sha256))
    except InvalidSignature:
        return False
    return True


def _message(sha256: str) -> bytes:
    return (_PURPOSE + sha256).encode()


def _id(key: Ed25519PublicKey) -> str:
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def _load_secret(path: Path) -> Ed25519PrivateKey:
    _need_cryptography()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = _parsed(path, lambda content: load_pem_private_key(content, password=None))
    if not isinstance(key, Ed25519PrivateKey):
        raise SigningError(f"expected an Ed25519 secret key in {path}, got another")
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise SigningError(
            f"expected {path} to be readable by its owner only (mode 600), found mode "
            f"{mode:o}: chmod 600 it, and make a new key if others could read it"
        )
    return key


def _load_public(path: Path) -> Ed25519PublicKey:
    _need_cryptography()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    key = _parsed(path, load_pem_public_key)
    if not isinstance(key, Ed25519PublicKey):
        raise SigningError(f"expected an Ed25519 public key in {path}, got another")
    return key


def _parsed(path: Path, load: Callable[[bytes], _T]) -> _T:
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        return load(path.read_bytes())
    except OSError as error:
        raise SigningError(f"could not read {path}: {error.strerror}") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SigningError(
            f"expected an Ed25519 key for signing in {path} (PEM, without password), "
            f"as robostack keys make --signing writes it: {error}"
        ) from error


def _need_cryptography() -> None:
    try:
        import cryptography  # noqa: F401
    except ModuleNotFoundError as error:
        raise SigningError(
            "signatures need the package 'cryptography', which is not installed: "
            "pip install 'robostack[sign]'"
        ) from error
