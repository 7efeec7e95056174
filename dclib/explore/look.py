"""Each photograph is opened once: a small square of it is kept, with what is known of its file.

A photograph that has been looked at is not opened again until its file changes, so that a look that was ended goes on,
and one after additions opens the new ones alone.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dclib.data.decoding import decode_rgb
from dclib.data.images import ImageSet, UnreadableImageError, name_some
from dclib.data.photographs import Head, Photographs, read_head
from dclib.data.transforms import resize_and_centre
from dclib.explore.duplicates import DESCRIPTOR, describe
from dclib.machine import count_cores
from dclib.records import UnwrittenError, make_folder, replacing

SIDE = 96  # pixels of the squares that are kept: seen by the network at most, and shown by the explorer
CHUNK = 64  # photographs that a thread opens before what it has seen is written
BYTES = 3 * SIDE**2  # of a square
DRAFT = 128  # a JPEG is decoded at an eighth, a quarter or a half of its size, no side below it
BROKEN, GONE = -1, -2  # in place of a row: no picture as long as the file is what it is; not to be had now
NAMED = 20  # unreadable ones that are told by name
COMPARED = 24  # photographs that are read to tell whether they have been seen before


class Seen(NamedTuple):
    """What is known of one photograph that was opened."""

    bytes: int
    written: int  # ns, when its file was last changed
    content: str  # hash of the file's bytes; empty where it cannot be read
    size: tuple[int, int]  # width and height, upright
    taken: str
    row: int  # of its square in the kept file; BROKEN or GONE where there is none
    reason: str  # why it cannot be read


class Squares:
    """Kept squares in the order of the photographs, (n, 3, SIDE, SIDE) uint8, read as they are asked for."""

    def __init__(self, kept: NDArray[np.uint8], rows: NDArray[np.int64]) -> None:
        self._kept, self._rows = kept, rows
        self.shape, self.dtype = (len(rows), *kept.shape[1:]), kept.dtype

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> NDArray[np.uint8]:
        picked: NDArray[np.uint8] = self._kept[self._rows[index]]
        return picked


@dataclass(frozen=True, eq=False)
class Looked:
    """The photographs that can be read, and what is known of each.

    Attributes:
        images: The set, in sorted order.
        squares: (n, 3, SIDE, SIDE) uint8, the middle of each, upright.
        descriptors: (n, d) uint8, by which duplicates are found.
        seen: The rest, one for each.
        unreadable: Name and reason of those that cannot be read.
    """

    images: ImageSet
    squares: Squares
    descriptors: NDArray[np.uint8]
    seen: Sequence[Seen]
    unreadable: tuple[tuple[str, str], ...]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def note(self) -> str:
        """A sentence that counts and names what cannot be read; empty where all can."""
        if not self.unreadable:
            return ""
        names = name_some([name for name, _ in self.unreadable], NAMED)
        return f"{len(self.unreadable):,} of {len(self) + len(self.unreadable):,} cannot be read, left out: {names}"


def look_at(photographs: Photographs, folder: Path, report: Callable[[int, int], None]) -> Looked:
    """Open every photograph that ``folder`` does not know yet, and give all of them.

    Args:
        folder: Keeps what has been seen: see the module.
        report: Told how many of the new ones are done, and of how many, after each chunk.

    Raises:
        OSError: the folder cannot be written, or has no room.
    """
    make_folder(folder)
    known = _read_known(folder)
    ids, stamps = photographs.images.ids, [*zip(photographs.size.tolist(), photographs.written.tolist(), strict=True)]
    new = [i for i, name in enumerate(ids) if name not in known or known[name][0][:2] != stamps[i]]
    first = 1 + max((seen.row for seen, _ in known.values()), default=-1)
    _check_room(folder, len(new))
    failed: dict[str, str] = {}
    parts = [new[start : start + CHUNK] for start in range(0, len(new), CHUNK)]
    done, number = 0, len(list(folder.glob("seen-*.npz")))
    with _writing(folder / "squares.u8") as kept:
        for part, (seen, squares, descriptors) in zip(parts, _opened(photographs, parts), strict=True):
            rows = np.cumsum([one.row >= 0 for one in seen]) - 1 + first
            seen = [one._replace(row=int(row)) if one.row >= 0 else one for one, row in zip(seen, rows, strict=True)]
            kept.seek(first * BYTES)  # over what a killed look may have left
            kept.write(squares.tobytes())
            kept.flush()
            lasting = [k for k, one in enumerate(seen) if one.row != GONE]
            _write_seen(folder / f"seen-{number:06d}.npz", [ids[part[k]] for k in lasting], [seen[k] for k in lasting],
                        descriptors[lasting])  # fmt: skip
            known |= {ids[part[k]]: (seen[k], descriptors[k]) for k in lasting}
            failed |= {ids[part[k]]: one.reason for k, one in enumerate(seen) if k not in lasting}
            first, number, done = first + len(squares), number + 1, done + len(part)
            report(done, len(new))
    return _gather(photographs.images, known, failed, folder)


def share_seen(photographs: Photographs, folder: Path) -> float | None:
    """Share of photographs that an earlier look has seen, of the fewer of the two; None where nothing is known.

    Those of the name, size and time of one that was seen are the same. Of the others names do not matter: those of
    sizes that were seen may be the same, and a few of them are read to tell.
    """
    seen = {name: one for name, (one, _) in _read_known(folder).items() if one.content}
    if not seen:
        return None
    known = {one.content: one.bytes for one in seen.values()}
    stamps = zip(photographs.size.tolist(), photographs.written.tolist(), strict=True)
    same = np.array(
        [n in seen and seen[n][:2] == stamp for n, stamp in zip(photographs.images.ids, stamps, strict=True)]
    )
    alike = np.flatnonzero(np.isin(photographs.size, [*known.values()]) & ~same)
    picked = np.random.default_rng(0).permutation(alike)[:COMPARED]
    found = 0
    for i in picked.tolist():
        with suppress(UnreadableImageError):
            found += photographs.images.read(i, _content) in known
    fewer = min(len(photographs), len(known))
    return min(1.0, (int(same.sum()) + found / max(len(picked), 1) * len(alike)) / fewer)


@contextmanager
def _writing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write anywhere in, made where there is none. Raises OSError with what to do where it cannot be."""
    try:
        with path.open("r+b" if path.exists() else "w+b") as file:
            yield file
    except UnwrittenError:
        raise  # of something written beside it
    except OSError as error:
        raise UnwrittenError(
            f"could not write {path}: {error.strerror or error}; make room, or name another folder with --out, then "
            "run again: what has been seen is kept"
        ) from error


