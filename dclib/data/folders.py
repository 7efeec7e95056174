"""Folders, tar files and lists of images: ImageNet's and Places205's layout, and anybody's own.

Class folders become labels: ``train/tench/1.jpg`` has the label ``tench``. A folder without them is a set
without labels, which is all that pre-training needs.
"""

from __future__ import annotations

import csv
import os
import re
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dclib.data.decoding import IMAGE_SUFFIXES, OTHER_SUFFIXES, refuse_too_large
from dclib.data.evaluation_sets import evaluation_layouts
from dclib.data.images import ImageSet, labels_from_names, name_some, printable
from dclib.reading import read_lines

SPLIT_NAMES = {"train", "val", "valid", "validation", "test"}
TAR_END = 2**20  # bytes behind a tar's last file in which nothing else may be; writers add some 10,000 zeros
# what systems and network disks keep for themselves among the folders of people, in lower case
LITTER = {"@eadir", "@recycle", "@recently-snapshot", "@tmp", "#recycle", "#snapshot", "$recycle.bin", "recycler"}
LITTER |= {"__macosx", "lost+found", "system volume information", "network trash folder", "temporary items"}
STEERING = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
LOOSE_SHARE = 0.1  # of images that may lie beside the class folders for these still to be classes


def named_path(path: str | Path) -> Path:
    """A path as people write it: ``~`` is a home; where nobody has that name, it is a folder's name like any other."""
    return Path(os.path.expanduser(path))


class OpenFile:
    """A file open for reading at any position. Safe for threads: there is no current position to disturb."""

    def __init__(self, path: str | Path) -> None:
        self._owner = -1
        self.path = Path(path)
        self._descriptor = os.open(self.path, os.O_RDONLY)
        self._owner = os.getpid()

    def read_at(self, offset: int, size: int) -> bytes:
        """``size`` bytes from ``offset``. Raises OSError where the file ends before."""
        content = os.pread(self._descriptor, size, offset)
        if len(content) < size:
            raise OSError(f"{self.path} is cut short: need {size} bytes at {offset}, got {len(content)}")
        return content

    def __del__(self) -> None:
        # in a forked child the number may belong to another file by now
        if self._owner == os.getpid():
            os.close(self._descriptor)


class FolderReader:
    """Reads files below a folder; ``suffix`` is what the ids leave out, ``paths`` has those that an id does not say."""

    def __init__(self, root: str | Path, suffix: str = "", paths: Mapping[str, str] | None = None) -> None:
        self.root = Path(root)
        self.suffix = suffix
        self.paths = paths or {}

    def read(self, image_id: str) -> bytes:
        path = self.path(image_id)
        refuse_too_large(path.stat().st_size)
        return path.read_bytes()

    def sizes(self, image_ids: Sequence[str]) -> NDArray[np.int64]:
        return np.array([_size(self.path(i)) for i in image_ids], dtype=np.int64)

    def written(self, image_ids: Sequence[str]) -> NDArray[np.int64]:
        return np.array([changed_at(self.path(i)) for i in image_ids], dtype=np.int64)

    def path(self, image_id: str) -> Path:
        return self.root / (self.paths.get(image_id) or f"{image_id}{self.suffix}")


class TarReader:
    """Reads members of an uncompressed tar by offset, so that any order is quick and no handle is shared."""

    def __init__(self, path: str | Path, members: dict[str, tuple[int, int]]) -> None:
        self.path = Path(path)
        self.members = members  # id -> offset, size
        self._file: tuple[int, OpenFile] | None = None  # and the process that opened it

    def read(self, image_id: str) -> bytes:
        offset, size = self.members[image_id]
        refuse_too_large(size)
        file = self._file
        if file is None or file[0] != os.getpid():
            self._file = file = os.getpid(), OpenFile(self.path)
        return file[1].read_at(offset, size)

    def sizes(self, image_ids: Sequence[str]) -> NDArray[np.int64]:
        return np.array([self.members[i][1] for i in image_ids], dtype=np.int64)

    def written(self, image_ids: Sequence[str]) -> NDArray[np.int64]:
        return np.array([changed_at(self.path)], dtype=np.int64)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_file": None}


