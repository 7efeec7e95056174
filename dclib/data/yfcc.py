"""YFCC100M as it is stored: zip archives of a thousand photos each. Its metadata is in ``yfcc_metadata``.

Photo ``AABBBCCC`` (its number, in eight digits) is the file ``CCC.jpg`` inside the archive ``AA/BBB.zip``.
Two files beside the archives are optional: ``usable_ids.npy``, the numbers worth using, and
``hidden_classes.tsv``, a class for each photo that is for display only.
"""

from __future__ import annotations

import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dclib.data.folders import OpenFile
from dclib.data.images import ImageSet, NumberedIds, labels_from_names

PER_ARCHIVE = 1000
N_NUMBERS = 100 * 1000 * PER_ARCHIVE  # what eight digits can tell apart
ABSENT = 255  # in the column "method" of an index: no zip method has this number

# One row per CCC, of 21 bytes: 2.1 GB for a process that has visited every archive of YFCC100M.
INDEX_DTYPE = np.dtype([("offset", "<i8"), ("stored", "<u4"), ("size", "<u4"), ("checksum", "<u4"), ("method", "u1")])
LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, then the lengths of the name and of the extra field


class ZipReader:
    """Reads photos out of the archives by their number.

    The directory of an archive is read once and kept; a read is then two positioned reads of one file, which
    stays open as long as it is among the ``max_open`` used last. Nothing that is open crosses a fork or a
    pickle, and threads may share a reader.
    """

    def __init__(self, root: str | Path, max_open: int = 64) -> None:
        if max_open < 1:
            raise ValueError(f"need max_open >= 1 archive; got {max_open}")
        self.root = Path(root)
        self.max_open = max_open
        self._index = lru_cache(maxsize=None)(partial(read_index, self.root))
        self._file = lru_cache(maxsize=max_open)(partial(_open_archive, self.root))

    def read(self, image_id: str) -> bytes:
        """The bytes of one photo.

        Raises:
            OSError: the archive or the photo is missing, or its bytes are not those that were packed.
            ValueError: the archive is no zip file.
        """
        archive, member = divmod(int(image_id), PER_ARCHIVE)
        row = self._index(archive)[member]
        path = archive_path(self.root, archive)
        if row["method"] == ABSENT:
            raise FileNotFoundError(f"{path} holds no {member:03d}.jpg")
        file = self._file(archive, os.getpid())
        signature, name_size, extra_size = LOCAL_HEADER.unpack(file.read_at(int(row["offset"]), LOCAL_HEADER.size))
        if signature != b"PK\x03\x04":
            raise OSError(f"{path} has no photo where its directory says that {member:03d}.jpg is")
        start = int(row["offset"]) + LOCAL_HEADER.size + name_size + extra_size
        content = _unpack(file.read_at(start, int(row["stored"])), int(row["method"]))
        if zlib.crc32(content) != row["checksum"]:
            raise OSError(f"{member:03d}.jpg in {path} does not have the checksum it was packed with")
        return content

    def sizes(self, image_ids: Sequence[str]) -> NDArray[np.int64]:
        """Unpacked bytes of each photo, (n,); -1 for one that its archive does not hold."""
        numbers = image_ids.numbers if isinstance(image_ids, NumberedIds) else np.array([int(i) for i in image_ids])
        archives, members = np.divmod(numbers.astype(np.int64), PER_ARCHIVE)
        sizes = np.empty(len(numbers), dtype=np.int64)
        order = np.argsort(archives, kind="stable")
        starts = np.flatnonzero(np.diff(archives[order], prepend=-1))
        for rows in np.split(order, starts[1:]) if len(order) else []:
            found = self._index(int(archives[rows[0]]))[members[rows]]
            sizes[rows] = np.where(found["method"] == ABSENT, -1, found["size"].astype(np.int64))
        return sizes

    def __getstate__(self) -> dict[str, object]:
        return {"root": self.root, "max_open": self.max_open}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__init__(**state)  # type: ignore[misc]


def is_yfcc(path: str | Path) -> bool:
    """Whether ``path`` is a folder with at least one ``AA/BBB.zip``."""
    return next(_find_archives(Path(path)), None) is not None


