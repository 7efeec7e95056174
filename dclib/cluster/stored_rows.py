"""A matrix on disk that is read a block at a time: as many rows as the disk holds, in the memory of one block.

It stands in for an (n, d) tensor where k-means and whitening take one: ``len``, ``shape``, ``split``, and rows by
number. A matrix is a folder of files of ``rows_per_file`` rows each; a file is whole or not there, and ends with a
checksum, so that what an interrupted process has written serves the next one, however many there are.
"""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dclib.records import make_folder, write_atomically

DTYPES: dict[str, np.dtype[np.floating]] = {"float16": np.dtype("<f2"), "float32": np.dtype("<f4")}
FILES = 256  # files of a matrix, about, unless that makes them too small or too large
SMALLEST_FILE, LARGEST_FILE = 256, 4_096  # rows
CHECKSUM_BYTES = 4


@dataclass(frozen=True)
class StoredRows:
    """An (n, d) matrix in ``folder``, or some of its rows.

    Attributes:
        folder: Shared by all processes.
        n: Rows of the whole matrix.
        d: Columns.
        precision: ``"float16"`` or ``"float32"`` on disk; blocks come as float32 in either case.
        chosen: Numbers of the rows this stands for, ascending, (m,); a range where they follow each other.
        device: Where blocks come to.
    """

    folder: Path
    n: int
    d: int
    precision: str
    chosen: Tensor | range
    device: torch.device = torch.device("cpu")

    @classmethod
    def at(cls, folder: Path, n: int, d: int, precision: str) -> StoredRows:
        """The matrix of this shape in ``folder``, whether written yet or not."""
        if precision not in DTYPES:
            raise ValueError(f"precision must be one of {', '.join(DTYPES)}; got {precision!r}")
        return cls(Path(folder), n, d, precision, range(n))

    def __len__(self) -> int:
        return len(self.chosen)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self), self.d

    @property
    def ndim(self) -> int:
        return 2

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32

    def to(self, device: torch.device) -> StoredRows:
        """The same rows, whose blocks come to ``device``."""
        return replace(self, device=device)

    def rows(self, chosen: Tensor | range) -> StoredRows:
        """Some of these rows, by their position among them, ascending; nothing is read."""
        if isinstance(self.chosen, range):
            if isinstance(chosen, range):
                return replace(self, chosen=self.chosen[chosen.start : chosen.stop])
            return replace(self, chosen=chosen + self.chosen.start)
        return replace(
            self, chosen=self.chosen[chosen.start : chosen.stop] if isinstance(chosen, range) else self.chosen[chosen]
        )

    def split(self, rows: int) -> Iterator[Tensor]:
        """All rows in order, ``rows`` at a time, as float32 on ``device``."""
        for start in range(0, max(1, len(self)), rows):  # of no rows one empty block, as a tensor's split has
            yield self._read(self.chosen[start : start + rows])

    def __getitem__(self, index: Tensor) -> Tensor:
        """The rows at these positions, in this order, (len(index), d)."""
        return self._read(self._numbers(index.cpu()))

    def _numbers(self, positions: Tensor | range) -> Tensor | range:
        """Numbers in the whole matrix of the rows at these positions."""
        if isinstance(positions, range):
            return self.chosen[positions.start : positions.stop]
        return positions + self.chosen.start if isinstance(self.chosen, range) else self.chosen[positions]

    def _read(self, numbers: Tensor | range) -> Tensor:
        rows = np.empty((len(numbers), self.d), dtype=np.float32)
        files, places = np.divmod(np.asarray(numbers), self.rows_per_file)
        for file in np.unique(files):
            here = np.flatnonzero(files == file)
            # mapped only while it is read: pages that stay mapped would count as this process's memory
            rows[here] = self._map(int(file))[places[here]]
        return torch.from_numpy(rows).to(self.device)

    # files

    @property
    def rows_per_file(self) -> int:
        """The same however many processes write, so that another number of them can go on."""
        wanted = -(-self.n // FILES)
        rounded = -(-wanted // SMALLEST_FILE) * SMALLEST_FILE
        return min(rounded, LARGEST_FILE)

    @property
    def n_files(self) -> int:
        return -(-self.n // self.rows_per_file)

    def file_rows(self, file: int) -> range:
        """Rows that a file holds."""
        return range(file * self.rows_per_file, min(self.n, (file + 1) * self.rows_per_file))

    def rows_in(self, files: range) -> range:
        """Rows that some files in a row hold."""
        return range(*(min(self.n, file * self.rows_per_file) for file in (files.start, files.stop)))

    def write(self, file: int, rows: Tensor) -> None:
        """Keep the rows of one file, (len(file_rows(file)), d).

        Raises:
            FloatingPointError: a row does not fit the precision: it is not finite, or beyond float16's 65,504.
            OSError: the disk is full or cannot be written; files that were there are untouched.
        """
        with np.errstate(over="ignore"):
            stored = rows.detach().cpu().numpy().astype(DTYPES[self.precision])
        if not np.isfinite(stored).all():
            bad = np.flatnonzero(~np.isfinite(stored).all(axis=1))[:5] + self.file_rows(file).start
            raise FloatingPointError(
                f"features must be finite and fit {self.precision}; those of images {bad.tolist()} do not: "
                "lower train.lr and start again, or keep features as float32 (cluster.precision)"
            )
        content = stored.tobytes()
        write_atomically(self._path(file), content + zlib.crc32(content).to_bytes(CHECKSUM_BYTES, "little"))

    def is_written(self, file: int) -> bool:
        """Whether a file is there, whole and undamaged; reads it."""
        path = self._path(file)
        expected = len(self.file_rows(file)) * self.d * DTYPES[self.precision].itemsize + CHECKSUM_BYTES
        if not path.is_file() or path.stat().st_size != expected:
            return False
        content = path.read_bytes()
        return zlib.crc32(content[:-CHECKSUM_BYTES]) == int.from_bytes(content[-CHECKSUM_BYTES:], "little")

    def check_space(self) -> None:
        """OSError now if the disk cannot hold what is still to be written."""
        make_folder(self.folder)
        needed = self.n * self.d * DTYPES[self.precision].itemsize
        there = sum(path.stat().st_size for path in self.folder.glob("*.rows"))
        free = shutil.disk_usage(self.folder).free
        if needed - there > free:
            raise OSError(
                f"need {(needed - there) / 2**30:.1f} GiB in {self.folder} for {self.n} rows of {self.d} numbers; "
                f"{free / 2**30:.1f} GiB are free: free some space, or keep features as float16"
            )

    def _path(self, file: int) -> Path:
        return self.folder / f"{file:06d}.rows"

    def _map(self, file: int) -> NDArray[np.floating]:
        shape = (len(self.file_rows(file)), self.d)
        mapped: NDArray[np.floating] = np.memmap(self._path(file), DTYPES[self.precision], mode="r", shape=shape)
        return mapped


Rows = Tensor | StoredRows  # what k-means and whitening take


def some_rows(rows: Rows, chosen: Tensor | range) -> Rows:
    """The rows at these positions, ascending: in memory for a tensor, nothing read for a stored matrix."""
    if isinstance(rows, StoredRows):
        return rows.rows(chosen)
    return rows[chosen.start : chosen.stop] if isinstance(chosen, range) else rows[chosen.to(rows.device)]
