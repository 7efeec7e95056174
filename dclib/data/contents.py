"""What the files of a set hold: a hash that another picture of the same name and size changes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dclib.data.images import FileReader, ImageSet, UnreadableImageError
from dclib.machine import count_cores
from dclib.reading import read_text
from dclib.records import make_folder, write_atomically

AT_ONCE = 256  # images that a thread reads at a time


def content_hash(images: ImageSet, cache: Path | None = None) -> str:
    """Hash of the bytes of all images, in order; empty where they are in no files.

    Each image is read once. ``cache`` is a folder that keeps the answer for as long as none of the files is written
    to, by the times that the disk has for them; files that were copied elsewhere are read again, and give the same.

    Raises:
        OSError: the cache folder cannot be written.
    """
    if not isinstance(images.reader, FileReader):
        return ""
    kept = None
    if cache is not None:
        times = hashlib.sha256(images.reader.written(images.ids).tobytes()).hexdigest()[:12]
        kept = cache / f"{images.fingerprint}-{times}.content"
        if kept.is_file() and re.fullmatch(r"[0-9a-f]{12}", found := read_text(kept)):
            return found
    digest = hashlib.sha256()
    with ThreadPoolExecutor(count_cores()) as pool:
        for part in pool.map(lambda start: _digests(images, start), range(0, len(images), AT_ONCE)):
            digest.update(part)
    found = digest.hexdigest()[:12]
    if kept is not None:
        make_folder(kept.parent)
        write_atomically(kept, found.encode())
    return found


def content_hashes(sets: Sequence[ImageSet], cache: Path | None = None) -> list[str]:
    """For each set a hash of its names, sizes, labels and content."""
    return [f"{images.fingerprint}{content_hash(images, cache)}" for images in sets]


def _digests(images: ImageSet, start: int) -> bytes:
    """Digests of ``AT_ONCE`` images from ``start``; of one that cannot be read, that it cannot."""
    digests = []
    for index in range(start, min(start + AT_ONCE, len(images))):
        try:
            digests.append(images.read(index, lambda content: hashlib.sha256(content).digest()))
        except UnreadableImageError:
            digests.append(bytes(32))
    return b"".join(digests)