def open_yfcc(root: str | Path, *, usable_ids: ArrayLike | None = None) -> ImageSet:
    """The photos in the archives below ``root``.

    Args:
        root: Folder with ``AA/BBB.zip``. Any part of YFCC100M will do.
        usable_ids: (n,) photo numbers to use, in this order; without it ``usable_ids.npy``, else every photo.
            Numbers whose archive is not there are left out. The directories of the archives are then not read
            before they are needed, so that a photo missing inside one shows as unreadable.

    Returns:
        The set; ids are the eight digits. It has labels where ``hidden_classes.tsv`` is (number, tab, class).

    Raises:
        ValueError: no archive or no photo is there, an archive cannot be read, a usable id is no photo number
            or comes twice, or a photo has no hidden class.
    """
    root = Path(root)
    archives = np.array(sorted(_find_archives(root)), dtype=np.int64)
    if not len(archives):
        raise ValueError(f"no archives in {root}: need zip files named AA/BBB.zip (digits), such as 00/000.zip")
    reader = ZipReader(root)
    if usable_ids is None and (root / "usable_ids.npy").is_file():
        usable_ids = _load_numbers(root / "usable_ids.npy")
    if usable_ids is None:
        numbers = np.concatenate([a * PER_ARCHIVE + _members(reader, int(a)) for a in archives])
    else:
        numbers = _check_numbers(np.asarray(usable_ids))
        numbers = numbers[np.isin(numbers // PER_ARCHIVE, archives)]
    if not len(numbers):
        held = "archives hold no CCC.jpg" if usable_ids is None else "none of the usable ids is in them"
        raise ValueError(f"no photos in {root}: {len(archives)} archives are there, but {held}")
    labels, classes = _read_hidden_classes(root / "hidden_classes.tsv", numbers)
    return ImageSet(root.resolve().name, NumberedIds(numbers, 8), reader, labels, classes)


def archive_path(root: Path, archive: int) -> Path:
    """Where archive number ``AABBB`` is."""
    return root / f"{archive // 1000:02d}" / f"{archive % 1000:03d}.zip"


def read_index(root: Path, archive: int) -> NDArray[np.void]:
    """The directory of an archive as a (1000,) array of INDEX_DTYPE, one row per CCC.

    Raises:
        FileNotFoundError: there is no such archive.
        ValueError: it is no zip file, or its photos are encrypted.
    """
    path = archive_path(root, archive)
    index = np.zeros(PER_ARCHIVE, dtype=INDEX_DTYPE)
    index["method"] = ABSENT
    try:
        with zipfile.ZipFile(path) as file:
            members = file.infolist()
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} cannot be read: {error}; fetch it again, or remove it to go without it") from None
    for member in members:
        if re.fullmatch(r"[0-9]{3}\.jpg", member.filename):
            if member.flag_bits & 1:
                raise ValueError(f"{path} is encrypted; pack it without a password")
            row = (
                member.header_offset,
                member.compress_size,
                member.file_size,
                member.CRC,
                member.compress_type,
            )
            index[int(member.filename[:3])] = row
    return index


def _members(reader: ZipReader, archive: int) -> NDArray[np.int64]:
    return np.flatnonzero(reader._index(archive)["method"] != ABSENT)


def _find_archives(root: Path) -> Iterator[int]:
    """Numbers AABBB of the archives there are, in no order."""
    for folder in root.iterdir() if root.is_dir() else ():
        if re.fullmatch("[0-9]{2}", folder.name) and folder.is_dir():
            for name in os.listdir(folder):
                if re.fullmatch(r"[0-9]{3}\.zip", name):
                    yield 1000 * int(folder.name) + int(name[:3])


def _open_archive(root: Path, archive: int, process: int) -> OpenFile:
    """``process`` is part of the cache's key: a forked child opens its own."""
    return OpenFile(archive_path(root, archive))


def _unpack(stored: bytes, method: int) -> bytes:
    if method == zipfile.ZIP_STORED:
        return stored
    if method != zipfile.ZIP_DEFLATED:
        raise OSError(f"packed by zip method {method}; only stored (0) and deflated (8) photos can be read")
    try:
        return zlib.decompress(stored, wbits=-zlib.MAX_WBITS)
    except zlib.error as error:
        raise OSError(f"does not unpack: {error}") from None


def _load_numbers(path: Path) -> NDArray[np.generic]:
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
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
    class_of = {}
    for i, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
        number, tab, name = line.partition("\t")
        if tab and number.isdecimal() and name.strip():
            class_of[int(number)] = name.strip()
        elif i > 0 and line.strip():
            raise ValueError(f"{path}, line {i + 1}: need a photo number, a tab and a class; got {line!r}")
    missing = [number for number in numbers.tolist() if number not in class_of]
    if missing:
        raise ValueError(f"{path} gives no class for {len(missing)} of {len(numbers)} photos, first {missing[0]:08d}")
    return labels_from_names([class_of[number] for number in numbers.tolist()])
