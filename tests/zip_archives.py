"""Archives of small photos, laid out as YFCC100M's are."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from PIL import Image


def write_archives(
    root: Path, numbers: Iterable[int], *, method: int = zipfile.ZIP_STORED, notes: bytes = b""
) -> dict[int, bytes]:
    """Archives of small JPEGs, each of its own grey; and what was packed. Not in order, as a real one may be."""
    packed = {}
    by_archive = groupby(sorted(numbers, reverse=True), key=lambda number: archive_of(root, number))
    for path, members in by_archive:
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(path, "w", method) as archive:
            archive.writestr("notes", notes)
            for number in members:
                packed[number] = small_jpeg(number)
                archive.writestr(f"{number:08d}"[5:] + ".jpg", packed[number])
    return packed


def small_jpeg(number: int) -> bytes:
    """A photo of the grey ``number`` % 251, of a length of its own."""
    buffer = io.BytesIO()
    Image.new("L", (8, 8), number % 251).save(buffer, "jpeg", comment=str(number) * (number % 5))
    return buffer.getvalue()


def archive_of(root: Path, number: int) -> Path:
    digits = f"{number:08d}"
    return root / digits[:2] / f"{digits[2:5]}.zip"
