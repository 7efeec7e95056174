"""One process at a time writes to a folder of answers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dclib.records import lock


@contextmanager
def writing_alone(folder: Path) -> Iterator[None]:
    """Held while this process writes there. Raises ValueError where another does."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            lock(descriptor, wait=False)
        except BlockingIOError:
            raise ValueError(
                f"another process is writing to {folder}; wait for it, or name another folder with --out"
            ) from None
        yield
    finally:
        os.close(descriptor)
