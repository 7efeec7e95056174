"""A public set, from the archives that its authors publish to the layout that our loaders read: whole, or not at all.

Archives come into a hidden folder beside the place of the set and stay there until it is in place, so that a call
goes on where the last one ended. They are unpacked into another, which is looked at with our own loaders and takes its
name in one step. A set has a file that says where it came from; what has none is nobody's to replace.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit
from urllib.request import url2pathname

from dclib.data.archives import BROKEN
from dclib.data.download import Archive, Sums, check_sums, download, partly
from dclib.data.folders import files_below, named_path
from dclib.records import held, make_folder, replacing_folder, write_atomically

CARD = "fetched.json"  # in the folder of a set: where it came from and what it holds
RESERVE = 2**29  # bytes that stay free on a disk
Report = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class PublicSet:
    """A set that anybody may fetch."""

    name: str  # on the command line
    folder: str  # that it gets
    title: str
    holds: str  # what, in a few words
    terms: str  # under which it may be used
    download_bytes: int
    disk_bytes: int  # once unpacked
    archives: Callable[[], Sequence[Archive]]
    unpack: Callable[[Mapping[str, Path], Path], None]  # archives by name, and the new folder
    count: Callable[[Path], Mapping[str, int]]  # what our loaders find in it
    counts: Mapping[str, Sequence[int]]  # what they must find; any of these numbers

    @property
    def command(self) -> str:
        """What to type to get it."""
        return f"python -m dclib fetch {self.name}"


def fetch_set(wanted: PublicSet, place: Path, *, source: str = "", report: Report = print) -> Path:
    """Bring a set to ``place``, unless it is there; returns the place.

    Args:
        source: Another place of the archives: the address of a folder (a mirror), a folder here, or the file itself
            where there is one only. Empty means their authors' own.
        report: Is told what will come from where, how large it is, under which terms, and where it will lie, before
            anything is written.

    Raises:
        ValueError: something else is at ``place``, an archive is not the published one, or does not hold the set.
        OSError: no network, a full disk: what came is kept, and the same call goes on.
    """
    if _is_there(wanted, place, report):
        return place
    archives = wanted.archives()
    origins = {archive.name: _origin(archive, source, len(archives)) for archive in archives}
    waiting = place.parent / f".{place.name}.download"
    free, needed = _room(wanted, place, [name for name, origin in origins.items() if _is_url(origin)], waiting)
    for line in _told(wanted, place, origins, archives, free):
        report(line)
    if free < needed:
        raise OSError(
            f"need {_bytes(needed)} free at {place.parent} for {wanted.title}, got {_bytes(free)}: free some space, or "
            "choose another folder with --to"
        )
    make_folder(waiting)
    with held(waiting):  # another that fetches the same waits here
        if _is_there(wanted, place, report):
            return place
        make_folder(waiting)  # the other may have failed, and cleared it away
        try:
            files, sums = _gather(wanted, archives, origins, waiting, report)
        finally:
            with suppress(OSError):
                waiting.rmdir()  # where nothing came
        report(f"  unpacking into {place}")
        with replacing_folder(place) as new:
            counts = _unpack(wanted, archives, files, new, waiting)
            _write_card(wanted, archives, origins, sums, counts, new)
        shutil.rmtree(waiting, ignore_errors=True)
    report(f"  {wanted.title} is in {place}")
    return place


def told(wanted: PublicSet, place: Path) -> str:
    """A set in two lines, and whether it is there."""
    taken = f"is not fetched: {place} is there already" if place.exists() else f"would lie in {place}"
    state = f"is in {place}" if (place / CARD).is_file() else taken
    size = f"{_bytes(wanted.download_bytes)} to download, {_bytes(wanted.disk_bytes)} on disk"
    return f"{wanted.name}\n    {wanted.title}: {wanted.holds}\n    {size}; {state}"


def _is_there(wanted: PublicSet, place: Path, report: Report) -> bool:
    """Whether the set is at ``place``, as it was fetched. Raises ValueError where that is something else."""
    if not place.exists() or (place.is_dir() and not any(place.iterdir())):
        return False
    try:
        card = json.loads((place / CARD).read_text(encoding="utf-8"))
        name, parts = card["set"], card["parts"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(
            f"need an empty place for {wanted.title}, and {place} is there already and was not fetched: use it as it "
            "is, move it away, or choose another folder with --to"
        ) from None
    now = _parts(place)
    changed = sorted(part for part, held_then in parts.items() if now.get(part) != held_then)
    if name != wanted.name or changed:
        why = f"{changed[0]} has changed since it was fetched" if name == wanted.name else f"holds {name}"
        raise ValueError(f"need {wanted.title} in {place}, and there {why}: move it away and run again")
    report(f"{wanted.title} is in {place}, fetched {card['fetched'][:10]}")
    return True


def _parts(place: Path) -> dict[str, list[int]]:
    """What lies in a folder, by name: the number of files and their bytes."""
    found: dict[str, list[int]] = {}
    for path in files_below(place):
        part = found.setdefault(path.split("/")[0], [0, 0])
        part[0] += 1
        part[1] += (place / path).stat().st_size
    found.pop(CARD, None)
    return found


def _origin(archive: Archive, source: str, n_archives: int) -> str:
    """Where an archive is to come from: an address, or a path here. Raises ValueError where a path has none."""
    if not source:
        return archive.url
    if _is_url(source):
        return source if PurePosixPath(source).name == archive.name else f"{source.rstrip('/')}/{archive.name}"
    parts = urlsplit(source)
    path = named_path(url2pathname(parts.path) if parts.scheme == "file" else source)
    path = path / archive.name if path.is_dir() else path
    if not path.is_file():
        raise ValueError(f"need {archive.name} at {source}, and {path} is not there: give a folder that holds it")
    if n_archives > 1 and path.name != archive.name:
        raise ValueError(f"need {n_archives} archives, {archive.name} and others, got {path} alone: give their folder")
    return str(path)


def _is_url(source: str) -> bool:
    return source.startswith(("http://", "https://"))


def _room(wanted: PublicSet, place: Path, downloads: Sequence[str], waiting: Path) -> tuple[int, int]:
    """Bytes that are free where a set will lie, and that it needs there."""
    above = next(folder for folder in (place, *place.absolute().parents) if folder.is_dir())
    here = sum(partly(waiting / name) for name in downloads)
    missing = max(0, wanted.download_bytes - here) if downloads else 0
    return shutil.disk_usage(above).free, missing + wanted.disk_bytes + RESERVE


def _told(
    wanted: PublicSet, place: Path, origins: Mapping[str, str], archives: Sequence[Archive], free: int
) -> Iterator[str]:
    """What will happen, before it does."""
    checked = "MD5 as published" if all(archive.md5 for archive in archives) else "their content; no sums are published"
    yield f"{wanted.title}: {wanted.holds}"
    yield f"  terms: {wanted.terms}"
    for origin in origins.values():
        yield f"  from {origin}"
    yield f"  to {place}: {_bytes(wanted.download_bytes)} of archives, checked by {checked},"
    yield f"  become {_bytes(wanted.disk_bytes)} there; {_bytes(free)} are free"


def _gather(
    wanted: PublicSet, archives: Sequence[Archive], origins: Mapping[str, str], waiting: Path, report: Report
) -> tuple[dict[str, Path], dict[str, Sums]]:
    """All archives, downloaded where they are not here, and checked, by name; and their sums."""
    files: dict[str, Path] = {}
    sums: dict[str, Sums] = {}
    for archive in archives:
        origin = origins[archive.name]
        if _is_url(origin):
            files[archive.name] = waiting / archive.name
            try:
                sums[archive.name] = download(archive, origin, files[archive.name])
            except OSError as error:
                raise OSError(f"{error} (the command: {wanted.command}; from a folder here: --from FOLDER)") from None
        else:
            files[archive.name] = Path(origin)
            sums[archive.name] = check_sums(archive, files[archive.name], origin)
        known = "MD5 as published" if archive.md5 else f"SHA-256 {sums[archive.name].sha256[:16]}..., recorded"
        report(f"  {archive.name}: {sums[archive.name].size:,} bytes, {known}")
    return files, sums


def _unpack(
    wanted: PublicSet, archives: Sequence[Archive], files: Mapping[str, Path], new: Path, waiting: Path
) -> dict[str, int]:
    """Unpack, and count what our loaders find.

    Raises:
        ValueError: it is not the set; what came without a checksum is deleted then.
    """
    try:
        try:
            wanted.unpack(files, new)
        except BROKEN as error:
            where = ", ".join(map(str, files.values()))
            raise ValueError(f"need whole archives of {wanted.title}, got {where}: {error}; fetch them again") from None
        found = wanted.count(new)
        wrong = [name for name, n in found.items() if n not in wanted.counts[name]]
        if wrong or found.keys() != wanted.counts.keys():
            needed = ", ".join(f"{name} {' or '.join(f'{n:,}' for n in ns)}" for name, ns in wanted.counts.items())
            got = ", ".join(f"{name} {n:,}" for name, n in found.items())
            raise ValueError(f"need {needed} in {wanted.title}, got {got}: fetch it from its authors' own address")
    except ValueError:
        for archive in archives:
            if not archive.md5 and files[archive.name].parent == waiting:
                files[archive.name].unlink()
        raise
    return dict(found)


def _write_card(
    wanted: PublicSet,
    archives: Sequence[Archive],
    origins: Mapping[str, str],
    sums: Mapping[str, Sums],
    counts: Mapping[str, int],
    new: Path,
) -> None:
    came = [
        {
            "name": archive.name,
            "from": origins[archive.name],
            "bytes": sums[archive.name].size,
            "md5": sums[archive.name].md5,
            "sha256": sums[archive.name].sha256,
            "checked": "MD5 as published" if archive.md5 else "by content: no checksum is published",
        }
        for archive in archives
    ]
    card = {
        "set": wanted.name,
        "title": wanted.title,
        "terms": wanted.terms,
        "fetched": datetime.now(UTC).isoformat(timespec="seconds"),
        "archives": came,
        "counts": dict(counts),
        "parts": _parts(new),
    }
    write_atomically(new / CARD, json.dumps(card, indent=1).encode())


def _bytes(n: int) -> str:
    """A size in words: 170 MB, 2.64 GB."""
    return f"{n / 1e9:.2f} GB" if n >= 1e9 else f"{n / 1e6:.0f} MB"
