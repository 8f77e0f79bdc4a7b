"""Columns that grow block by block; how many rows they have is known at the end."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import numpy.typing as npt

from robostack.data.atomic import SyncedFile
from robostack.data.episode import Frames
from robostack.data.segment import Column, digest_file

_FILL_ROWS = 65536  # at a time


class GrowingColumn:
    """A .npy in the making; numpy's header leaves room for the number of rows."""

    def __init__(
        self,
        stack: ExitStack,
        path: Path,
        width: tuple[int, ...],
        dtype: np.dtype[np.generic],
    ) -> None:
        """Create the file; `stack` closes it, whatever happens."""
        self.width = width
        self._path, self._dtype, self._rows = path, dtype, 0
        self._file = stack.enter_context(path.open("xb"))
        self._write_header()

    def write(self, block: npt.NDArray[np.generic]) -> None:
        """Append the rows of `block` (T, ...)."""
        flat = np.ascontiguousarray(block, self._dtype).reshape(-1)
        self._file.write(flat.view(np.uint8).data)
        self._rows += len(block)

    def fill(self, rows: int) -> None:
        """Append `rows` of nothing: False, or NaN."""
        nothing = False if self._dtype == np.bool_ else np.nan
        for start in range(0, rows, _FILL_ROWS):
            shape = (min(_FILL_ROWS, rows - start), *self.width)
            self.write(np.full(shape, nothing, self._dtype))

    def finish(self) -> Column:
        """Bring the column to disk as a whole; return what an index says of it."""
        size = self._file.tell()
        self._file.seek(0)
        self._write_header()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        shape = (self._rows, *self.width)
        return Column(self._dtype.str, shape, size, digest_file(self._path))

    def _write_header(self) -> None:
        shape = (self._rows, *self.width)
        about = {"descr": self._dtype.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, about)


class GrowingFrames:
    """The JPEGs of one camera in the making, end to end, and where each belongs."""

    def __init__(self, stack: ExitStack, folder: Path, camera: str) -> None:
        """Create the file of images; `stack` closes it, whatever happens."""
        self._stem = f"frames.{camera}"
        self._folder, self._stack = folder, stack
        self._file = SyncedFile(folder / f"{self._stem}.jpeg")
        self._images = stack.enter_context(ExitStack())
        self._images.enter_context(self._file)
        self._rows: list[int] = []
        self._sizes = [0]

    def write(self, frames: Frames, start: int) -> None:
        """Append the frames of an episode whose first row is `start`."""
        for image in frames.jpeg:
            self._file.write(image)
        self._rows.extend((frames.step + start).tolist())
        self._sizes.extend(map(len, frames.jpeg))

    def finish(self) -> dict[str, Column]:
        """Bring them to disk; return what an index says of them, by file name."""
        self._images.close()
        size = self._file.size
        offsets = np.cumsum(self._sizes, dtype=np.int64)
        return {
            f"{self._stem}.jpeg": Column("", (size,), size, self._file.sha256),
            f"{self._stem}.offset.npy": self._numbers("offset", offsets),
            f"{self._stem}.row.npy": self._numbers("row", np.array(self._rows)),
        }

    def _numbers(self, name: str, values: npt.NDArray[np.generic]) -> Column:
        path = self._folder / f"{self._stem}.{name}.npy"
        column = GrowingColumn(self._stack, path, (), np.dtype(np.int64))
        column.write(values)
        return column.finish()
