"""New photographs seen by a trained network: features, clusters and neighbours, a chunk at a time.

What is made is written as it is made, and ``embedding.json`` says how far that is: a killed call goes on from there
and ends with the same bytes. Memory does not grow with the features; names take some 100 bytes each.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dclib.config import DataConfig
from dclib.data.folders import named_path
from dclib.data.images import FileReader, ImageSet, name_some, printable
from dclib.data.layouts import open_images
from dclib.data.photographs import open_photographs
from dclib.data.pixels import Pixels, load_pixels
from dclib.data.yfcc import is_yfcc
from dclib.explore.alone import writing_alone
from dclib.explore.describe import describe_images, part_sizes
from dclib.explore.found import SUMMARY, is_exploration, load_network, read_json, read_run
from dclib.explore.learn import smaller
from dclib.explore.look import SIDE
from dclib.explore.nearest_rows import nearest_rows
from dclib.explore.settings import kept_side
from dclib.explore.space import BLOCK, CENTROIDS, Space, make_space, read_space
from dclib.models.vgg import Trunk
from dclib.records import make_folder, replacing, reserve, write_atomically
from dclib.train.features import FEATURE_BATCH, PAPER_RESIZE, feature_batches
from dclib.train.runs import default_device
from dclib.train.start import weights_hash

PROGRESS = "embedding.json"
FEATURES, PHOTOGRAPHS = "features.npy", "photos.csv"
NEW, EXPLORED = "neighbours.npy", "explored_neighbours.npy"
CHUNK_BYTES = 2**27  # of decoded squares
LARGEST_CHUNK = 4096  # photographs that are at most done again after a kill
MOST = 0.999999  # share of a chunk's photographs that may be unreadable: all but all
QUERIES = 2048  # photographs whose neighbours are looked for at once


@dataclass
class Progress:
    """How far an embedding is, and of what it is one."""

    network: str  # hash of its weights
    photographs: str  # their folder
    images: str  # hash of their names and sizes
    written: str = ""  # hash of when their files were changed; empty where nothing says
    read: int = 0  # photographs looked at
    rows: int = 0  # features written
    left_out: list[int] = field(default_factory=list)  # numbers of those that cannot be read
    neighbours: int = -1  # of each, in what is finished
    explored: str = ""  # state of the exploration's answers, whose clusters and photographs are named
    asked: int = -1  # neighbours, however many there are
    placed: bool = False  # clusters are named
    finished: bool = False

    def save(self, out: Path) -> None:
        write_atomically(out / PROGRESS, json.dumps(asdict(self)).encode())


class Matrix:
    """A ``.npy`` of rows that are written one block after the other, mapped into memory while they are."""

    def __init__(self, path: Path, rows: int, columns: int, dtype: Any) -> None:
        self.path, self.partial, self.columns, self.dtype = path, path.with_name(f"{path.name}.partial"), columns, dtype
        if not self.partial.exists():
            np.lib.format.open_memmap(self.partial, mode="w+", dtype=dtype, shape=(rows, columns)).flush()
            try:
                reserve(self.partial)
            except OSError:
                self.partial.unlink()
                raise

    def write(self, start: int, rows: NDArray[Any]) -> None:
        """Rows from number ``start`` on, on the disk when this returns."""
        mapped = np.lib.format.open_memmap(self.partial, mode="r+")
        mapped[start : start + len(rows)] = rows
        mapped.flush()

    def finish(self, rows: int) -> None:
        """Cut it to so many rows and give it its name."""
        head, before = io.BytesIO(), np.lib.format.open_memmap(self.partial, mode="r")
        told = {"descr": np.lib.format.dtype_to_descr(np.dtype(self.dtype)), "fortran_order": False}
        np.lib.format.write_array_header_1_0(head, {**told, "shape": (rows, self.columns)})
        if len(head.getvalue()) != before.offset:  # NumPy leaves room in it for a number of any length
            raise AssertionError("the heads of two arrays that differ in their rows have the same length")
        del before
        with self.partial.open("r+b") as file:
            file.write(head.getvalue())
            file.truncate(len(head.getvalue()) + rows * self.columns * np.dtype(self.dtype).itemsize)
            os.fsync(file.fileno())
        self.partial.replace(self.path)


def embed(
    run: str | Path,
    photographs: str | Path,
    out: str | Path = "",
    *,
    pool: str = "",
    neighbours: int = 10,
    report: Callable[[str], None] = print,
) -> Path:
    """Features, clusters and neighbours of photographs by the network of a run, an exploration or an export.

    Writes to ``out`` (default: ``embedded/`` and the photographs' name in the run's folder) ``features.npy`` (n, d)
    float32, ``photos.csv`` with a line for each row of it, and ``neighbours.npy`` (n, neighbours) int32, the rows of
    the nearest by cosine; of an exploration ``explored_neighbours.npy`` too, rows of its ``photos.csv``.

    Raises:
        ValueError: no network, no photographs, or ``out`` is among them or holds another embedding.
        OSError: the disk cannot hold it, found before the first is made.
    """
    if neighbours < 0:
        raise ValueError(f"need a number of neighbours, 0 for none; got {neighbours}")
    run, shown = named_path(run), named_path(photographs)
    trunk = load_network(run).to(torch.device(default_device()))
    images, written = open_new(shown)
    home = run.parent if run.is_file() else run
    target = named_path(out) if out else home / "embedded" / _name_of(shown)
    _check_target(target, shown, home)
    make_folder(target)
    with writing_alone(target):
        wanted = Progress(weights_hash(trunk), os.path.realpath(shown), images.fingerprint, written)
        progress = _begin(target, wanted, report)
        describer = describer_of(home, trunk)
        whole = _is_whole(target / FEATURES, (progress.rows, describer.columns))
        same = progress.asked == neighbours and progress.explored == _state(home, target)
        if whole and progress.finished and same and (progress.placed or not pool):
            report(f"all {progress.rows:,} photographs are embedded in {target} already")
            return target
        for line in images.notes:
            report(line)
        if not whole:
            _write_features(describer, images, target, progress, report)
        if is_exploration(home) and _answered_by(home) not in (None, progress.network):
            report(
                f"no clusters and no explored photographs are named, for the answers in {home} are not by the network "
                "that is there now; explore its photographs again to have them"
            )
            space = explored = None
        else:
            space, explored = _space_of(home, trunk, pool, report), explored_features(home, describer.columns)
        _write_answers(target, home, images, progress, space, explored, neighbours, report)
    report(f"embedded {progress.rows:,} photographs in {target}")
    return target


def _name_of(shown: Path) -> str:
    """Of the default folder for photographs: theirs, or an archive's or list's without its suffix."""
    place = Path(os.path.realpath(shown))
    return (place.name if place.is_dir() else place.stem) or "photographs"


def open_new(path: Path) -> tuple[ImageSet, str]:
    """New photographs, a folder as one's own, upright, else what there is to open; a hash of when they were changed."""
    if path.is_dir() and not is_yfcc(path):
        photographs = open_photographs(path)
        images, times = photographs.images, photographs.written
    else:
        images = open_images(path)
        times = np.array([], dtype=np.int64)
        if isinstance(images.reader, FileReader):
            times = images.reader.written(images.ids)
    return images, hashlib.sha256(times.tobytes()).hexdigest()[:12] if len(times) else ""


