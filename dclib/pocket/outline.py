"""Pictures of a pocket world in outline: each is drawn when it is looked at, for a page shows a few hundred of 18,000.

An outline has the folders, lists and tables of the world, so that it opens as the world does; the pictures of the
pool, the objects and the scenes have names and no bytes. :func:`dclib.pocket.world.make_pocket_world` writes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from dclib.pocket.folder_sets import image_bytes
from dclib.pocket.people import Photo, plan_photos
from dclib.pocket.pool_set import image_numbers, photo_bytes

KEPT = 4096  # pictures; a page opens most of its own twice


class _Drawer:
    """Draws a picture when it is read, and keeps the last ones; ``root`` is the folder of its set."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root, self.seed = root, seed
        self.read = lru_cache(KEPT)(self._draw)

    def sizes(self, image_ids: Sequence[str]) -> NDArray[np.int64]:
        """Bytes of each picture, (n,): to know them is to draw it."""
        return np.array([len(self.read(image_id)) for image_id in image_ids], dtype=np.int64)

    def _draw(self, image_id: str) -> bytes:
        raise NotImplementedError


class PoolDrawer(_Drawer):
    """Draws the photos of the pool by their number; ``root`` is where its tables are."""

    def __init__(self, root: Path, count: int, seed: int) -> None:
        super().__init__(root, seed)
        self.count = count

    @cached_property
    def photos(self) -> dict[int, Photo]:
        """What is to be drawn for each number."""
        planned = plan_photos(self.count, self.seed, image_numbers(self.count, self.seed))
        return {photo.number: photo for photo in planned}

    def _draw(self, image_id: str) -> bytes:
        return photo_bytes(self.seed, self.photos[int(image_id)])


class FolderDrawer(_Drawer):
    """Draws the pictures of one split of the objects or scenes by their path below ``root``."""

    def _draw(self, image_id: str) -> bytes:
        name, _, index = PurePosixPath(image_id).stem.rpartition("_")
        return image_bytes(self.root.parent.name, self.root.name, name, int(index), self.seed)
