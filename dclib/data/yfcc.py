"""YFCC100M as it is stored: zip archives of a thousand photos each. Its metadata is in ``yfcc_metadata``.

Photo ``AABBBCCC`` (its number, in eight digits) is the file ``CCC.jpg`` inside the archive ``AA/BBB.zip``.
Two files beside the archives are optional: ``usable_ids.npy``, the numbers worth using, and
``hidden_classes.tsv``, a class for each photo that is for display only.
"""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from array import array
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dclib.data.decoding import refuse_too_large
from dclib.data.folders import OpenFile, changed_at
from dclib.data.images import ImageSet, NumberedIds
from dclib.data.zip_index import (
    ABSENT,
    FOLDER,
    PER_ARCHIVE,
    PER_FOLDER,
    ZipIndex,
    archive_path,
    find_archives,
    open_index,
)
from dclib.reading import iterate_lines, load_array

N_NUMBERS = 100 * PER_FOLDER * PER_ARCHIVE  # what eight digits can tell apart
SHOWN = 80  # characters of a line that is wrong
LOCAL_HEADER = struct.Struct("<4s4xH16xHH")  # signature, method, then the lengths of the name and the extra field


class ZipReader:
    """Reads photos out of the archives by their number.

    An index says where a photo is; a read is then two positioned reads of one file, which stays open as long as it
    is among the ``max_open`` used last. Nothing that is open crosses a fork or a pickle, and threads may share a
    reader.

    Args:
        root: Folder with ``AA/BBB.zip``.
        max_open: Archives open at once.
        folder: Where the index is, by default beside the archives; an archive that it lacks is read as it is used.
    """

    def __init__(self, root: str | Path, max_open: int = 64, folder: Path | None = None) -> None:
        if max_open < 1:
            raise ValueError(f"need max_open >= 1 archive; got {max_open}")
        self.root = Path(root)
        self.max_open = max_open
        self.index = ZipIndex(self.root, folder or self.root / FOLDER)
        self._file = lru_cache(maxsize=max_open)(partial(_open_archive, self.root))

    def read(self, image_id: str) -> bytes:
        """The bytes of one photo.

        Raises:
            OSError: the archive or the photo is missing, or its bytes are not those that were packed.
            ValueError: the archive is no zip file, or the photo is too large.
        """
        archive, member = divmod(int(image_id), PER_ARCHIVE)
        photos = self.index.photos(archive)
        path = archive_path(self.root, archive)
        if member >= len(photos) or photos[member]["high"] == ABSENT:
            raise FileNotFoundError(f"{path} holds no {member:03d}.jpg")
        low, high, stored, size, checksum = photos[member].item()
        refuse_too_large(max(stored, size))
        offset = high * 2**32 + low
        file = self._file(archive, os.getpid())
        signature, method, name_size, extra_size = LOCAL_HEADER.unpack(file.read_at(offset, LOCAL_HEADER.size))
        if signature != b"PK\x03\x04":
            raise OSError(f"{path} has no photo where its directory says that {member:03d}.jpg is")
        start = offset + LOCAL_HEADER.size + name_size + extra_size
        content = _unpack(file.read_at(start, stored), method, size)
        if zlib.crc32(content) != checksum:
            raise OSError(f"{member:03d}.jpg in {path} does not have the checksum it was packed with")
        return content

    def sizes(self, image_ids: Sequence[str]) -> NDArray[np.int64]:
        """Unpacked bytes of each photo, (n,); -1 for one that no readable archive holds."""
        numbers = image_ids.numbers if isinstance(image_ids, NumberedIds) else np.array([int(i) for i in image_ids])
        return self.index.sizes(numbers)

    def written(self, image_ids: Sequence[str]) -> NDArray[np.int64]:
        """When the archives that hold these photos were last changed, ns, by their number; -1 for one not there."""
        numbers = image_ids.numbers if isinstance(image_ids, NumberedIds) else np.array([int(i) for i in image_ids])
        archives = np.unique(np.asarray(numbers) // PER_ARCHIVE)
        return np.array([changed_at(archive_path(self.root, int(n))) for n in archives], dtype=np.int64)

    def __getstate__(self) -> dict[str, object]:
        return {"root": self.root, "max_open": self.max_open, "folder": self.index.folder}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__init__(**state)  # type: ignore[misc]


def is_yfcc(path: str | Path) -> bool:
    """Whether ``path`` is a folder with at least one ``AA/BBB.zip``."""
    return next(find_archives(Path(path)), None) is not None


def open_yfcc(root: str | Path, *, usable_ids: ArrayLike | None = None, cache: Path | None = None) -> ImageSet:
    """The photos in the archives below ``root``.

    Where each photo is comes from an index that is built on the first call, and kept beside the archives (see
    :func:`dclib.data.zip_index.open_index`).

    Args:
        root: Folder with ``AA/BBB.zip``. Any part of YFCC100M will do.
        usable_ids: (n,) photo numbers to use, in this order; without it ``usable_ids.npy``, else every photo.
            Numbers whose archive is not there are left out; a photo missing inside an archive, or in one that
            cannot be read, shows as unreadable.
        cache: Folder for the index where ``root`` cannot be written.

    Returns:
        The set; ids are the eight digits. It has labels where ``hidden_classes.tsv`` is (number, tab, class).

    Raises:
        ValueError: no archive or no photo is there, an archive cannot be read and no usable ids say what it should
            hold, a usable id is no photo number or comes twice, or a photo has no hidden class.
    """
    root = Path(root)
    archives = np.array(sorted(find_archives(root)), dtype=np.int64)
    if not len(archives):
        raise ValueError(f"no archives in {root}: need zip files named AA/BBB.zip (digits), such as 00/000.zip")
    if usable_ids is None and (root / "usable_ids.npy").is_file():
        usable_ids = _load_numbers(root / "usable_ids.npy")
    if usable_ids is None:
        index = open_index(root, archives, cache)
        numbers = np.concatenate([a * PER_ARCHIVE + index.members(a) for a in archives.tolist()])
    else:
        numbers = _check_numbers(np.asarray(usable_ids))
        is_there = np.zeros(N_NUMBERS // PER_ARCHIVE, dtype=bool)
        is_there[archives] = True
        numbers = numbers[is_there[numbers // PER_ARCHIVE]]
        index = open_index(root, np.unique(numbers // PER_ARCHIVE), cache)
    if not len(numbers):
        held = "archives hold no CCC.jpg" if usable_ids is None else "none of the usable ids is in them"
        raise ValueError(f"no photos in {root}: {len(archives)} archives are there, but {held}")
    labels, classes = _read_hidden_classes(root / "hidden_classes.tsv", numbers)
    reader = ZipReader(root, folder=index.folder)
    return ImageSet(root.resolve().name, NumberedIds(numbers, 8), reader, labels, classes)


def _open_archive(root: Path, archive: int, process: int) -> OpenFile:
    """``process`` is part of the cache's key: a forked child opens its own."""
    return OpenFile(archive_path(root, archive))


def _unpack(stored: bytes, method: int, size: int) -> bytes:
    """The photo, which has ``size`` bytes by the archive's list: no more than that and one are unpacked."""
    if method == zipfile.ZIP_STORED:
        return stored
    if method != zipfile.ZIP_DEFLATED:
        raise OSError(f"packed by zip method {method}; only stored (0) and deflated (8) photos can be read")
    try:
        unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
        content = unpacker.decompress(stored, size + 1)
        if not unpacker.eof:
            raise zlib.error(f"it does not end with the {size:,} bytes that its archive lists")
        return content
    except zlib.error as error:
        raise OSError(f"does not unpack: {error}") from None


def _load_numbers(path: Path) -> NDArray[np.int64]:
    try:
        return _check_numbers(load_array(path))
    except ValueError as error:
        raise ValueError(f"{path} must be a NumPy file with one vector of photo numbers: {error}") from None


def _check_numbers(numbers: NDArray[np.generic]) -> NDArray[np.int64]:
    """``numbers`` as int64 where they are different photo numbers; ValueError otherwise."""
    if numbers.ndim != 1 or not np.issubdtype(numbers.dtype, np.integer):
        raise ValueError(f"usable ids must be a vector of integers; got {numbers.dtype} of shape {numbers.shape}")
    checked = numbers.astype(np.int64)
    if len(checked) and not (checked.min() >= 0 and checked.max() < N_NUMBERS):
        raise ValueError(f"usable ids must have at most eight digits; they span {checked.min()} to {checked.max()}")
    is_sorted = bool(np.all(np.diff(checked) > 0))  # the usual case, and a hundred times quicker to see
    if not is_sorted and len(np.unique(checked)) < len(checked):
        raise ValueError(f"usable ids name {len(checked) - len(np.unique(checked))} photos more than once")
    return checked


def _read_hidden_classes(path: Path, numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64] | None, tuple[str, ...]]:
    """Labels (n,) and class names from number-tab-class lines; a first line without a number is a header."""
    if not path.is_file():
        return None, ()
    listed, codes, names = _parse_hidden_classes(path)
    order = np.argsort(listed, kind="stable")
    places = np.searchsorted(listed, numbers, side="right", sorter=order) - 1  # the last of several lines counts
    is_named = places >= 0
    is_named[is_named] = listed[order[places[is_named]]] == numbers[is_named]
    if not is_named.all():
        missing = numbers[~is_named]
        raise ValueError(f"{path} gives no class for {len(missing)} of {len(numbers)} photos, first {missing[0]:08d}")
    classes, rank = np.unique(names, return_inverse=True)
    used, labels = np.unique(rank[codes[order[places]]], return_inverse=True)
    return labels.astype(np.int64), tuple(classes[used].tolist())


def _parse_hidden_classes(path: Path) -> tuple[NDArray[np.uint32], NDArray[np.int32], list[str]]:
    """The photo numbers (m,) that a file lists, the code of each one's class (m,), and the class of each code."""
    listed, codes, code_of = array("I"), array("i"), dict[str, int]()  # 8 bytes a line: there may be 100 million
    for i, line in enumerate(iterate_lines(path)):
        number, _, name = (part.strip('" ') for part in line.partition("\t"))
        if number.isdecimal() and name.strip() and int(number[:12]) < N_NUMBERS:
            listed.append(int(number))
            codes.append(code_of.setdefault(name.strip(), len(code_of)))
        elif i > 0 and line.strip():
            raise ValueError(f"{path}, line {i + 1}: need a photo number, a tab and a class; got {line[:SHOWN]!r}")
    return np.array(listed, dtype=np.uint32), np.array(codes, dtype=np.int32), list(code_of)