def open_folder(root: str | Path, *, whole: bool = False) -> ImageSet:
    """Every image below ``root``, in sorted order; its class folders, if any, are the labels.

    Names with a leading dot are passed over; links are followed, except back to a folder above them. What else is
    passed over is in the set's ``notes``: see :func:`sort_out`. With ``whole`` that is the litter alone, and there
    are no labels.

    Raises:
        ValueError: ``root`` holds no file with an image's suffix.
    """
    root = Path(root)
    if not root.is_dir():
        raise ValueError(f"need a folder of images; {root} is {'a file' if root.exists() else 'not there'}")
    closed: list[str] = []
    found = sort_out(files_below(root, closed), whole=whole, closed=closed)
    if closed and not found.paths:
        raise ValueError(f"no images in {root}: {found.notes[0]}; give this user the right to read them")
    if not found.paths:
        tars = sorted(printable(p.name) for p in root.glob("*.tar"))
        advice = f"; it holds {', '.join(tars[:5])}: give one of them" if tars else ""
        passed = f" ({'; '.join(found.notes)})" if found.notes else ""
        raise ValueError(
            f"no images in {root}: need files ending in {', '.join(IMAGE_SUFFIXES)} in it or below{advice}{passed}"
        )
    odd = {image_id: path for image_id, path in found.paths.items() if image_id != path}
    return _image_set(root.resolve().name, found, FolderReader(root, paths=odd), whole)


