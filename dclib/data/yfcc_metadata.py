"""YFCC100M's metadata: ``yfcc100m_dataset``, one line per photo or video, plain or bz2.

A line has 23 columns, or, as the table was handed out in one file, 25: the number of the line stands before the
photo's number and a hash of it behind. Eight lines in a thousand are about videos. They are left out where photographs
are read, and their number is kept.
"""

from __future__ import annotations

import bz2
import math
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TextIO
from urllib.parse import unquote_plus

from dclib.data.images import ImageSet
from dclib.reading import encoding_of


@dataclass(frozen=True, slots=True)
class PhotoMetadata:
    """One line of ``yfcc100m_dataset``, its text decoded."""

    line: int  # from 0, so that lines left out shift nothing; as a line says itself where it does
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

    @property
    def hashtags(self) -> list[str]:
        """The photograph's hashtags as they are counted, each once, by the alphabet; machine tags left out."""
        return sorted({normalise_tag(tag) for tag in self.user_tags} - {""})


METADATA_FILES = ("yfcc100m_dataset.tsv", "yfcc100m_dataset", "yfcc100m_dataset.bz2")  # where it lies beside photos
N_COLUMNS = 23
BZ2_RATIO = 4  # text to compressed text, about
N_NUMBERED = 25  # columns where each line has its number and a hash
DIGITS = 18  # of a photo's number: what 64 bits hold
SHOWN = 40  # characters of a field that is wrong
CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")  # that no page and no table shows
STREET = 16  # Flickr's closest level of accuracy


class ParsedLines(NamedTuple):
    """What some lines hold."""

    photos: list[PhotoMetadata]
    bad_lines: list[tuple[int, str]]  # number from 0, and what is wrong
    n_videos: int


@dataclass(frozen=True)
class MetadataTable:
    """The photographs of a metadata file, in order, and what was wrong with lines that could not be read."""

    photos: tuple[PhotoMetadata, ...]
    bad_lines: tuple[tuple[int, str], ...] = ()  # number from 0, and what is wrong
    n_videos: int = 0  # lines about videos, left out

    def __len__(self) -> int:
        return len(self.photos)

    @property
    def n_bad(self) -> int:
        """Lines that could not be read."""
        return len(self.bad_lines)

    def __iter__(self) -> Iterator[PhotoMetadata]:
        return iter(self.photos)

    def __getitem__(self, index: int) -> PhotoMetadata:
        return self.photos[index]

    def column(self, name: str) -> list[object]:
        """One field of every photo."""
        return [getattr(photo, name) for photo in self.photos]