def _check_target(target: Path, shown: Path, home: Path) -> None:
    place = Path(os.path.realpath(target))
    if shown.is_dir() and place.is_relative_to(os.path.realpath(shown)):
        raise ValueError(f"{target} is among the photographs, and nothing is written there; name a folder with --out")
    if place == Path(os.path.realpath(home)):
        raise ValueError(f"{target} is the folder of the network itself; name another with --out")
    if place.exists() and not place.is_dir():
        raise ValueError(f"need a folder to write to; {target} is a file")
    there = [name for name in (FEATURES, PHOTOGRAPHS, NEW) if (target / name).exists()]
    if there and not (target / PROGRESS).is_file():
        raise ValueError(f"{target} holds {', '.join(there)} of something else; name another folder with --out")


def _begin(target: Path, wanted: Progress, report: Callable[[str], None]) -> Progress:
    """The progress of an earlier call, or a new one. Raises ValueError where it is of something else."""
    if not (target / PROGRESS).exists():
        wanted.save(target)
        return wanted
    try:
        before = Progress(**read_json(target / PROGRESS))
    except TypeError:
        raise ValueError(f"{target / PROGRESS} is damaged; delete that folder, or name another with --out") from None
    for what in ("network", "photographs"):
        if getattr(before, what) != getattr(wanted, what):
            raise ValueError(
                f"{target} holds an embedding of {'another network' if what == 'network' else before.photographs}; "
                "name another folder with --out"
            )
    if before.images == wanted.images and before.written in ("", wanted.written):
        if before.written != wanted.written:
            before.written = wanted.written
            before.save(target)
        return before
    report("the photographs are not those of the last call: all are embedded anew")
    for name in (FEATURES, PHOTOGRAPHS, NEW, EXPLORED):
        for path in (target / name, target / f"{name}.partial"):
            path.unlink(missing_ok=True)
    wanted.save(target)
    return wanted


