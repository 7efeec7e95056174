"""Where each photo lies in its archive, kept on disk: the lists at the ends of 100,000 zip files, read once.

The index has one file for each folder ``AA`` of archives: a table of its thousand archives, then 17 bytes for each
photo, so 1.7 GB for all of YFCC100M. The files are mapped into memory, so that all processes share their pages and
none holds a copy. An archive is recognised by its size and its time of modification; one that is new or has changed
is read again, alone. A file is replaced as a whole, so any number of processes may build at once.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import re
import shutil
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from dclib.records import replacing

PER_ARCHIVE = 1000
PER_FOLDER = 1000
FOLDER = "zip_index"  # beside the archives, where that can be written
THREADS = 16  # archives read at a time: their lists are small, and a file system is slow to answer

# offsets have five bytes: archives may have a tebibyte. One row per CCC up to the largest in the archive.
PHOTO = np.dtype([("low", "<u4"), ("high", "u1"), ("stored", "<u4"), ("size", "<u4"), ("checksum", "<u4")])
MOST_OFFSET = 255 * 2**32
ABSENT = 255  # in "high": the archive has no such photo
ARCHIVE = np.dtype([("bytes", "<i8"), ("modified", "<i8"), ("start", "<u4"), ("photos", "<i4")])
BROKEN, UNREAD = -1, -2  # in "photos": it is no zip file; its list has not been read
STAMP = np.dtype([("archive", "<i8"), ("bytes", "<i8"), ("modified", "<i8")])
MAGIC = b"zipidx01"
HEAD = len(MAGIC) + PER_FOLDER * ARCHIVE.itemsize  # bytes before the photos


class Part(NamedTuple):
    """The index of one folder ``AA``."""

    archives: NDArray[np.void]  # (1000,) of ARCHIVE, one per BBB
    photos: NDArray[np.void]  # (k,) of PHOTO; an archive's are those from "start" on


class ZipIndex:
    """Finds photos by number in an index; reads an archive that is not in it.

    Nothing is open before its first use, and nothing goes along with a pickle but two paths.
    """

    def __init__(self, root: Path, folder: Path) -> None:
        self.root, self.folder = root, folder
        self._part = lru_cache(maxsize=None)(partial(_open_part, folder))
        self._unindexed = lru_cache(maxsize=64)(partial(read_directory, root))

    def photos(self, archive: int) -> NDArray[np.void]:
        """What an archive holds: (k,) of PHOTO, a row for each CCC below k.

        Raises:
            OSError: there is no such archive.
            ValueError: it is no zip file, or its photos are encrypted.
        """
        part = self._part(archive // PER_FOLDER)
        entry = part.archives[archive % PER_FOLDER]
        if entry["photos"] < 0:  # reading it says what is wrong with a broken one
            return self._unindexed(archive)
        return part.photos[entry["start"] : entry["start"] + entry["photos"]]

    def members(self, archive: int) -> NDArray[np.int64]:
        """The CCC of the photos in an archive. Raises as :meth:`photos`."""
        return np.flatnonzero(self.photos(archive)["high"] != ABSENT)

    def sizes(self, numbers: NDArray[np.integer]) -> NDArray[np.int64]:
        """Unpacked bytes of each photo (n,); -1 for one that is in no readable archive."""
        sizes = np.full(len(numbers), -1, dtype=np.int64)
        folders, within = np.divmod(numbers.astype(np.int64), PER_FOLDER * PER_ARCHIVE)
        for folder in np.unique(folders).tolist():
            chosen = np.flatnonzero(folders == folder)
            archives, members = np.divmod(within[chosen], PER_ARCHIVE)
            part = self._part(folder)
            entries = part.archives[archives]
            known = members < entries["photos"]
            sizes[chosen[known]] = _sizes_at(part.photos, entries["start"][known].astype(np.int64) + members[known])
            for archive in np.unique(archives[entries["photos"] == UNREAD]).tolist():
                here = archives == archive
                sizes[chosen[here]] = self._unindexed_sizes(folder * PER_FOLDER + archive, members[here])
        return sizes

    def _unindexed_sizes(self, archive: int, members: NDArray[np.int64]) -> NDArray[np.int64]:
        sizes = np.full(len(members), -1, dtype=np.int64)
        try:
            photos = self._unindexed(archive)
        except (OSError, ValueError):
            return sizes
        known = members < len(photos)
        sizes[known] = _sizes_at(photos, members[known])
        return sizes

    def __getstate__(self) -> dict[str, Path]:
        return {"root": self.root, "folder": self.folder}

    def __setstate__(self, state: dict[str, Path]) -> None:
        self.__init__(**state)  # type: ignore[misc]


def open_index(root: Path, archives: NDArray[np.int64], cache: Path | None = None) -> ZipIndex:
    """The index of these archives (numbers AABBB), brought up to date where it is not.

    It is kept in ``root/zip_index``; where that cannot be written, in a folder of its own below ``cache``; without
    either, in a temporary folder for as long as the process lives, and a warning says so. A bar shows the progress
    on a terminal.

    Raises:
        OSError: the disk is full, or an archive has gone since it was listed.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        stamps = np.array(list(pool.map(partial(_stamp, root), archives.tolist())), dtype=STAMP)
        for folder in _folders(root, cache):
            stale = _stale(folder, stamps)
            if not len(stale):
                return ZipIndex(root, folder)
            if _is_writable(folder):
                break
        else:
            folder = _temporary_folder(root)
            stale = stamps
        with tqdm(total=len(stale), desc="index", unit="zip", leave=False, disable=not sys.stderr.isatty()) as bar:
            for number in np.unique(stale["archive"] // PER_FOLDER).tolist():
                of_folder = stale[stale["archive"] // PER_FOLDER == number]
                _update_part(root, folder, number, of_folder, pool)
                bar.update(len(of_folder))
    return ZipIndex(root, folder)


def find_archives(root: Path) -> Iterator[int]:
    """Numbers AABBB of the archives there are, in no order."""
    for folder in root.iterdir() if root.is_dir() else ():
        if re.fullmatch("[0-9]{2}", folder.name) and folder.is_dir():
            for name in os.listdir(folder):
                if re.fullmatch(r"[0-9]{3}\.zip", name):
                    yield PER_FOLDER * int(folder.name) + int(name[:3])


def archive_path(root: Path, archive: int) -> Path:
    """Where archive number ``AABBB`` is."""
    return root / f"{archive // PER_FOLDER:02d}" / f"{archive % PER_FOLDER:03d}.zip"


def read_directory(root: Path, archive: int) -> NDArray[np.void]:
    """The list at the end of an archive: (k,) of PHOTO, one row for each CCC up to the largest.

    Raises:
        FileNotFoundError: there is no such archive.
        ValueError: it is no zip file, or its photos are encrypted.
    """
    path = archive_path(root, archive)
    try:
        with zipfile.ZipFile(path) as file:
            members = {int(m.filename[:3]): m for m in file.infolist() if re.fullmatch(r"[0-9]{3}\.jpg", m.filename)}
    except (OSError, MemoryError):
        raise
    except Exception as error:  # zipfile raises nearly anything on broken bytes
        raise ValueError(f"{path} cannot be read: {error}; fetch it again, or remove it to go without it") from None
    if any(member.flag_bits & 1 for member in members.values()):
        raise ValueError(f"{path} is encrypted; pack it without a password")
    if any(
        member.header_offset >= MOST_OFFSET or max(member.file_size, member.compress_size) >= 2**32
        for member in members.values()
    ):
        raise ValueError(f"{path} lists a photo of 4 GiB or behind its first tebibyte: it is damaged; fetch it again")
    photos = np.zeros(max(members, default=-1) + 1, dtype=PHOTO)
    photos["high"] = ABSENT
    for number, member in members.items():
        high, low = divmod(member.header_offset, 2**32)
        photos[number] = (low, high, member.compress_size, member.file_size, member.CRC)
    return photos


def _sizes_at(photos: NDArray[np.void], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    found = photos[rows]
    return np.where(found["high"] == ABSENT, -1, found["size"].astype(np.int64))


def _stamp(root: Path, archive: int) -> tuple[int, int, int]:
    status = archive_path(root, archive).stat()
    return archive, status.st_size, status.st_mtime_ns


def _folders(root: Path, cache: Path | None) -> list[Path]:
    """Where an index may be, in the order of preference."""
    name = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:12]
    return [root / FOLDER, *([cache / f"{FOLDER}-{name}"] if cache else [])]


def _is_writable(folder: Path) -> bool:
    try:
        if not folder.is_dir():
            folder.parent.mkdir(parents=True, exist_ok=True)
            times = folder.parent.stat()
            folder.mkdir(exist_ok=True)
            with suppress(PermissionError):  # who may write need not be the owner
                os.utime(folder.parent, ns=(times.st_atime_ns, times.st_mtime_ns))  # the images have not changed
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _temporary_folder(root: Path) -> Path:
    warnings.warn(
        f"the index of {root} cannot be kept beside the archives: it is built anew in every process; make "
        f"{root / FOLDER} a folder that can be written, or give a cache",
        stacklevel=2,
    )
    folder = Path(tempfile.mkdtemp(prefix=f"{FOLDER}-"))
    atexit.register(_remove_from, os.getpid(), folder)
    return folder


def _remove_from(process: int, folder: Path) -> None:
    if os.getpid() == process:  # a forked child is not the one to do it
        shutil.rmtree(folder, ignore_errors=True)


def _part_path(folder: Path, number: int) -> Path:
    return folder / f"{number:02d}.index"


def _open_part(folder: Path, number: int) -> Part:
    """The index of folder ``AA``; an empty one where there is none, or none of this format."""
    path = _part_path(folder, number)
    try:
        content = np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))
    except (OSError, ValueError):  # it is not there, or is empty
        content = np.zeros(0, dtype=np.uint8)
    if len(content) >= HEAD and content[: len(MAGIC)].tobytes() == MAGIC:
        archives = content[len(MAGIC) : HEAD].view(ARCHIVE)
        if len(content) == HEAD + PHOTO.itemsize * int(archives["photos"].clip(0).sum()):
            return Part(archives, content[HEAD:].view(PHOTO))
    nothing = np.zeros(PER_FOLDER, dtype=ARCHIVE)
    nothing["photos"] = UNREAD
    return Part(nothing, np.zeros(0, dtype=PHOTO))


