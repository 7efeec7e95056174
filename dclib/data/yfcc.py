"""YFCC100M as it is stored: zip archives of a thousand photos each, and a table of metadata.

Photo ``AABBBCCC`` (its number, in eight digits) is the file ``CCC.jpg`` inside the archive ``AA/BBB.zip``.
Two files beside the archives are optional: ``usable_ids.npy``, the numbers worth using, and
``hidden_classes.tsv``, a class for each photo that is for display only.
"""

from __future__ import annotations

import bz2
import math
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import TextIO
from urllib.parse import unquote_plus

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


# Metadata: yfcc100m_dataset, one line per photo


@dataclass(frozen=True, slots=True)
class PhotoMetadata:
    """One line of ``yfcc100m_dataset``, its text decoded."""

    line: int  # from 0, so that lines left out shift nothing
    identifier: int  # Flickr's number of the photo or video
    user_id: str
    user_nickname: str
    date_taken: datetime | None  # by the camera's clock, which may say 4501; None where it does not parse
    date_uploaded: datetime | None  # UTC
    capture_device: str  # "" where unknown, as with all text
    title: str
    description: str
    user_tags: tuple[str, ...]
    machine_tags: tuple[str, ...]
    longitude: float  # degrees, NaN where unknown
    latitude: float
    accuracy: int  # Flickr's level, 1 (world) to 16 (street); 0 where unknown
    page_url: str
    download_url: str
    licence_name: str
    licence_url: str
    server_id: str
    farm_id: str
    secret: str
    secret_original: str
    extension: str
    is_video: bool

    @property
    def is_located(self) -> bool:
        """Whether the coordinates are known."""
        return not (math.isnan(self.longitude) or math.isnan(self.latitude))


N_COLUMNS = 23


@dataclass(frozen=True)
class MetadataTable:
    """The lines of a metadata file that could be read, in order, and what was wrong with the others."""

    photos: tuple[PhotoMetadata, ...]
    bad_lines: tuple[tuple[int, str], ...] = ()  # number from 0, and what is wrong

    def __len__(self) -> int:
        return len(self.photos)

    def __iter__(self) -> Iterator[PhotoMetadata]:
        return iter(self.photos)

    def __getitem__(self, index: int) -> PhotoMetadata:
        return self.photos[index]

    def column(self, name: str) -> list[object]:
        """One field of every photo."""
        return [getattr(photo, name) for photo in self.photos]


def read_metadata(path: str | Path, *, lines: Collection[int] | None = None, max_bad: float = 0.01) -> MetadataTable:
    """Read a metadata table of 23 tab-separated columns without a header.

    Args:
        path: The file, plain or compressed (``.bz2``).
        lines: Keep these lines only, counted from 0; reading stops after the last of them. The whole
            table has 10^8 lines, which take 2 kB of memory each.
        max_bad: Share of lines that may be malformed. Those are left out and reported in ``bad_lines``.

    Raises:
        ValueError: the file is missing or empty, or more lines are malformed; the message shows the first.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"no metadata at {path}: need a file of {N_COLUMNS} tab-separated columns")
    photos, bad_lines = [], []
    with _open_text(path) as file:
        for number, text in _chosen(file, lines):
            try:
                photos.append(parse_metadata(text, number))
            except ValueError as error:
                bad_lines.append((number, str(error)))
    n_lines = len(photos) + len(bad_lines)
    if not n_lines:
        raise ValueError(f"no metadata in {path}: it has {'no lines' if lines is None else 'none of the chosen lines'}")
    if len(bad_lines) > max_bad * n_lines:
        number, reason = bad_lines[0]
        raise ValueError(
            f"{len(bad_lines)} of {n_lines} lines of {path} cannot be read, more than the {max_bad:.2%} "
            f"allowed; line {number + 1}: {reason}"
        )
    return MetadataTable(tuple(photos), tuple(bad_lines))


def parse_metadata(text: str, line: int = 0) -> PhotoMetadata:
    """One line of the table. Raises ValueError where columns are missing or hold what they cannot mean."""
    fields = text.rstrip("\r\n").split("\t")
    if len(fields) != N_COLUMNS:
        raise ValueError(f"need {N_COLUMNS} columns, got {len(fields)}")
    if not fields[0].isdecimal() or fields[22] not in ("0", "1"):
        raise ValueError(f"need a photo number first and 0 or 1 last, got {fields[0]!r} and {fields[22]!r}")
    return PhotoMetadata(
        line=line,
        identifier=int(fields[0]),
        user_id=fields[1],
        user_nickname=unquote_plus(fields[2]),
        date_taken=_parse_date(fields[3]),
        date_uploaded=_parse_seconds(fields[4]),
        capture_device=unquote_plus(fields[5]),
        title=unquote_plus(fields[6]),
        description=unquote_plus(fields[7]),
        user_tags=_parse_tags(fields[8]),
        machine_tags=_parse_tags(fields[9]),
        longitude=_parse_degrees(fields[10], 180, "longitude"),
        latitude=_parse_degrees(fields[11], 90, "latitude"),
        accuracy=int(fields[12]) if fields[12].isdecimal() else 0,
        page_url=fields[13],
        download_url=fields[14],
        licence_name=fields[15],
        licence_url=fields[16],
        server_id=fields[17],
        farm_id=fields[18],
        secret=fields[19],
        secret_original=fields[20],
        extension=fields[21],
        is_video=fields[22] == "1",
    )


def _open_text(path: Path) -> TextIO:
    # the table separates lines by \n alone; broken UTF-8 in one title must not cost the table
    opener = bz2.open if path.suffix == ".bz2" else open
    return opener(path, "rt", encoding="utf-8", errors="replace", newline="\n")


def _chosen(file: Iterable[str], lines: Collection[int] | None) -> Iterator[tuple[int, str]]:
    if lines is None:
        return ((number, text) for number, text in enumerate(file) if text.strip())
    wanted = frozenset(lines)
    return ((n, text) for n, text in enumerate(islice(file, max(wanted, default=-1) + 1)) if n in wanted)


def _parse_tags(text: str) -> tuple[str, ...]:
    # a comma inside a tag is encoded, so the split comes first
    return tuple(unquote_plus(tag) for tag in text.split(",") if tag)


def _parse_degrees(text: str, limit: int, what: str) -> float:
    if not text:
        return math.nan
    try:
        degrees = float(text)
    except ValueError:
        degrees = math.nan
    if not abs(degrees) <= limit:
        raise ValueError(f"need a {what} within {limit} degrees, got {text!r}")
    return degrees


def _parse_date(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text.removesuffix(".0"))
    except ValueError:
        return None


def _parse_seconds(text: str) -> datetime | None:
    try:
        return datetime.fromtimestamp(int(text), UTC)
    except (ValueError, OverflowError, OSError):
        return None
