"""Files out of published archives: one after the other, none outside its folder, and no links."""

from __future__ import annotations

import gzip
import shutil
import sys
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from tqdm import tqdm

CHUNK = 2**20  # bytes
BROKEN = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile)  # what reading a damaged archive raises


def members(path: Path) -> Iterator[tuple[PurePosixPath, IO[bytes]]]:
    """Path and content of each file in a .tar or .tar.gz, in its order; read the content before you ask for the next.

    Raises:
        ValueError: it holds what is no plain file, or would lie outside its folder.
        BROKEN: it is no such archive, or a damaged one; reading the content may raise them too.
    """
    with _uncompressed(path) as raw:
        with tarfile.open(fileobj=raw, mode="r|") as archive:
            for member in archive:
                inside = PurePosixPath(member.name)
                if member.isdir():
                    continue
                if inside.is_absolute() or ".." in inside.parts or not member.isreg():
                    kind = "a path that leads out of its folder" if member.isreg() else "a link or a device"
                    raise ValueError(
                        f"{path} holds {kind}, {member.name!r}, and is not unpacked: fetch it from its authors' own "
                        "address"
                    )
                content = archive.extractfile(member)
                assert content is not None  # of a file
                yield inside, content
        while raw.read(CHUNK):  # to its end, where gzip has a checksum
            pass


def put(content: IO[bytes], path: Path) -> None:
    """Write a file of an archive. Raises ValueError where another of that name and other content is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        if path.read_bytes() != content.read():
            raise ValueError(f"two different files are called {path.name}: this is not the published set")
        return
    with path.open("xb") as file:
        shutil.copyfileobj(content, file, CHUNK)


@contextmanager
def _uncompressed(path: Path) -> Iterator[Any]:
    with path.open("rb") as file:
        is_packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        shown: dict[str, Any] = {"desc": f"unpack {path.name}", "leave": False, "disable": not sys.stderr.isatty()}
        with tqdm.wrapattr(file, "read", total=path.stat().st_size, **shown) as watched:
            if is_packed:
                with gzip.GzipFile(fileobj=cast(Any, watched)) as unpacked:
                    yield unpacked
            else:
                yield watched