def read_metadata(path: str | Path, *, lines: Collection[int] | None = None, max_bad: float = 0.01) -> MetadataTable:
    """Read a metadata table of 23 or 25 tab-separated columns without a header.

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
        raise ValueError(f"no metadata at {path}: need a file of {N_COLUMNS} or {N_NUMBERED} tab-separated columns")
    try:
        with _open_text(path) as file:
            photos, bad_lines, n_videos = parse_lines(_chosen(file, lines))
    except (EOFError, OSError, UnicodeError) as error:
        raise ValueError(f"{path} cannot be read to its end: {error}; fetch it again") from None
    n_lines = len(photos) + len(bad_lines) + n_videos
    if not n_lines:
        raise ValueError(f"no metadata in {path}: it has {'no lines' if lines is None else 'none of the chosen lines'}")
    refuse_too_many(path, n_lines, len(bad_lines), bad_lines, max_bad)
    return MetadataTable(tuple(photos), tuple(bad_lines), n_videos)


def parse_lines(numbered: Iterable[tuple[int, str]]) -> ParsedLines:
    """The photos of lines given with their numbers, and number and reason of each that is malformed."""
    photos, bad_lines, n_videos = [], [], 0
    for number, text in numbered:
        try:
            photo = parse_metadata(text, number)
        except ValueError as error:
            bad_lines.append((number, str(error)))
            continue
        if photo.is_video:
            n_videos += 1
        else:
            photos.append(photo)
    return ParsedLines(photos, bad_lines, n_videos)


def refuse_too_many(
    path: Path, n_lines: int, n_bad: int, bad_lines: Collection[tuple[int, str]], max_bad: float
) -> None:
    """ValueError where more than ``max_bad`` of the lines are malformed; it shows the first of ``bad_lines``."""
    if n_bad > max_bad * n_lines:
        number, reason = next(iter(bad_lines))
        raise ValueError(
            f"{n_bad} of {n_lines} lines of {path} cannot be read, more than the {max_bad:.2%} "
            f"allowed; line {number + 1}: {reason}"
        )


def table_beside(images: ImageSet) -> Path | None:
    """The metadata table that lies beside some photographs; None where there is none."""
    folder = Path(getattr(images.reader, "root", "."))
    return next((folder / name for name in METADATA_FILES if (folder / name).is_file()), None)


def photos_by_image(ids: Sequence[str], photos: Sequence[PhotoMetadata]) -> dict[str, PhotoMetadata]:
    """Image name -> its photograph, for the images that have one.

    A name is the number of the photograph, or, as in YFCC100M's own archives, that of its line: whichever more images
    have, since an old photograph's number may be any image's too.
    """
    names = {int(image_id): image_id for image_id in ids if image_id.isdecimal()}
    by_number = {names[photo.identifier]: photo for photo in photos if photo.identifier in names}
    by_line = {names[photo.line]: photo for photo in photos if photo.line in names}
    return by_line if len(by_line) > len(by_number) else by_number


def parse_metadata(text: str, line: int = 0) -> PhotoMetadata:
    """One line of the table. Raises ValueError where columns are missing or hold what they cannot mean."""
    fields = text.rstrip("\r\n ").split("\t")
    if len(fields) == N_NUMBERED and fields[0].isdecimal() and len(fields[0]) <= DIGITS:
        line, fields = int(fields[0]), [fields[1], *fields[3:]]
    if len(fields) != N_COLUMNS:
        ends = ", and carriage returns between them: save it with plain line ends" if "\r" in fields[-1] else ""
        raise ValueError(
            f"need {N_COLUMNS} columns, or {N_NUMBERED} with a line's number first; got {len(fields)}{ends}"
        )
    if not fields[0].isdecimal() or len(fields[0]) > DIGITS or fields[22] not in ("0", "1"):
        first, last = fields[0][:SHOWN], fields[22][:SHOWN]
        raise ValueError(f"need a photo number first and 0 or 1 last, got {first!r} and {last!r}")
    return PhotoMetadata(
        line=line,
        identifier=int(fields[0]),
        user_id=fields[1],
        user_nickname=_decoded(fields[2]),
        date_taken=_parse_date(fields[3]),
        date_uploaded=_parse_seconds(fields[4]),
        capture_device=_decoded(fields[5]),
        title=_decoded(fields[6]),
        description=_decoded(fields[7]),
        user_tags=_parse_tags(fields[8]),
        machine_tags=_parse_tags(fields[9]),
        longitude=_parse_degrees(fields[10], 180, "longitude"),
        latitude=_parse_degrees(fields[11], 90, "latitude"),
        accuracy=_parse_level(fields[12]),
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


@lru_cache(maxsize=2**16)  # a few thousand hashtags are most of all uses
def normalise_tag(tag: str) -> str:
    """A hashtag as it is counted: Unicode compatibility form, lower case, no ``#`` in front, single spaces.

    Two spellings that differ in these ways alone are one hashtag; accents, punctuation inside and plurals are kept.
    """
    folded = unicodedata.normalize("NFKC", tag).casefold().strip().lstrip("#")
    return re.sub(r"\s+", " ", folded).strip()


def _open_text(path: Path) -> TextIO:
    # the table separates lines by \n alone; broken UTF-8 in one title must not cost the table
    opener: Any = bz2.open if is_bz2(path) else open
    with opener(path, "rb") as file:
        encoding = encoding_of(file.read(4))
    text: TextIO = opener(path, "rt", encoding=encoding, errors="replace", newline="\n")
    return text


def text_bytes(path: Path) -> int:
    """Bytes of a table's text; of a compressed one, about."""
    return path.stat().st_size * (BZ2_RATIO if is_bz2(path) else 1)


def is_bz2(path: Path) -> bool:
    """Whether a file is compressed, by its first bytes: names say so in many ways."""
    with path.open("rb") as file:
        return file.read(3) == b"BZh"


def _chosen(file: Iterable[str], lines: Collection[int] | None) -> Iterator[tuple[int, str]]:
    if lines is None:
        return ((number, text) for number, text in enumerate(file) if text.strip())
    wanted = frozenset(lines)
    return ((n, text) for n, text in enumerate(islice(file, max(wanted, default=-1) + 1)) if n in wanted)


def _decoded(text: str) -> str:
    """Text as it was before it was encoded for the table, with spaces for what is neither letter nor line end."""
    return CONTROLS.sub(" ", unquote_plus(text))


def _parse_tags(text: str) -> tuple[str, ...]:
    # a comma inside a tag is encoded, so the split comes first
    return tuple(_decoded(tag) for tag in text.split(",") if tag)


def _parse_degrees(text: str, limit: int, what: str) -> float:
    if not text:
        return math.nan
    try:
        degrees = float(text)
    except ValueError:
        degrees = math.nan
    if not abs(degrees) <= limit:
        raise ValueError(f"need a {what} within {limit} degrees, got {text[:SHOWN]!r}")
    return degrees


def _parse_level(text: str) -> int:
    return level if text.isdecimal() and (level := int(text[:DIGITS])) <= STREET else 0


def _parse_date(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text.removesuffix(".0")).replace(tzinfo=None)
    except ValueError:
        return None


def _parse_seconds(text: str) -> datetime | None:
    try:
        return datetime.fromtimestamp(int(text), UTC)
    except (ValueError, OverflowError, OSError):
        return None
