"""Files of other people: text as editors, spreadsheets and other systems write it, and NumPy's arrays.

What cannot be read is a ValueError of one sentence with the file's name and what to do.
"""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# the longer marks first: UTF-32's begins with UTF-16's
MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
SEPARATORS = re.compile(r"[\s,;]+")
LARGEST_TEXT = 2**28  # bytes that are read at once; lists of millions of images have less


def encoding_of(head: bytes) -> str:
    """How a text that begins with these bytes (four suffice) is written: UTF-8, unless a mark says otherwise."""
    return next((name for mark, name in MARKS if head.startswith(mark)), "utf-8")


def read_text(path: str | Path) -> str:
    """A whole text file, with ``\\n`` at the ends of its lines whatever they were, and without a byte order mark.

    Read are UTF-8, and UTF-16 and UTF-32 that say so by their mark.

    Raises:
        ValueError: it is missing or a folder, has another encoding, holds zeros, or is far too large for a text.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > LARGEST_TEXT:
            raise ValueError(f"need a text file, got {path} of {size:,} bytes; at most {LARGEST_TEXT:,} are read")
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"need a text file at {path}: {error.strerror or error}") from None
    encoding = encoding_of(content[:4])
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = len(re.findall(b"\r\n|\r|\n", content[: error.start])) + 1
        raise ValueError(_no_text(path, line, "bytes that are not")) from None
    if "\0" in text:
        raise ValueError(_no_text(path, len(text[: text.index("\0")].splitlines()) or 1, "a zero byte"))
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_lines(path: str | Path) -> list[tuple[int, str]]:
    """The lines of :func:`read_text` that are not blank, without white space around them, with numbers from 1."""
    lines = read_text(path).split("\n")
    return [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]


def iterate_lines(path: str | Path) -> Iterator[str]:
    """The lines of a text that may be too long for memory, blank ones too, without their ends. As :func:`read_text`.

    Raises:
        ValueError: while lines are read, where one is not text.
    """
    path = Path(path)
    number = 0
    try:
        with path.open("rb") as file:
            encoding = encoding_of(file.read(4))
        with path.open(encoding=encoding) as lines:
            for line in lines:
                number += 1
                if "\0" in line:
                    raise ValueError(_no_text(path, number, "a zero byte"))
                yield line.rstrip("\n")
    except UnicodeDecodeError:
        raise ValueError(_no_text(path, number + 1, "bytes that are not")) from None


def split_fields(line: str) -> list[str]:
    """The fields of a line: between spaces, tabs, commas or semicolons, without quotation marks around them.

    So a list may have been through a spreadsheet. Names with such a character in them cannot be told apart from two.
    """
    return [field.strip('"') for field in SEPARATORS.split(line) if field.strip('"')]


def load_array(path: str | Path) -> NDArray[Any]:
    """The array of numbers in a ``.npy`` file; nothing in it is run.

    Raises:
        ValueError: it is missing, cut short, several arrays (``.npz``), or holds anything but numbers. The message is
            the reason; which file it is, and what is wanted of it, is for the caller to say.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            shape, dtype = _array_head(file)
            held = path.stat().st_size - file.tell()
        if dtype.hasobject or dtype.kind not in "biuf":
            raise ValueError(f"its entries are {dtype}, and only numbers are read")
        needed = math.prod(shape) * dtype.itemsize
        if held < needed:  # said before memory for all of it is asked for
            raise ValueError(f"it is cut short: an array of {shape} {dtype} has {needed:,} bytes, here are {held:,}")
        return np.asarray(np.load(path, allow_pickle=False))
    except Exception as error:  # NumPy raises nearly anything on broken bytes
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ValueError(f"{' '.join(reason.split())}; save it anew by numpy.save") from None


def _no_text(path: Path, line: int, got: str) -> str:
    return f"{path}, near line {line}: need a text file in UTF-8, got {got}; save it as UTF-8"


def _array_head(file: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype
