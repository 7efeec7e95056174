"""People's own photographs, as they lie on a disk: shown upright, with all that a folder holds besides counted.

Nothing is opened to find them but files whose names do not say what they are. Folders are no classes here.
"""

from __future__ import annotations

import os
import re
import stat
from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dclib.data.clips import VIDEO_SUFFIXES
from dclib.data.decoding import (
    HEIF_ADVICE,
    HEIF_BRANDS,
    IMAGE_SUFFIXES,
    OTHER_SUFFIXES,
    SIDEWAYS,
    open_encoded,
    reads_heif,
    turn_of,
)
from dclib.data.folders import HEIF_SUFFIXES, LITTER, FolderReader, in_one_line, passed_over
from dclib.data.images import ImageSet, name_some, printable

RAW_SUFFIXES = (
    *(".dng", ".raw", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".orf", ".rw2", ".raf", ".pef"),
    *(".srw", ".x3f", ".3fr", ".iiq", ".erf", ".kdc", ".dcr", ".mrw", ".rwl", ".gpr", ".mos", ".mef"),
)
MORE_VIDEOS = (".3g2", ".asf", ".divx", ".insv", ".lrv", ".mod", ".mxf", ".qt", ".tod", ".vob")
SIDECAR_SUFFIXES = (".xmp", ".aae", ".json", ".thm", ".ini", ".db", ".pp3", ".dop", ".cos", ".nksc", ".lrcat")
ARCHIVE_SUFFIXES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")
PHOTOGRAPH, VIDEO, RAW = "photographs", "videos", "raw files of cameras (save them as JPEG with the camera's program)"
HEIF = f"HEIC photographs ({HEIF_ADVICE})"
GONE, CLOSED = "what went away or failed while it was looked at", "files that may not be read"
KINDS = {
    **dict.fromkeys(SIDECAR_SUFFIXES, "files that belong to photographs or to programs that show them"),
    **dict.fromkeys(ARCHIVE_SUFFIXES, "archives (unpack them to have what is in them read)"),
    **dict.fromkeys(OTHER_SUFFIXES, "pictures of kinds that are not read (save them as JPEG or PNG)"),
    **dict.fromkeys(RAW_SUFFIXES, RAW),
    **dict.fromkeys(HEIF_SUFFIXES, HEIF),
    **dict.fromkeys((*VIDEO_SUFFIXES, *MORE_VIDEOS), VIDEO),
    **dict.fromkeys(IMAGE_SUFFIXES, PHOTOGRAPH),
}
# how a picture begins whose name does not say that it is one
MAGIC = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|RIFF....WEBP|BM....\0\0\0\0|II\*\0|MM\0\*|....ftyp(?:avi[fs]|"
    + b"|".join(sorted(HEIF_BRANDS))
    + b")",
    re.DOTALL,
)
PNG_METADATA = (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp")
TAKEN, CHANGED, EXIF = 36867, 306, 0x8769  # tags of EXIF: two times, and where the first of them stands
TIME = re.compile(r"(\d{4})[:/.-](\d\d)[:/.-](\d\d)[ T](\d\d):(\d\d):(\d\d)")


@dataclass(frozen=True, eq=False)
class Photographs:
    """The photographs of a folder.

    Attributes:
        images: They open upright; ``ids`` are paths below the folder with ``/``, sorted; ``notes`` say what was
            passed over.
        size: (n,) int64, bytes of each file when it was found.
        written: (n,) int64, when its content was last written, ns since 1970.
    """

    images: ImageSet
    size: NDArray[np.int64]
    written: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.images)


class Head(NamedTuple):
    """What the bytes of a photograph say before it is decoded."""

    width: int  # pixels, upright
    height: int
    taken: str  # "YYYY-MM-DDTHH:MM:SS", or "" where no time or no possible one is given


class _File(NamedTuple):
    path: str  # below the folder
    real: str  # where it lies; the same for all links to it
    is_linked: bool  # it, or a folder above it, is a link
    size: int
    written: int


