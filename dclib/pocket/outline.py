"""Pictures of a pocket world in outline: each is drawn when it is looked at, for a page shows a few hundred of 18,000.

An outline has the folders, lists and tables of the world, so that it opens as the world does; the pictures of the
pool, the objects, the scenes, the groups of objects and the clips have names and no bytes, and the groups no boxes and
lists.
:func:`dclib.pocket.world.make_pocket_world` writes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from itertools import chain
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from dclib.pocket.clip_set import clip_bytes
from dclib.pocket.folder_sets import image_bytes
from dclib.pocket.people import Photo, plan_photos
from dclib.pocket.pool_set import image_numbers, photo_bytes
from dclib.pocket.seeds import jpeg_bytes
from dclib.pocket.voc_set import draw_numbered, voc_ids
from dclib.pocket.world import world_sizes

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


class GroupDrawer(_Drawer):
    """Draws the pictures of several objects by their name; ``pool_images`` is the size of the world."""

    def __init__(self, root: Path, pool_images: int, seed: int) -> None:
        super().__init__(root, seed)
        splits = voc_ids(world_sizes(pool_images).voc, seed).values()
        self.places = {name: place for place, name in chain.from_iterable(map(enumerate, splits))}

    def _draw(self, image_id: str) -> bytes:
        name = PurePosixPath(image_id).stem
        return jpeg_bytes(draw_numbered(name, self.places[name], self.seed)[0])


class ClipDrawer(_Drawer):
    """Draws the frames of clips by their path below ``root``, a whole clip at once."""

    def __init__(self, root: Path, seed: int) -> None:
        super().__init__(root, seed)
        self.clip = lru_cache(KEPT // 64)(lambda index: clip_bytes(seed, index))

    def _draw(self, image_id: str) -> bytes:
        path = PurePosixPath(image_id)
        return self.clip(int(path.parent.name))[int(path.stem)]
