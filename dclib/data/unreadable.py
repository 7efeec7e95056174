"""How many images of a set cannot be read: looked at before anything runs, and counted while it does. No torch here."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from dclib.data.images import ImageSet, UnreadableImageError
from dclib.machine import count_cores

NAMED_FAILURES = 5  # unreadable images that are named in a message
SAMPLE = 400  # images of a set that are opened
CERTAIN = 5.0  # standard deviations above the limit that make a sample's share of unreadable images no chance


@lru_cache(maxsize=8)  # methods ask for the same set
def unreadable_fault(images: ImageSet, limit: float) -> str:
    """Why too many of some images cannot be read, by a look at SAMPLE of them, evenly spread; empty where enough can.

    A small set is looked at whole. What a sample says of a large one must be beyond chance; a run counts them all.
    """
    rows = np.unique(np.linspace(0, len(images) - 1, SAMPLE).round().astype(np.int64))
    with ThreadPoolExecutor(count_cores()) as pool:  # Pillow lets go of the interpreter while it decodes
        readable = list(pool.map(partial(_is_readable, images), rows.tolist()))
    failed = [at for at, is_read in enumerate(readable) if not is_read]
    n, chance, name = len(rows), 0.0, images.name
    if n < len(images):
        chance, name = CERTAIN * (limit * (1 - limit) / n) ** 0.5, f"{images.name}, {n:,} of {len(images):,} looked at,"
    if len(failed) <= (limit + chance) * n and len(failed) < n:
        return ""
    try:
        refuse_too_many(images.subset(rows, name=name), failed, limit)
    except ValueError as error:
        return str(error)
    return ""


def _is_readable(images: ImageSet, row: int) -> bool:
    try:
        images.open(row, draft=1)  # JPEG at an eighth of its size: all of its bytes are read
    except UnreadableImageError:
        return False
    return True


def refuse_too_many(images: ImageSet, rows: list[int], limit: float, listed: Path | None = None) -> None:
    """ValueError that counts and names the unreadable images, if they are more than the limit or all there are."""
    share = len(rows) / len(images)
    if share > limit or len(rows) == len(images):
        names = ", ".join(images.ids[row] for row in rows[:NAMED_FAILURES])
        repaired = f"; once they are repaired, delete {listed}, which counts them" if listed else ""
        raise ValueError(
            f"{len(rows)} of {len(images)} images of {images.name} are unreadable ({share:.1%}), more than the "
            f"{limit:.1%} that data.max_unreadable allows; the first: {names}. "
            f"Remove them, or raise the limit{repaired}"
        )