def _gather(
    images: ImageSet, known: dict[str, tuple[Seen, NDArray[np.uint8]]], failed: dict[str, str], folder: Path
) -> Looked:
    reasons = {
        name: failed.get(name) or known[name][0].reason for name in images.ids if name in failed or name in known
    }
    good = [i for i, name in enumerate(images.ids) if name in known and name not in failed and known[name][0].row >= 0]
    found = [known[images.ids[i]] for i in good]
    rows = np.array([seen.row for seen, _ in found], dtype=np.int64)
    path = folder / "squares.u8"
    n = path.stat().st_size // BYTES
    empty = np.empty((0, 3, SIDE, SIDE), dtype=np.uint8)
    kept = np.memmap(path, dtype=np.uint8, mode="r", shape=(n, 3, SIDE, SIDE)) if n else empty
    descriptors = np.stack([one for _, one in found]) if found else np.empty((0, DESCRIPTOR), dtype=np.uint8)
    unreadable = tuple((name, reason) for name, reason in reasons.items() if reason)
    return Looked(images.subset(good), Squares(kept, rows), descriptors, [seen for seen, _ in found], unreadable)


def _opened(
    photographs: Photographs, parts: Sequence[Sequence[int]]
) -> Iterator[tuple[list[Seen], NDArray[np.uint8], NDArray[np.uint8]]]:
    """The parts in order. In threads: Pillow lets go of the interpreter while it decodes."""
    ahead = 4 * count_cores()
    with ThreadPoolExecutor(count_cores()) as pool:
        waiting = [pool.submit(_open_part, photographs, part) for part in parts[:ahead]]
        for k in range(len(parts)):
            yield waiting[k].result()
            waiting[k] = None  # type: ignore[call-overload]  # what has been written need not be held
            if ahead + k < len(parts):
                waiting.append(pool.submit(_open_part, photographs, parts[ahead + k]))


