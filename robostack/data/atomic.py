"""Files and folders that appear whole or not at all, also when the power fails.

    .partial-xxxx/   written and fsynced here ...
    final/           ... then renamed, and the parent fsynced

A writer that dies leaves its `.partial-*` behind: readers ignore it, `repair` sets it
aside.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

PARTIAL = ".partial-"
ASIDE = "set-aside"  # where `repair` puts things


class SyncedFile:
    """A new file that is hashed while it is written, and on disk once it is closed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._hash = hashlib.sha256()
        self.size = 0  # [byte]

    def __enter__(self) -> SyncedFile:
        """Create the file."""
        self._file = self._path.open("xb")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Sync and close it; what fails then was not written."""
        try:
            if error is None:
                self._file.flush()
                os.fsync(self._file.fileno())
        finally:
            self._file.close()

    def write(self, content: bytes | memoryview) -> None:
        """Append `content`."""
        self._hash.update(content)
        self.size += self._file.write(content)

    @property
    def sha256(self) -> str:
        """Digest of all that was written."""
        return self._hash.hexdigest()


@contextmanager
def new_folder(parent: Path) -> Iterator[Path]:
    """Give a folder in `parent` to fill and `publish`; it goes if the block fails.

    It is locked meanwhile, so that `repair` knows it from what the dead have left.
    """
    folder = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=parent))
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
    except BaseException:
        remove(folder)
        raise
    finally:
        os.close(lock)


def publish(folder: Path, final: Path) -> None:
    """Make `folder`, whose files are synced, appear as `final` for good."""
    folder.chmod(0o755)  # mkdtemp made it ours alone
    sync(folder)
    folder.rename(final)
    sync(final.parent)


def remove(folder: Path) -> None:
    """Delete `folder` as far as that is possible."""
    shutil.rmtree(folder, ignore_errors=True)


def write_file(path: Path, content: bytes) -> None:
    """Make `content` appear as `path` for good, in place of what was there."""
    descriptor, temporary = tempfile.mkstemp(prefix=PARTIAL, dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync(path.parent)


def sync(path: Path) -> None:
    """Wait until the entries of the folder `path` are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def leftovers(root: Path) -> list[Path]:
    """Return what writers that died left anywhere below `root`."""
    found = root.rglob(f"{PARTIAL}*")
    return sorted(path for path in found if path.parent.name != ASIDE)
