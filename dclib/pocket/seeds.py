"""Random streams by name, so that neither order nor process count changes a picture; and JPEG bytes."""

from __future__ import annotations

import io
import zlib

import numpy as np
from PIL import Image

JPEG_QUALITY = 90


def stream(seed: int, purpose: str, index: int = 0) -> np.random.Generator:
    """The generator of picture ``index`` of ``purpose`` (such as "objects/train"): independent of all others."""
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), index])


def jpeg_bytes(image: Image.Image) -> bytes:
    """The picture as a JPEG file of quality 90."""
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()
