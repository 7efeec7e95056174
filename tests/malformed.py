"""Small inputs as they come from broken disks, other programs and other people, made anew and alike each time."""

from __future__ import annotations

import io
import struct

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SAMPLE_FORMATS = {"u": 1, "i": 2, "f": 3}


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """The image as a file of this kind."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def grey_tiff(
    samples: NDArray[np.generic],
    *,
    bits: int = 0,
    packed: bytes = b"",
    white_is_zero: bool = False,
    big_endian: bool = False,
    size: tuple[int, int] | None = None,
) -> bytes:
    """An uncompressed grey TIFF (h, w), written by hand: Pillow writes few of these, and other programs all."""
    order = ">" if big_endian else "<"
    height, width = samples.shape if size is None else size
    data = packed or samples.astype(samples.dtype.newbyteorder(order)).tobytes()
    kind = 1 if packed else SAMPLE_FORMATS[samples.dtype.kind]
    tags = {
        256: width,
        257: height,
        258: bits or 8 * samples.dtype.itemsize,
        259: 1,
        262: 0 if white_is_zero else 1,
        273: 8,
        277: 1,
        278: height,
        279: len(data),
        339: kind,
    }
    entries = b"".join(
        struct.pack(f"{order}HHII", tag, 4, 1, value)
        if tag not in (258, 259, 262, 277, 339)
        else struct.pack(f"{order}HHIHH", tag, 3, 1, value, 0)
        for tag, value in tags.items()
    )
    head = (b"MM" if big_endian else b"II") + struct.pack(f"{order}HI", 42, 8 + len(data))
    return head + data + struct.pack(f"{order}H", len(tags)) + entries + bytes(4)
