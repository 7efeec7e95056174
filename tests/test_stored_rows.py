"""Rows on disk: what is written is what is read, whichever rows, however many processes; and damage is found out."""

import shutil
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dclib.cluster import stored_rows as module
from dclib.cluster.stored_rows import DTYPES, StoredRows, some_rows
from dclib.distributed import shard

N, D = 700, 5  # three files of 256 rows, the last one short


def matrix(n: int = N, d: int = D) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(0))


def write(stored: StoredRows, rows: torch.Tensor) -> StoredRows:
    for file in range(stored.n_files):
        stored.write(file, rows[list(stored.file_rows(file))])
    return stored


@pytest.fixture
def stored(tmp_path: Path) -> StoredRows:
    return write(StoredRows.at(tmp_path / "rows", N, D, "float32"), matrix())


def whole(rows: StoredRows) -> torch.Tensor:
    return torch.cat(list(rows.split(64)))


# --- what is written is read


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_rows_come_back_as_their_precision_keeps_them(tmp_path, precision):
    stored = write(StoredRows.at(tmp_path, N, D, precision), matrix())
    expected = matrix().to(getattr(torch, precision)).float()  # torch rounds to half as numpy does: to even
    assert torch.equal(whole(stored), expected)
    assert (len(stored), stored.shape, stored.ndim, stored.dtype) == (N, (N, D), 2, torch.float32)


def test_files_are_little_endian_numbers_and_a_checksum(stored):
    (first, *_) = sorted(stored.folder.iterdir())
    content = first.read_bytes()
    assert content[:-4] == matrix()[:256].numpy().astype("<f4").tobytes()
    assert int.from_bytes(content[-4:], "little") == zlib.crc32(content[:-4])


@pytest.mark.parametrize("rows", [1, 100, 256, 257, N, 10_000])
def test_split_gives_all_rows_in_order_across_files(stored, rows):
    blocks = list(stored.split(rows))
    assert [len(block) for block in blocks] == [len(block) for block in matrix().split(rows)]
    assert torch.equal(torch.cat(blocks), matrix())


def test_no_rows_split_into_one_empty_block_as_those_of_a_tensor(stored):
    (block,) = stored.rows(range(3, 3)).split(10)
    assert block.shape == matrix()[3:3].split(10)[0].shape == (0, D)


CHOICES = [range(N), range(250, 530), range(0), torch.tensor([0, 255, 256, 699]), torch.arange(1, N, 3)]


@pytest.mark.parametrize("first", CHOICES, ids=str)
@pytest.mark.parametrize("second", [range(1, 3), torch.tensor([0, 2, 3])], ids=str)
def test_some_rows_and_some_of_those_are_a_tensors(stored, first, second):
    """A tensor's own indexing is the oracle."""
    one, other = some_rows(stored, first), some_rows(matrix(), first)
    assert torch.equal(whole(one), other)
    if len(first) > 3:
        assert torch.equal(whole(some_rows(one, second)), some_rows(other, second))
        order = torch.tensor([3, 0, 3])  # any order, and again
        assert torch.equal(one[order], other[order])


# --- damage


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[17] ^= 1
    path.write_bytes(content)


def replace(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size - 1) + b"x")


@pytest.mark.parametrize("damage", [cut, flip, replace, Path.unlink, lambda path: path.write_bytes(b"")])
def test_file_that_is_not_whole_is_not_written(stored, damage):
    assert all(stored.is_written(file) for file in range(3))
    damage(stored.folder / "000001.rows")
    assert [stored.is_written(file) for file in range(3)] == [True, False, True]
    stored.write(1, matrix()[256:512])
    assert torch.equal(whole(stored), matrix())


def test_file_of_another_shape_or_precision_is_not_written(stored):
    other = StoredRows.at(stored.folder, N, D + 1, "float32")
    half = StoredRows.at(stored.folder, N, D, "float16")
    assert not other.is_written(0)
    assert not half.is_written(0)


# --- many processes


@pytest.mark.parametrize("n", [1, 256, 257, N, 65_536, 65_537, 5_000_000, 100_000_000])
def test_files_hold_all_rows_once_and_whole_batches(n):
    stored = StoredRows.at(Path("nowhere"), n, D, "float16")
    files = [stored.file_rows(file) for file in range(stored.n_files)]
    assert (files[0].start, files[-1].stop) == (0, n)
    assert all(a.stop == b.start and len(b) > 0 for a, b in zip(files, files[1:], strict=False))
    assert {len(rows) for rows in files[:-1]} <= {stored.rows_per_file}
    assert stored.rows_per_file % 256 == 0  # images of a batch of features
    assert stored.rows_per_file <= 4_096


def share(place: int, size: int, n_files: int) -> range:
    return shard(n_files, SimpleNamespace(place=place, size=size))


@pytest.mark.parametrize("processes", [2, 3, 8])
def test_any_number_of_processes_writes_the_same_files(stored, tmp_path, processes):
    """Shares of files, as the ranks take them; of eight, five have nothing to write."""
    together = StoredRows.at(tmp_path / "together", N, D, "float32")
    rows = []
    for place in range(processes):
        files = share(place, processes, together.n_files)
        mine = together.rows_in(files)
        rows += list(mine)
        for file in files:
            together.write(file, matrix()[list(together.file_rows(file))])
    assert rows == list(range(N))
    names = sorted(path.name for path in stored.folder.iterdir())
    assert sorted(path.name for path in together.folder.iterdir()) == names
    assert all((together.folder / name).read_bytes() == (stored.folder / name).read_bytes() for name in names)


# --- what is refused


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 70_000.0])
def test_number_that_does_not_fit_is_refused_with_its_row(stored, value):
    half = StoredRows.at(stored.folder.with_name("half"), N, D, "float16")
    rows = matrix()[256:512]
    rows[[3, 200]] = value
    with pytest.raises(FloatingPointError, match=r"fit float16; those of images \[259, 456\] do not.*float32"):
        half.write(1, rows)
    assert not half.folder.exists()
    if np.isfinite(value):
        stored.write(1, rows)  # float32 holds it
        assert float(whole(stored)[259, 0]) == value


def test_unknown_precision_is_refused(tmp_path):
    with pytest.raises(ValueError, match="must be one of float16, float32; got 'float64'"):
        StoredRows.at(tmp_path, N, D, "float64")


@pytest.mark.parametrize("precision", DTYPES)
def test_full_disk_is_found_out_before_anything_is_written(tmp_path, monkeypatch, precision):
    stored = StoredRows.at(tmp_path / "rows", 2**20, 512, precision)
    size = DTYPES[precision].itemsize * 2**29
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: SimpleNamespace(free=size - 1))
    with pytest.raises(
        OSError, match=rf"need {size / 2**30:.1f} GiB in .*rows for 1048576 rows of 512 numbers; .*free"
    ):
        stored.check_space()
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: SimpleNamespace(free=size))
    stored.check_space()


def test_what_is_there_already_needs_no_space(stored, monkeypatch):
    there = sum(path.stat().st_size for path in stored.folder.iterdir())
    assert there >= N * D * 4
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: SimpleNamespace(free=0))
    stored.check_space()


# --- memory


def resident_files() -> int:
    """Pages of mapped files in this process's memory, bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssFile:"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's account of a process's memory")
def test_files_that_were_read_are_in_no_ones_memory(tmp_path):
    """Else a pass over the matrix would fill the memory that the scheduler grants with it."""
    stored = StoredRows.at(tmp_path, 32_768, 512, "float32")
    zeros = torch.zeros(stored.rows_per_file, stored.d)
    for file in range(stored.n_files):
        stored.write(file, zeros)
    size = len(stored) * stored.d * 4
    before = resident_files()
    for rows in stored.split(1024):
        assert not rows.any()
        # a file at most, and code that is loaded on the way; the matrix has 64 MiB
        assert resident_files() - before < size / 8
    shutil.rmtree(tmp_path)