def _open_part(
    photographs: Photographs, part: Sequence[int]
) -> tuple[list[Seen], NDArray[np.uint8], NDArray[np.uint8]]:
    """What there is to know of some photographs; squares of those alone that can be read."""
    seen, squares = [], []
    descriptors = np.zeros((len(part), DESCRIPTOR), dtype=np.uint8)
    for k, i in enumerate(part):
        stamp = int(photographs.size[i]), int(photographs.written[i])
        try:
            content, head, square, descriptors[k] = photographs.images.read(i, look_into)
            squares.append(square)
            seen.append(Seen(*stamp, content, (head.width, head.height), head.taken, 0, ""))
        except UnreadableImageError as error:
            cause = error.__cause__
            passing = isinstance(cause, OSError) and cause.errno is not None  # gone, or not ours to read: may change
            seen.append(Seen(*stamp, "", (0, 0), "", GONE if passing else BROKEN, str(cause or error)))
    return seen, np.stack(squares) if squares else np.empty((0, 3, SIDE, SIDE), dtype=np.uint8), descriptors


def look_into(encoded: bytes) -> tuple[str, Head, NDArray[np.uint8], NDArray[np.uint8]]:
    """Hash of a file's bytes, its head, the square that is kept and the descriptor. Raises what Pillow raises."""
    head = read_head(encoded)
    image = decode_rgb(encoded, draft=DRAFT, upright=True)
    square = np.asarray(resize_and_centre(image, SIDE, SIDE)).transpose(2, 0, 1)
    return _content(encoded), head, square, describe(image)


def _content(encoded: bytes) -> str:
    """Hash of a file's bytes."""
    return hashlib.blake2b(encoded, digest_size=16).hexdigest()


def _check_room(folder: Path, new: int) -> None:
    free = shutil.disk_usage(folder).free
    if new * BYTES > free:
        raise OSError(
            f"need {new * BYTES / 1e9:.1f} GB in {folder} to keep small squares of {new:,} photographs; "
            f"{free / 1e9:.1f} GB are free: make room, or name another folder with --out"
        )


def _write_seen(path: Path, names: Sequence[str], seen: Sequence[Seen], descriptors: NDArray[np.uint8]) -> None:
    columns = [*zip(*seen, strict=True)] or [()] * len(Seen._fields)
    table = {name: np.array(column) for name, column in zip(Seen._fields, columns, strict=True)}
    with replacing(path) as file:
        np.savez(file, **{"names": np.array(names, dtype=str), "descriptors": descriptors, **table})  # type: ignore[arg-type]


def _read_known(folder: Path) -> dict[str, tuple[Seen, NDArray[np.uint8]]]:
    """What earlier looks have seen, newest last; squares that are not there any more are not known.

    Nor is what a damaged file has told: its photographs are looked at again.
    """
    path = folder / "squares.u8"
    rows = path.stat().st_size // BYTES if path.exists() else 0
    known: dict[str, tuple[Seen, NDArray[np.uint8]]] = {}
    for file in sorted(folder.glob("seen-*.npz")):
        try:
            seen = _read_seen(file)
        except MemoryError:
            raise
        except Exception:  # NumPy raises nearly anything of broken bytes
            continue
        known |= {name: (one, descriptor) for name, one, descriptor in seen if one.row < rows}
    return known


def _read_seen(path: Path) -> list[tuple[str, Seen, NDArray[np.uint8]]]:
    """Name, what is known, and descriptor of the photographs of one file; none where other code has written it."""
    with path.open("rb") as file, np.load(file, allow_pickle=False) as table:
        descriptors = table["descriptors"]
        if descriptors.shape[1:] != (DESCRIPTOR,):
            return []
        seen = [Seen(*values) for values in zip(*(table[name].tolist() for name in Seen._fields), strict=True)]
        seen = [one._replace(size=(one.size[0], one.size[1])) for one in seen]
        return [*zip(table["names"].tolist(), seen, descriptors, strict=True)]