def _stale(folder: Path, stamps: NDArray[np.void]) -> NDArray[np.void]:
    """Those of the archives that the index does not know as they are now."""
    is_stale = np.ones(len(stamps), dtype=bool)
    numbers = stamps["archive"] // PER_FOLDER
    for number in np.unique(numbers).tolist():
        here = numbers == number
        entries = _open_part(folder, number).archives[stamps["archive"][here] % PER_FOLDER]
        same = (entries["bytes"] == stamps["bytes"][here]) & (entries["modified"] == stamps["modified"][here])
        is_stale[here] = ~same | (entries["photos"] == UNREAD)
    return stamps[is_stale]


def _update_part(root: Path, folder: Path, number: int, stamps: NDArray[np.void], pool: Executor) -> None:
    """Read the lists of these archives, unless another process has in the meantime, and keep all others."""
    stamps = _stale(folder, stamps)
    if not len(stamps):
        return
    old = _open_part(folder, number)
    archives = old.archives.copy()
    rows = {i: old.photos[e["start"] : e["start"] + e["photos"]] for i, e in enumerate(archives) if e["photos"] > 0}
    lists = pool.map(partial(_try_to_read, root), stamps["archive"].tolist())
    for stamp, (mark, photos) in zip(stamps, lists, strict=True):
        place = int(stamp["archive"]) % PER_FOLDER
        archives[place] = (stamp["bytes"], stamp["modified"], 0, mark)
        rows[place] = photos
    counts = archives["photos"].clip(0)
    archives["start"] = np.cumsum(counts) - counts
    with replacing(_part_path(folder, number)) as file:
        file.write(MAGIC + archives.tobytes())
        for place in sorted(rows):
            file.write(rows[place].tobytes())


def _try_to_read(root: Path, archive: int) -> tuple[int, NDArray[np.void]]:
    """How many rows an archive's list has, and they; or the mark of one that has none."""
    try:
        photos = read_directory(root, archive)
        return len(photos), photos
    except ValueError:
        return BROKEN, np.zeros(0, dtype=PHOTO)
    except OSError:  # not the archive's fault: it is tried again when the set is opened next
        return UNREAD, np.zeros(0, dtype=PHOTO)