@dataclass(frozen=True)
class Describer:
    """What stands for a photograph: the network's features, or its descriptor where an exploration made the network.

    Attributes:
        columns: d, of each.
        side: At which photographs are opened, and ``resize``, at which the network sees them, short sides in pixels.
        make: From pixels of ``resize`` to (n, d).
    """

    columns: int
    size: int
    resize: int
    side: int
    make: Callable[[Pixels], Tensor]


def describer_of(home: Path, trunk: Trunk) -> Describer:
    """For the network of a folder."""
    size = trunk.config.image_size
    if is_exploration(home):
        return Describer(sum(part_sizes(trunk)), size, kept_side(trunk.config), SIDE, partial(describe_images, trunk))
    resize = round(size * PAPER_RESIZE)

    def features(pixels: Pixels) -> Tensor:
        return torch.cat([*feature_batches(trunk, pixels, range(len(pixels)), FEATURE_BATCH)])

    return Describer(trunk.config.feature_dim, size, resize, resize, features)


def _write_features(
    describer: Describer, images: ImageSet, target: Path, progress: Progress, report: Callable[[str], None]
) -> None:
    """Those of all photographs that are still to be read, in chunks."""
    n, d = len(images), describer.columns
    if progress.read == 0 or not (target / f"{FEATURES}.partial").exists():
        (target / f"{FEATURES}.partial").unlink(missing_ok=True)
        progress.read, progress.rows, progress.left_out = 0, 0, []
        free = shutil.disk_usage(target).free
        if 4 * n * d > free:
            raise OSError(f"need {4 * n * d / 2**30:.1f} GiB in {target} for features; {free / 2**30:.1f} are free")
    matrix = Matrix(target / FEATURES, n, d, np.float32)
    batches = max(1, CHUNK_BYTES // (3 * describer.side**2) // FEATURE_BATCH)
    chunk = min(batches * FEATURE_BATCH, LARGEST_CHUNK)
    began, first = time.monotonic(), progress.read
    while progress.read < n:
        rows = np.arange(progress.read, min(n, progress.read + chunk))
        features, kept = chunk_features(describer, images.subset(rows))
        matrix.write(progress.rows, features)
        progress.left_out += [int(row) for row in rows[~kept]]
        progress.rows, progress.read = progress.rows + len(features), int(rows[-1]) + 1
        progress.save(target)
        rate = (progress.read - first) / max(time.monotonic() - began, 1e-9)
        report(f"{progress.read:,} of {n:,} photographs, {rate:.0f}/s, {(n - progress.read) / rate:.0f} s left")
    if names := [images.ids[row] for row in progress.left_out]:
        report(f"{len(names):,} of {n:,} photographs cannot be read, left out: {name_some(names, 20)}")
    if not progress.rows:
        raise ValueError(f"none of the {n:,} photographs can be read")
    matrix.finish(progress.rows)


def chunk_features(describer: Describer, images: ImageSet) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Features (m, d) of the photographs that can be read, and which of them can (n,)."""
    kept = np.zeros(len(images), dtype=bool)
    try:
        data = DataConfig(resize=describer.side, memory_gb=2.0, max_unreadable=MOST)
        pixels = load_pixels(images, data, describer.size)
    except ValueError:  # not one can be read
        return np.zeros((0, describer.columns), dtype=np.float32), kept
    assert pixels.decoded is not None
    lost = set(pixels.left_out)
    kept[[i for i, name in enumerate(images.ids) if name not in lost]] = True
    pixels = replace(pixels, resize=describer.resize, decoded=smaller(pixels.decoded, describer.resize))
    return describer.make(pixels).numpy(), kept


def _space_of(home: Path, trunk: Trunk, pool: str, report: Callable[[str], None]) -> Space | None:
    run = read_run(home)
    for folder in dict.fromkeys((home, run.folder)):
        if space := read_space(folder / CENTROIDS, describer_of(home, trunk).columns):
            return space
    space, why = make_space(run, trunk, pool, report)
    if why:
        report(f"no clusters are named, for {why}")
    return space


def _write_answers(
    target: Path,
    home: Path,
    images: ImageSet,
    progress: Progress,
    space: Space | None,
    explored: tuple[NDArray[Any], Sequence[str]] | None,
    neighbours: int,
    report: Callable[[str], None],
) -> None:
    """Neighbours, then the table of all."""
    features = np.load(target / FEATURES, mmap_mode="r")
    count = min(neighbours, len(features) - 1)
    points = space.points if space is not None and is_exploration(home) else F.normalize
    found = {NEW: _neighbours(target / NEW, features, None, count, points, report)}
    lost = set(progress.left_out)
    names = [printable(images.ids[row]) for row in range(len(images)) if row not in lost]
    listed: dict[str, Sequence[str]] = {NEW: names}
    (target / EXPLORED).unlink(missing_ok=True)
    if explored is not None and neighbours:
        found[EXPLORED] = _neighbours(
            target / EXPLORED, features, explored[0], min(neighbours, len(explored[0])), points, report
        )
        listed[EXPLORED] = explored[1]
    _write_table(target / PHOTOGRAPHS, names, features, space, found, listed)
    progress.neighbours, progress.asked, progress.finished = count, neighbours, True
    progress.explored, progress.placed = _state(home, target), space is not None
    progress.save(target)


def _neighbours(
    path: Path,
    features: NDArray[Any],
    others: NDArray[Any] | None,
    count: int,
    points: Callable[[Tensor], Tensor],
    report: Callable[[str], None],
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Rows (n, count) of the nearest and the cosine (n,) of the first; a killed call looks for all again."""
    numbers = np.full((len(features), count), -1, dtype=np.int32)
    first = np.zeros(len(features), dtype=np.float32)
    began = time.monotonic()
    for start in range(0, len(features) if count else 0, QUERIES):
        block = range(start, min(start + QUERIES, len(features)))
        rows, cosines = nearest_rows(features, block, others, count, points)
        numbers[start : block.stop], first[start : block.stop] = rows, cosines[:, 0]
        if block.stop > QUERIES:
            left = (time.monotonic() - began) / block.stop * (len(features) - block.stop)
            report(f"neighbours of {block.stop:,} of {len(features):,}, {left:.0f} s left")
    with replacing(path) as file:
        np.save(file, numbers)
    return numbers, first


def _is_whole(path: Path, shape: tuple[int, int]) -> bool:
    """Whether a file is there and holds an array of this shape."""
    try:
        return bool(np.load(path, mmap_mode="r", allow_pickle=False).shape == shape)
    except (OSError, ValueError, EOFError):
        return False


def _answered_by(home: Path) -> object:
    """Hash of the network that an exploration's answers are by, empty for none; None where it does not say."""
    return read_json(home / SUMMARY).get("network")


def _state(home: Path, target: Path) -> str:
    """What answers are made from, as far as it is an exploration's, and which of the answers are there."""
    parts = [f"by {_answered_by(home)}"]
    for file in (home / FEATURES, home / PHOTOGRAPHS, home / CENTROIDS):
        parts.append(f"{file.stat().st_size}-{file.stat().st_mtime_ns}" if file.is_file() else "none")
    return " ".join([*parts, *(name for name in (PHOTOGRAPHS, NEW, EXPLORED) if (target / name).is_file())])


def explored_features(home: Path, columns: int) -> tuple[NDArray[Any], Sequence[str]] | None:
    """Features (n, columns) and paths of the photographs that an exploration has in its folder; None without them."""
    try:
        features = np.load(home / FEATURES, mmap_mode="r", allow_pickle=False)
        with (home / PHOTOGRAPHS).open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            paths = [row["path"] for row in csv.DictReader(file)]
    except (OSError, ValueError, KeyError, csv.Error):
        return None
    return (features, paths) if features.shape == (len(paths), columns) and paths else None


def _write_table(
    path: Path,
    names: Sequence[str],
    features: NDArray[Any],
    space: Space | None,
    found: dict[str, tuple[NDArray[np.int32], NDArray[np.float32]]],
    listed: dict[str, Sequence[str]],
) -> None:
    """A line for each photograph: where it lies among the clusters, and which is nearest to it."""
    head = ["path", "cluster", "distance", "second", "sharpness"]
    head += [column for file in found for column in ((f"nearest{'_explored' * (file == EXPLORED)}"), _cosine(file))]
    with replacing(path) as binary:
        text = io.TextIOWrapper(binary, encoding="utf-8", newline="", write_through=True)
        table = csv.writer(text, lineterminator="\n")
        table.writerow(head)
        for start in range(0, len(names), BLOCK):
            block = torch.from_numpy(np.array(features[start : start + BLOCK]))
            placed: dict[str, Tensor] = {} if space is None else space.place(block)
            for i, name in enumerate(names[start : start + len(block)]):
                row: list[object] = [name]
                row += [placed["cluster"][i].item(), f"{placed['distance'][i]:.5f}"] if placed else ["", ""]
                row += [placed["second"][i].item(), f"{placed['sharpness'][i]:.5f}"] if placed else ["", ""]
                for file, (numbers, cosines) in found.items():
                    near = numbers[start + i]
                    row += [listed[file][near[0]], f"{cosines[start + i]:.5f}"] if len(near) else ["", ""]
                table.writerow(row)
        text.detach()


def _cosine(file: str) -> str:
    return "cosine_explored" if file == EXPLORED else "cosine"
