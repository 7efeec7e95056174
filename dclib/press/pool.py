"""The images that a book shows by its clusters: drawn ones, or those of a folder where it is here. No torch here."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dclib.config import DataConfig, config_hash
from dclib.data.layouts import find_split, open_split
from dclib.pocket.outline import PoolDrawer
from dclib.pocket.world import VERSION
from dclib.presets import data_root, runs_folder
from dclib.records import replacing
from dclib.report.pictures import open_to_show, square_tile
from dclib.train.forming import mapped_rows

SIDE = 64  # pixels
Pictures = NDArray[np.uint8]  # (m, 3, SIDE, SIDE)


@dataclass(frozen=True)
class Pool:
    """Some images of a pool of ``n``: ``mapped_rows(n)`` of them, whose features may have a place on a map."""

    n: int
    names: Sequence[str]
    taken: Sequence[str]  # "YYYY-MM-DDTHH:MM:SS", or "" where it is not known
    size: NDArray[np.int32]  # (m, 2) pixels; 0 where it is not known
    is_drawn: bool
    thumbs: Callable[[], Pictures]  # made once, and kept with the runs

    @property
    def rows(self) -> NDArray[np.int64]:
        """Which they are."""
        return mapped_rows(self.n)


def shown_pool(data: DataConfig) -> Pool | None:
    """The pool of a preset; None where its images are not here, or cannot be opened."""
    return _drawn_pool(data) if data.is_drawn else _own_pool(data)


def _drawn_pool(data: DataConfig) -> Pool:
    drawer = PoolDrawer(Path(), data.pocket_images, data.pocket_seed)
    every = sorted(drawer.photos)
    numbers = [every[i] for i in mapped_rows(len(every))]
    photos = [drawer.photos[number] for number in numbers]

    def picture(i: int) -> NDArray[np.uint8]:
        drawn = Image.open(io.BytesIO(drawer.read(str(numbers[i])))).convert("RGB")
        return np.asarray(drawn.resize((SIDE, SIDE), Image.Resampling.BOX))

    name = f"thumbnails-v{VERSION}-{data.pocket_images}-s{data.pocket_seed}-mapped-{SIDE}"
    return Pool(
        len(every),
        [f"{photo.class_name}/{photo.number:08d}.jpg" for photo in photos],
        [photo.taken[:19].replace(" ", "T") for photo in photos],
        np.full((len(photos), 2), 128, np.int32),
        True,
        lambda: _kept(name, len(photos), picture),
    )


def _own_pool(data: DataConfig) -> Pool | None:
    with suppress(ValueError, OSError):
        if find_split(data_root(data), data.pool, name="pool") is None:
            return None
        images = open_split(data_root(data), data.pool, name="pool", cache=runs_folder())
        if images is None or not len(images):
            return None
        rows = mapped_rows(len(images)).tolist()
        names = [images.ids[i] for i in rows]
        state = config_hash(str(data_root(data)), len(images), names, images.reader.sizes(names).tolist())

        def picture(i: int) -> NDArray[np.uint8]:
            return square_tile(open_to_show(images, rows[i], draft=SIDE), SIDE)

        unknown = np.zeros((len(rows), 2), np.int32)
        thumbs = lambda: _kept(f"thumbnails-{state}-{SIDE}", len(rows), picture)  # noqa: E731
        return Pool(len(images), names, [""] * len(rows), unknown, False, thumbs)
    return None


def _kept(name: str, count: int, picture: Callable[[int], NDArray[np.uint8]]) -> Pictures:
    """Pictures that were kept under a name, made if they were not."""
    path = runs_folder() / "drawn" / f"{name}.npy"
    if not path.is_file():
        made = np.stack([picture(i) for i in range(count)])
        with replacing(path) as file:
            np.save(file, made.transpose(0, 3, 1, 2))
    kept: Pictures = np.load(path)
    return kept