def open_photographs(root: str | Path, leave: Collection[str | Path] = ()) -> Photographs:
    """All photographs below a folder, each once, whatever links lead to it.

    Hidden files and folders are passed over and so are those that systems keep for themselves; so are the folders
    ``leave``, without a word. Files whose names end in no known way are looked into for how pictures begin. Whether a
    file that is named as a picture is one shows when it is read: see :func:`read_head`.

    Raises:
        ValueError: it is no folder, may not be read, or holds no photograph; the message says what it holds.
    """
    root = Path(root)
    if not root.is_dir():
        raise ValueError(f"need a folder of photographs; {root} is {'a file' if root.exists() else 'not there'}")
    aside: dict[str, list[str]] = defaultdict(list)
    found = _files(root, {os.path.realpath(place) for place in leave}, aside)
    photographs = _named(_once(_pictures(found, aside), aside))
    ids = sorted(photographs)
    notes = tuple(passed_over(what, sorted(map(printable, names))) for what, names in sorted(aside.items()) if names)
    if not ids:
        held = "; ".join(notes) or "there is nothing in it"
        raise ValueError(f"need a folder with photographs in it or below, such as .jpg, .png or .heic; {root}: {held}")
    reader = FolderReader(root, paths={i: photographs[i].path for i in ids if i != photographs[i].path})
    if reader.paths:
        notes += (
            f"read under other names, for theirs cannot be written: {in_one_line(name_some(list(reader.paths)))}",
        )
    size = np.array([photographs[i].size for i in ids], dtype=np.int64)
    written = np.array([photographs[i].written for i in ids], dtype=np.int64)
    name = os.path.basename(os.path.realpath(root)) or str(root)
    return Photographs(ImageSet(printable(name), ids, reader, notes=notes, upright=True), size, written)


def read_head(content: bytes) -> Head:
    """Size and time of a photograph from the bytes of its file, without decoding it.

    Raises:
        Exception: what Pillow raises; UnidentifiedImageError says how bytes begin that are no picture.
    """
    image = open_encoded(content, upright=True)
    if image.format == "PNG" and not any(word in content for word in PNG_METADATA):
        return Head(*image.size, "")  # else all of it would be decoded to look behind the pixels
    width, height = image.size
    if turn_of(image) in SIDEWAYS:
        width, height = height, width
    return Head(width, height, _taken(image))


def _taken(image: Image.Image) -> str:
    try:
        exif = image.getexif()
        times = exif.get_ifd(EXIF).get(TAKEN), exif.get(CHANGED)
    except MemoryError:
        raise
    except Exception:  # whatever Pillow raises of broken metadata
        return ""
    return next(filter(None, map(_time, times)), "")


def _time(value: object) -> str:
    """A time as EXIF has it, as ISO 8601; empty where it is none, such as 0000:00:00 00:00:00."""
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    if not (found := TIME.match(text.strip())):
        return ""
    try:
        return datetime(*map(int, found.groups())).isoformat()  # type: ignore[arg-type]
    except ValueError:
        return ""


class _Folder(NamedTuple):
    prefix: str  # of the paths in it: empty, or ends in "/"
    real: str
    is_link: bool = False
    is_linked: bool = False  # it, or a folder above it, is a link


def _files(root: Path, leave: set[str], aside: dict[str, list[str]]) -> Iterator[_File]:
    """The files below a folder, those behind links last; each folder is gone into once, so circles end."""
    seen: set[str] = set()
    waiting = deque([_Folder("", os.path.realpath(root))])
    behind_links = deque[_Folder]()
    while waiting or behind_links:
        folder = (waiting or behind_links).popleft()
        if folder.real in seen:
            if folder.is_link:
                aside["links to folders that are looked through anyway"].append(folder.prefix[:-1])
            continue
        seen.add(folder.real)
        try:
            with os.scandir(folder.real) as found:
                entries = list(found)
        except OSError as error:
            closed = "folders that may not be read" if isinstance(error, PermissionError) else GONE
            aside[closed].append(folder.prefix[:-1] or str(root))
            continue
        for entry in entries:
            met = _look(entry, folder, leave, aside)
            if isinstance(met, _File):
                yield met
            elif met is not None:
                (behind_links if met.is_linked else waiting).append(met)


