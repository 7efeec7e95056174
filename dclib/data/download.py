"""A file that others publish, from its address to this disk: gone on with after a cut, and checked before it is used.

torchvision has the addresses and checksums of most sets, and this the way from there to here: its own download
neither goes on where it was cut, nor takes a mirror, nor keeps an unfinished file from looking like a whole one.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import json
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from tqdm import tqdm

CHUNK = 2**20  # bytes
TIMEOUT = 60.0  # seconds without a byte
PAUSE = 1.0  # seconds before a connection that was cut is made again
PART = ".part"  # ends the name of a file that is not whole yet
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG)
AGENT = {"User-Agent": "dclib"}


class UnreachableError(OSError):
    """An address does not answer, or stopped to before its file was whole; what came is kept."""


@dataclass(frozen=True)
class Archive:
    """A published file, and how it is known to be the one that was published."""

    url: str
    md5: str = ""  # empty where its authors give none: then its own checksums and what is in it are looked at

    @property
    def name(self) -> str:
        """Of the file."""
        return PurePosixPath(urlsplit(self.url).path).name


@dataclass(frozen=True)
class Sums:
    """Size in bytes and checksums of a file."""

    size: int
    md5: str
    sha256: str


def sums_of(path: Path) -> Sums:
    """Read a whole file."""
    sums, size = (hashlib.md5(usedforsecurity=False), hashlib.sha256()), 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            size += len(chunk)
            for one in sums:
                one.update(chunk)
    return Sums(size, *(one.hexdigest() for one in sums))


def check_sums(archive: Archive, path: Path, source: str) -> Sums:
    """The sums of a file. Raises ValueError where they are not the published ones."""
    sums = sums_of(path)
    if archive.md5 and sums.md5 != archive.md5:
        raise ValueError(
            f"need {archive.name} with the published MD5 {archive.md5}, got {sums.md5} ({sums.size:,} bytes) from "
            f"{source}: it is another file, or was damaged on the way; run again, or give another source with --from"
        )
    return sums


def partly(path: Path) -> int:
    """Bytes that are here of a file that :func:`download` writes to ``path``."""
    return max(_size(path), _size(_part(path)))


def download(archive: Archive, url: str, path: Path) -> Sums:
    """Bring a file from ``url`` to ``path``, going on with what is there of it, and check it; returns its sums.

    While a connection that is cut has brought something, it is made again. A server that cannot send the rest of a
    file sends all of it.

    Raises:
        UnreachableError: there is no answer, or no more of it; the next call goes on.
        ValueError: the address has no such file, or another than the published one, which is deleted.
        OSError: the disk is full or cannot be written; the next call goes on.
    """
    if not path.exists():
        try:
            _receive_all(archive, url, _part(path))
            _part(path).replace(path)
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            raise OSError(
                f"could not write {path}: {error.strerror}; what came is kept: free some space and run the same "
                "command again, or choose another folder with --to"
            ) from None
        _stamp(_part(path)).unlink(missing_ok=True)
    try:
        return check_sums(archive, path, url)
    except ValueError:
        path.unlink()
        raise


def _receive_all(archive: Archive, url: str, part: Path) -> None:
    """Ask until a file is whole, or an answer brings nothing more."""
    before = -1
    while not _receive(archive, url, part):
        if _size(part) <= before:
            raise UnreachableError(
                f"the connection to {urlsplit(url).netloc} ends after {_size(part):,} bytes of {archive.name}, which "
                "are kept: run the same command again, and it goes on"
            )
        before = _size(part)
        time.sleep(PAUSE)


def _receive(archive: Archive, url: str, part: Path) -> bool:
    """Ask once for what is missing of a file, and write what comes; whether it is whole."""
    had = _size(part)
    headers = _headers_to_continue(archive, url, part)
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=AGENT | headers), timeout=TIMEOUT) as answer:
            begins = had if _continues(answer, had) else 0
            length = answer.headers.get("Content-Length")
            whole = begins + int(length) if length else None
            _copy(answer, part, begins, whole, json.dumps({"url": url, "version": _version(answer)}))
    except urllib.error.HTTPError as error:
        return _refused(error, url, part)
    except OSError as error:
        if error.errno in UNWRITABLE:
            raise
        if not _size(part):
            reason = getattr(error, "reason", None) or error
            reason = getattr(reason, "strerror", None) or reason
            raise UnreachableError(f"cannot reach {urlsplit(url).netloc} for {archive.name}: {reason}") from None
        return False
    except http.client.HTTPException:
        return False
    return whole is None or _size(part) >= whole


def _headers_to_continue(archive: Archive, url: str, part: Path) -> dict[str, str]:
    """How to ask for the rest of a file; nothing where its beginning may be of another version.

    A published checksum tells in the end whether the parts fit, also of two servers. Without one it must be the same
    file of the same server.
    """
    had = _size(part)
    if not had:
        return {}
    wanted = {"Range": f"bytes={had}-"}
    if archive.md5:
        return wanted
    try:
        stamp = json.loads(_stamp(part).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {**wanted, "If-Range": stamp["version"]} if stamp["url"] == url and stamp["version"] else {}


def _continues(answer: Any, had: int) -> bool:
    """Whether an answer begins behind the ``had`` bytes that are here, rather than at the file's own beginning."""
    sent = answer.headers.get("Content-Range", "")
    if answer.status == HTTPStatus.PARTIAL_CONTENT and not sent.startswith(f"bytes {had}-"):
        raise ValueError(
            f"asked {answer.url} for what follows byte {had:,}, and it sent {sent!r}; give another source with --from"
        )
    return bool(answer.status == HTTPStatus.PARTIAL_CONTENT)


def _version(answer: Any) -> str:
    """What a server calls this version of a file; empty where it does not say, or only roughly."""
    tag = answer.headers.get("ETag", "")
    return "" if tag.startswith("W/") else tag or answer.headers.get("Last-Modified", "")


def _copy(answer: Any, part: Path, begins: int, whole: int | None, stamp: str) -> None:
    """Write what comes behind the first ``begins`` bytes, and ``stamp`` beside it."""
    with (
        part.open("ab" if begins else "wb") as file,
        tqdm(
            total=whole,
            initial=begins,
            desc=part.name.removesuffix(PART),
            unit="B",
            unit_scale=True,
            leave=False,
            disable=not sys.stderr.isatty(),
        ) as bar,
    ):
        _stamp(part).write_text(stamp, encoding="utf-8")
        while chunk := answer.read(CHUNK):
            file.write(chunk)
            bar.update(len(chunk))


def _refused(error: urllib.error.HTTPError, url: str, part: Path) -> bool:
    """What an error of a server means: True where all is here already. Raises ValueError for one that stays."""
    if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        if error.headers.get("Content-Range", "").endswith(f"/{_size(part)}"):
            return True
        part.unlink()  # longer than the file is: of another one
        return False
    if error.code >= 500:
        raise UnreachableError(f"{urlsplit(url).netloc} answers {error.code} {error.reason} for {url}: run again later")
    raise ValueError(
        f"need a file at {url}, and its server answers {error.code} {error.reason}: give another source with --from"
    )


def _part(path: Path) -> Path:
    return path.with_name(path.name + PART)


def _stamp(part: Path) -> Path:
    """Where it is kept which version of a file a part is of."""
    return part.with_name(part.name + ".json")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