def open_tar(path: str | Path) -> ImageSet:
    """Every image of an uncompressed tar file, in sorted order, with its class folders as labels.

    Where they lie is kept of the last few files, while nobody writes to them: a run opens each again and again.

    Raises:
        ValueError: it is no readable uncompressed tar (unpack or repack it), or holds no image.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"need an uncompressed tar of images; {path} is not there")
    found, places = _tar_index(path, path.stat().st_ino, path.stat().st_size, changed_at(path))
    return _image_set(path.stem, found, TarReader(path, places))


@lru_cache(maxsize=4)
def _tar_index(path: Path, *state: int) -> tuple[Found, dict[str, tuple[int, int]]]:
    """The images in a tar file and where each lies, while the file is in one ``state``."""
    try:
        with tarfile.open(path, "r:") as archive:
            members = _offsets(archive)
            _check_end(path, archive.offset)
    except Exception as error:  # tarfile raises nearly anything on broken bytes
        raise ValueError(
            f"need an uncompressed, complete tar of images, got {path}: {error}; "
            "unpack it and give the folder, or fetch it again"
        ) from None
    found = sort_out(members)
    if not found.paths:
        raise ValueError(f"no images in {path}: need members ending in {', '.join(IMAGE_SUFFIXES)}")
    return found, {image_id: members[name] for image_id, name in found.paths.items()}


def open_list(path: str | Path) -> ImageSet:
    """Images named in a text file: one path per line, relative to the file, with a class after it or without.

    The class stands after a tab, in a .csv after a comma. Lists of ``path class`` with a space, as Places205
    and Caffe have them, are read too: there the first line is a file up to its last space only.

    Raises:
        ValueError: a listed file is missing, or some lines have a class and some have none.
    """
    path = Path(path)
    rows = read_rows(path)
    if not rows:
        raise ValueError(f"no images in {path}: need one path per line")
    missing = [name for name, _ in rows if not os.path.isfile(path.parent / name)]
    if missing:
        raise ValueError(
            f"{path} lists {len(rows)} images and {len(missing)} of them are not there, "
            f"first {missing[0]!r}; paths are taken from {path.parent}"
        )
    named = [label for _, label in rows if label]
    if named and len(named) < len(rows):
        raise ValueError(f"{path} gives a class for {len(named)} of {len(rows)} images; give one for all or for none")
    labels, classes = labels_from_names(named) if named else (None, ())
    return ImageSet(path.stem, [name for name, _ in rows], FolderReader(path.parent), labels, classes)


@dataclass(frozen=True)
class Found:
    """The images among some files."""

    paths: dict[str, str]  # id -> path, sorted by id; they differ where a name is not in UTF-8
    notes: tuple[str, ...]  # what was passed over


def sort_out(files: Iterable[str], *, whole: bool = False, closed: Sequence[str] = ()) -> Found:
    """Which of some paths, with ``/`` between folders, are images of a set; the rest is told.

    ``closed`` are folders that could not be read, known once all files were given.

    Passed over are folders that systems keep for themselves (``#recycle``, ``@eaDir``), images in the layouts of
    Pascal VOC or of landmarks below (they are for evaluation), and a few pictures that lie beside class folders and so
    have no class. With ``whole`` only the first.
    """
    paths: dict[str, str] = {}
    litter: Counter[str] = Counter()
    others: list[str] = []
    for path in files:
        is_image = _is_image_name(path)
        if place := _litter_in(path):
            litter[place] += is_image
        elif is_image:
            paths.setdefault(printable(path), path)
        else:
            others.append(path)
    paths = dict(sorted(paths.items()))
    unread = sorted(printable(path) for path in others if path.lower().endswith(_unread_suffixes()))
    notes = [
        passed_over("folders that may not be read", sorted(map(printable, closed))),
        passed_over("folders that a system keeps for itself", [printable(p) for p, n in sorted(litter.items()) if n]),
        passed_over("pictures of kinds that are not read (convert them to JPEG or PNG)", unread),
    ]
    if not whole:
        layouts = sorted(evaluation_layouts(paths, others))
        paths = {i: path for i, path in paths.items() if not i.startswith(tuple(f"{layout}/" for layout in layouts))}
        loose = _loose(list(paths))
        paths = {i: path for i, path in paths.items() if i not in loose}
        notes.append(passed_over("sets for evaluation, whose images are never trained on", layouts))
        notes.append(passed_over("pictures beside the class folders, so without a class", sorted(loose)))
    odd = [image_id for image_id, path in paths.items() if image_id != path]
    named = f"read under escaped names, for theirs are not in UTF-8: {name_some(odd)}" if odd else ""
    return Found(paths, tuple(filter(None, [*notes, named])))


def passed_over(what: str, names: Sequence[str]) -> str:
    """A sentence that counts and names what was passed over, in one line whatever the names hold; empty for none."""
    return f"passed over {what} ({len(names):,}): {in_one_line(name_some(names))}" if names else ""


def in_one_line(text: str) -> str:
    """Names may hold ends of lines and other signs that steer a terminal: these are escaped."""
    return STEERING.sub(lambda sign: sign[0].encode("unicode_escape").decode(), text)


def _image_set(name: str, found: Found, reader: FolderReader | TarReader, whole: bool = False) -> ImageSet:
    ids = list(found.paths)
    labels, classes = (None, ()) if whole else labels_from_folders(ids)
    notes = found.notes
    if labels is None and not whole and (folders := sorted({i.split("/")[0] for i in ids if "/" in i})):
        loose = [i for i in ids if "/" not in i]
        notes += (
            f"no labels: {len(loose):,} of {len(ids):,} images are in no folder ({name_some(loose, 3)}), while others "
            f"are in {name_some(folders, 3)}; move them into class folders for these to be classes",
        )
    return ImageSet(name, ids, reader, labels, classes, notes)


def _litter_in(path: str) -> str:
    """The first folder on a path that a system keeps for itself, as a path; empty if there is none."""
    parts = path.split("/")[:-1]
    for i, part in enumerate(parts):
        if part.lower() in LITTER:
            return "/".join(parts[: i + 1])
    return ""


def _loose(ids: Sequence[str]) -> set[str]:
    """Images that lie beside class folders, if they are a few; in a folder without classes nothing is loose."""
    parts = [i.split("/")[:-1] for i in ids]
    level = 0
    while True:
        loose = {i for i, p in zip(ids, parts, strict=True) if len(p) <= level}
        names = {p[level] for p in parts if len(p) > level}
        if loose or len(names) > 1 and not (names <= SPLIT_NAMES and max(map(len, parts)) > level + 1) or not names:
            break
        level += 1
    few = len(loose) <= max(1, LOOSE_SHARE * len(ids))
    return loose if few and len(names) > 1 else set()


def labels_from_folders(ids: Sequence[str]) -> tuple[NDArray[np.int64] | None, tuple[str, ...]]:
    """Labels from the first folder in which the paths differ; (None, ()) where an image has no folder.

    A folder that all share is passed over, and so is a level made of ``train``, ``val`` and ``test`` alone.
    Places205 sorts its classes under their first letter (``a/abbey``, ``a/apartment_building/outdoor``):
    there the class is all that follows the letter.
    """
    parts = [PurePosixPath(i).parts[:-1] for i in ids]
    depth = min(map(len, parts), default=0)
    level = 0
    while level + 1 < depth and (len({p[level] for p in parts}) == 1 or {p[level] for p in parts} <= SPLIT_NAMES):
        if _is_under_letter(parts, level):
            break
        level += 1
    if depth == 0:
        return None, ()
    if level + 1 < depth and _is_under_letter(parts, level):
        return labels_from_names(["/".join(p[level + 1 :]) for p in parts])
    return labels_from_names([p[level] for p in parts])


def _is_under_letter(parts: Sequence[tuple[str, ...]], level: int) -> bool:
    return all(len(p[level]) == 1 and p[level].isalpha() and p[level + 1].startswith(p[level]) for p in parts)


def _is_image_name(name: str) -> bool:
    """Whether a path ends as an image does and no part is hidden (macOS packs a ``._1.jpg`` beside 1.jpg)."""
    hidden = any(part.startswith(".") for part in PurePosixPath(name).parts)
    return name.lower().endswith(IMAGE_SUFFIXES) and not hidden


HEIF_SUFFIXES = (".heic", ".heif", ".hif", ".heics", ".heifs")  # Pillow opens them once its plugin has been loaded


@cache
def _unread_suffixes() -> tuple[str, ...]:
    """How pictures end that are not read: the other kinds that Pillow opens, and some that it does not."""
    opened = {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    return tuple((opened | {*OTHER_SUFFIXES, *HEIF_SUFFIXES}) - {*IMAGE_SUFFIXES})


def files_below(root: str | Path, closed: list[str] | None = None) -> Iterator[str]:
    """Paths of the files below a folder, relative to it; see :func:`open_folder` for what is not gone into.

    ``closed`` gets the folders that this user may not read.
    """
    return _walk(str(root), "", (os.path.realpath(root),), [] if closed is None else closed)


def _walk(folder: str, prefix: str, above: tuple[str, ...], closed: list[str]) -> Iterator[str]:
    """Paths of the files below ``folder``, each starting with ``prefix``."""
    try:
        with os.scandir(folder) as entries:
            found = [(entry, _answer(entry.is_dir)) for entry in entries]
    except PermissionError:
        closed.append(prefix.rstrip("/") or folder)
        return
    for entry, is_folder in found:
        if entry.name.startswith("."):
            continue
        if is_folder:
            real = os.path.realpath(entry.path) if entry.is_symlink() else entry.path
            if real not in above:
                yield from _walk(entry.path, f"{prefix}{entry.name}/", (*above, os.path.realpath(entry.path)), closed)
        elif _answer(entry.is_file):
            yield prefix + entry.name


def _answer(question: Callable[[], bool]) -> bool:
    """False for a link that leads to where this user may not look."""
    try:
        return question()
    except OSError:
        return False


def _offsets(archive: tarfile.TarFile) -> dict[str, tuple[int, int]]:
    """Offset and size of each file's bytes, by its name. Hard links point at what they repeat."""
    members: dict[str, tuple[int, int]] = {}
    for member in archive:
        if member.isreg():
            members[member.name] = member.offset_data, member.size
        elif member.islnk() and member.linkname in members:
            members[member.name] = members[member.linkname]
    return members


def _check_end(path: Path, offset: int) -> None:
    """ValueError unless a tar whose members reach up to ``offset`` ends there, by the zeros that mark an end.

    A cut one, or one with a broken head in its middle, would otherwise pass for a smaller one.
    """
    with path.open("rb") as file:
        file.seek(offset)
        rest = file.read(TAR_END)
    if len(rest) < tarfile.BLOCKSIZE or any(rest[: tarfile.BLOCKSIZE]):
        raise ValueError(f"it is cut short or damaged at byte {offset:,}, where neither a file nor its end is")
    if any(rest):
        raise ValueError(f"another archive follows its end at byte {offset:,}, which would not be read")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # it is gone, or in a folder whose names may be read and whose files may not
        return -1


def changed_at(path: Path) -> int:
    """When a file, or what is known of it, was last changed, ns since 1970; -1 where there is none.

    The later of two times: a copy can bring along the one of its content, but not the one of the entry.
    """
    try:
        status = path.stat()
    except OSError:
        return -1
    return max(status.st_mtime_ns, status.st_ctime_ns)


def read_rows(path: Path) -> list[tuple[str, str]]:
    """(path, class or "") of each line of a list. Raises ValueError where it is no text of lines."""
    try:
        lines = [line for _, line in read_lines(path)]
        separator = "\t"
        if path.suffix.lower() == ".csv":
            separator = ";" if any(";" in line for line in lines[:1]) and "," not in lines[0] else ","
        rows = [tuple(row) for row in csv.reader(lines, delimiter=separator) if any(map(str.strip, row))]
    except csv.Error as error:
        raise ValueError(f"need a text file with one path per line, got {path}: {error}") from None
    if rows and all(len(row) == 1 for row in rows) and not os.path.isfile(path.parent / rows[0][0]):
        spaced = [tuple(row[0].rsplit(maxsplit=1)) for row in rows]
        if os.path.isfile(path.parent / spaced[0][0]):
            rows = spaced
    return [(_listed(path.parent, row[0].strip()), row[1].strip() if len(row) > 1 else "") for row in rows]


def _listed(folder: Path, name: str) -> str:
    """The name of a listed file, with slashes where Windows has written the other ones."""
    return name if "\\" not in name or os.path.isfile(folder / name) else name.replace("\\", "/")