def _look(
    entry: os.DirEntry[str], folder: _Folder, leave: set[str], aside: dict[str, list[str]]
) -> _File | _Folder | None:
    """What an entry of a folder is; None where it is neither a file nor a folder to go into."""
    path, real = folder.prefix + entry.name, os.path.join(folder.real, entry.name)
    if entry.name.startswith("."):
        aside["hidden files and folders"].append(path)
        return None
    is_link = entry.is_symlink()
    try:
        state = entry.stat()
    except OSError as error:
        nowhere = "links that lead nowhere" if is_link else GONE
        aside[CLOSED if isinstance(error, PermissionError) else nowhere].append(path)
        return None
    if is_link:
        real = os.path.realpath(real)
    if stat.S_ISREG(state.st_mode):
        return _File(path, real, is_link or folder.is_linked, state.st_size, state.st_mtime_ns)
    if not stat.S_ISDIR(state.st_mode):
        aside["pipes, sockets and devices"].append(path)
    elif entry.name.lower() in LITTER:
        aside["folders that a system keeps for itself"].append(path)
    elif real not in leave:
        return _Folder(f"{path}/", real, is_link, is_link or folder.is_linked)
    return None


def _pictures(files: Iterable[_File], aside: dict[str, list[str]]) -> list[_File]:
    """Those of some files that are photographs, by their names, or by how they begin where names do not say it."""
    kept: list[_File] = []
    others: dict[str, list[str]] = defaultdict(list)
    for file in files:
        kind = KINDS.get(os.path.splitext(file.path)[1].lower(), "")
        if kind == HEIF and reads_heif():
            kind = PHOTOGRAPH
        if kind not in ("", PHOTOGRAPH):
            others[kind].append(file.path)
        elif not os.access(file.real, os.R_OK):
            others[CLOSED if os.path.lexists(file.real) else GONE].append(file.path)
        elif not file.size:
            others["empty files"].append(file.path)
        elif kind or _begins_as_picture(file.real):
            kept.append(file)
        else:
            others["other files"].append(file.path)
    stems = {os.path.splitext(file.path)[0].lower() for file in kept}
    stems |= {file.path.lower() for file in kept}  # IMG_1.jpg.mp4
    for kind, beside in ((VIDEO, "moving parts of photographs beside them"), (RAW, f"{RAW}, beside their JPEG")):
        pairs = {path for path in others[kind] if os.path.splitext(path)[0].lower() in stems}
        others[kind], others[beside] = [path for path in others[kind] if path not in pairs], list(pairs)
    for kind, paths in others.items():
        aside[kind] += paths
    return kept


def _begins_as_picture(path: str) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # it may have become a pipe since
    except OSError:
        return False
    try:
        return bool(MAGIC.match(os.read(descriptor, 16)))
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _once(files: list[_File], aside: dict[str, list[str]]) -> list[_File]:
    """Files without the links to others of them."""
    seen = {file.real for file in files if not file.is_linked}
    kept = [file for file in files if not file.is_linked]
    for file in sorted(file for file in files if file.is_linked):
        if file.real in seen:
            aside["links to photographs that are read anyway"].append(file.path)
        else:
            seen.add(file.real)
            kept.append(file)
    return kept


def _named(files: Iterable[_File]) -> dict[str, _File]:
    """Files by names that can be written anywhere and are each one file's."""
    named: dict[str, _File] = {}
    for file in sorted(files, key=lambda file: (printable(file.path) != file.path, file.path)):
        name = printable(file.path)
        while name in named:
            name += "~"
        named[name] = file
    return named
