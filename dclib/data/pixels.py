"""Batches of pixels: kept decoded in one memory-mapped file while they fit, decoded on the way when they do not."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dclib.config import DataConfig, config_hash
from dclib.data.contents import content_hash
from dclib.data.decoding import decode_rgb
from dclib.data.images import ImageSet, UnreadableImageError, name_some
from dclib.data.photo_crops import crop_photo
from dclib.data.streaming import Job, Stream, Unreadable, decode_batches
from dclib.data.transforms import Area, crop_batch, draw_crops, resize_and_centre, to_tensor
from dclib.data.unreadable import refuse_too_many
from dclib.machine import count_cores
from dclib.randomness import generator
from dclib.records import make_folder, replacing, temporary_for

DECODE_CHUNK = 256  # images a decoding process takes at once
NAMED = 20  # unreadable images that are named where they are told of


@dataclass(frozen=True)
class Pixels:
    """The images of a set, ready to be cut into batches.

    Attributes:
        images: The set without the images that were left out; row numbers everywhere refer to it.
        left_out: Ids of the unreadable images that it does not hold.
        size: Side of the square batches, pixels.
        resize: Short side before the centre crop, pixels.
        decoded: (n, 3, resize, resize) uint8, memory-mapped, or None when images are decoded as they are used.
        workers: Processes that decode then.
        replaced: The unreadable images met on the way, for each of which another is shown; None where all of
            ``images`` have been read once.
        content: Hash of the bytes of all images, where they have been read and a cache keeps it; else empty.
    """

    images: ImageSet
    left_out: tuple[str, ...]
    size: int
    resize: int
    decoded: Tensor | None
    workers: int = 0
    replaced: Unreadable | None = None
    content: str = ""

    def __len__(self) -> int:
        return len(self.images)

    @property
    def unreadable(self) -> tuple[str, ...]:
        """Ids of the images that were left out, or that were met and replaced so far."""
        return self.left_out if self.replaced is None else self.replaced.ids

    @property
    def note(self) -> str:
        """A sentence that counts and names the unreadable images; empty where there are none."""
        if not (names := self.unreadable):
            return ""
        total = len(self) + len(self.left_out)
        done = "left out" if self.replaced is None else "replaced by others"
        return f"{len(names):,} of {total:,} images of {self.images.name} cannot be read, {done}: " + name_some(
            names, NAMED
        )

    @property
    def data_hash(self) -> str:
        """What a record calls the data hash: names, sizes and labels, and the content where it has been read."""
        return config_hash(self.images.fingerprint, self.content) if self.content else self.images.fingerprint

    @property
    def identity(self) -> str:
        """Changes with anything that changes a batch: the images, the sizes, and whether crops are cut from the
        kept squares or from the whole images."""
        return config_hash(self.data_hash, self.size, self.resize, self.decoded is None)

    def of_size(self, size: int) -> Pixels:
        """The same images in batches of another size, at most ``resize``."""
        if size > self.resize:
            raise ValueError(f"need views of at most data.resize = {self.resize} pixels; got {size}")
        return self if size == self.size else replace(self, size=size)

    def centre_batches(self, batch_size: int, start: int = 0, stop: int | None = None) -> Iterator[Tensor]:
        """The clustering pass: images ``start`` to ``stop``, by default all, once and in order, centre-cropped.

        (b, 3, size, size) uint8; an empty range has no batch. An image's view does not depend on the range.
        """
        stop = len(self) if stop is None else stop
        if not 0 <= start <= stop <= len(self):
            raise ValueError(f"need 0 <= start <= stop <= {len(self)}, the images; got {start} and {stop}")
        ranges = (range(first, min(first + batch_size, stop)) for first in range(start, stop, batch_size))
        if self.decoded is None:
            cut = partial(_cut_centre, resize=self.resize, size=self.size, upright=self.images.upright)
            jobs = (Job(np.arange(r.start, r.stop), np.arange(len(r)), 0) for r in ranges)
            yield from self._stream(cut, jobs)
            return
        for rows in ranges:
            yield _centre(self.decoded[rows.start : rows.stop], self.size).clone()

    def crop_batches(
        self,
        batches: Sequence[Tensor],
        crop_area: Area,
        seeds: Sequence[int],
        places: Sequence[Tensor] | None = None,
    ) -> Iterator[Tensor]:
        """The training pass, before the quarter turn: random crops and flips of the given rows.

        (b, 3, size, size): uint8 where images are decoded as they are used, else float in [0, 1].

        Args:
            batches: Row numbers (b,) of each batch.
            crop_area: Smallest share of an image's area that is kept, or smallest and largest.
            seeds: One per batch: a batch depends on its own seed alone, so a run can start anywhere.
            places: For each batch the positions in it that are wanted here, by default all. Each is cropped as it
                is in the whole batch, so that several processes may share one; an empty one gives (0, 3, size, size).
        """
        wanted = (torch.arange(len(batch)) for batch in batches) if places is None else places
        shared = zip(batches, wanted, seeds, strict=True)
        if self.decoded is None:
            cut = partial(_cut_crop, crop_area=crop_area, size=self.size, upright=self.images.upright)
            jobs = (Job(batch[chosen].numpy(), chosen.numpy(), seed) for batch, chosen, seed in shared)
            yield from self._stream(cut, jobs)
            return
        for batch, chosen, seed in shared:
            sides = torch.full((len(batch),), self.resize)
            crops = draw_crops(sides, sides, crop_area, generator(seed))  # of the whole batch: one draw gives them all
            empty = torch.empty(0, 3, self.size, self.size)
            yield crop_batch(self.decoded[batch[chosen]], crops.at(chosen), self.size) if len(chosen) else empty

    def square_batches(self, batches: Sequence[Tensor], places: Sequence[Tensor]) -> Iterator[Tensor]:
        """The wanted places of batches of rows whole, as squares of ``resize``: (b, 3, resize, resize) uint8."""
        shared = zip(batches, places, strict=True)
        if self.decoded is None:
            cut = partial(_cut_centre, resize=self.resize, size=self.resize, upright=self.images.upright)
            jobs = (Job(batch[chosen].numpy(), chosen.numpy(), 0) for batch, chosen in shared)
            yield from self.of_size(self.resize)._stream(cut, jobs)
            return
        for batch, chosen in shared:
            yield self.decoded[batch[chosen]]

    def _stream(self, cut: Callable[..., Tensor], jobs: Iterable[Job]) -> Iterator[Tensor]:
        stream = Stream(self.images, cut, self.size, replace=self.replaced is not None)
        return decode_batches(stream, jobs, self.workers, self.replaced)


def load_pixels(
    images: ImageSet, data: DataConfig, size: int, cache: Path | None = None, *, scan: bool = False
) -> Pixels:
    """Decode the images, once, if ``data.memory_gb`` allows, and leave out those that cannot be read.

    Images that are decoded as they are used are not looked at first: all of them keep their number, and an
    unreadable one is replaced by another when it comes up (see :mod:`dclib.data.streaming`). That will not do where
    an image goes with a label: ``scan`` reads each image once in any case, and leaves the unreadable ones out.

    Args:
        images: Any set.
        data: ``resize``, ``memory_gb``, ``max_unreadable`` and ``workers`` are used.
        size: Side of the square batches, at most ``data.resize``.
        cache: Folder that keeps the decoded file and the list of unreadable images for the next call; without it
            they live in memory.

    Raises:
        ValueError: ``size`` is larger than ``data.resize``, or more than ``data.max_unreadable`` of the images do
            not decode; the message counts and names them. While batches are read, too, if images are replaced.
        OSError: the cache folder cannot be written.
    """
    if size > data.resize:
        raise ValueError(f"data.resize must be at least model.image_size; got {data.resize} and {size}")
    keep = len(images) * 3 * data.resize**2 <= data.memory_gb * 2**30
    content = content_hash(images, cache) if cache is not None and (keep or scan) else ""
    stem = None if cache is None else cache / "-".join(filter(None, (images.fingerprint, content, str(data.resize))))
    if not keep and not scan:
        replaced = Unreadable(images, data.max_unreadable, stem and stem.with_suffix(".replaced"))
        return Pixels(images, (), size, data.resize, None, data.workers, replaced)
    failed = _read_failures(stem, keep, len(images), data.resize)
    if failed is None:
        failed = _decode_all(images, data.resize, stem) if keep else (_scan(images, stem), None)
    unreadable, pixels = failed
    refuse_too_many(images, unreadable.tolist(), data.max_unreadable)
    readable = np.setdiff1d(np.arange(len(images)), unreadable)
    left_out = tuple(images.ids[i] for i in unreadable)
    shown = images.subset(readable) if left_out else images
    return Pixels(shown, left_out, size, data.resize, pixels, data.workers, content=content)


def _centre(pixels: Tensor, size: int) -> Tensor:
    """The central ``size`` x ``size`` of square images (..., side, side)."""
    edge = round((pixels.shape[-1] - size) / 2)
    return pixels[..., edge : edge + size, edge : edge + size]


def _read_failures(stem: Path | None, keep: bool, n: int, side: int) -> tuple[NDArray[np.int64], Tensor | None] | None:
    """What an earlier call left in the cache, or None."""
    if stem is None or not stem.with_suffix(".unreadable.npy").exists():
        return None
    unreadable = np.load(stem.with_suffix(".unreadable.npy"))
    path, shape = stem.with_suffix(".u8"), (n - len(unreadable), 3, side, side)
    if not keep:
        return unreadable, None
    if not path.exists() or path.stat().st_size != math.prod(shape) or shape[0] == 0:
        return None
    shared = np.memmap(path, dtype=np.uint8, mode="c", shape=shape)  # copy on write: never changed
    return unreadable, torch.from_numpy(shared)


def _decode_all(images: ImageSet, side: int, stem: Path | None) -> tuple[NDArray[np.int64], Tensor | None]:
    shape = (len(images), 3, side, side)
    if stem is None:
        memory = np.zeros(shape, dtype=np.uint8)
        unreadable = _fill(images, side, memory)
        return unreadable, torch.from_numpy(memory[: len(images) - len(unreadable)])
    make_folder(stem.parent)
    free = shutil.disk_usage(stem.parent).free
    if math.prod(shape) > free:  # a full disk would kill the process: the file is written through memory
        raise OSError(
            f"need {math.prod(shape) / 2**30:.1f} GiB in {stem.parent} for decoded images; {free / 2**30:.1f} free. "
            "Free some space, or lower data.memory_gb so that images are decoded as they are used"
        )
    with temporary_for(stem.with_suffix(".u8")) as temporary:
        target = np.memmap(temporary, dtype=np.uint8, mode="w+", shape=shape)
        unreadable = _fill(images, side, target)
        target.flush()
        os.truncate(temporary, math.prod(shape[1:]) * (len(images) - len(unreadable)))
    _save_array(stem.with_suffix(".unreadable.npy"), unreadable)
    return _read_failures(stem, True, len(images), side) or (unreadable, None)


def _fill(images: ImageSet, side: int, target: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Decode the readable images into the first rows of ``target``; returns the numbers of the others."""
    failures: list[int] = []
    written = 0
    for start, block, failed in _decode_chunks(images, side):
        good = np.delete(block, np.array(failed) - start, axis=0) if failed else block
        target[written : written + len(good)] = good
        written += len(good)
        failures += failed
    return np.array(failures, dtype=np.int64)


def _scan(images: ImageSet, stem: Path | None) -> NDArray[np.int64]:
    """Numbers of the images that do not decode, kept for the next call."""
    if stem is not None:
        make_folder(stem.parent)
    unreadable = np.array([i for _, _, failed in _decode_chunks(images, 0) for i in failed], dtype=np.int64)
    if stem is not None:
        _save_array(stem.with_suffix(".unreadable.npy"), unreadable)
    return unreadable


def _decode_chunks(images: ImageSet, side: int) -> Iterator[tuple[int, NDArray[np.uint8], list[int]]]:
    """Chunks of decoded images in order. In threads: Pillow lets go of the interpreter while it decodes."""
    starts = range(0, len(images), DECODE_CHUNK)
    with ThreadPoolExecutor(count_cores()) as pool:
        yield from pool.map(lambda start: _decode_chunk(images, start, side), starts)


def _decode_chunk(images: ImageSet, start: int, side: int) -> tuple[int, NDArray[np.uint8], list[int]]:
    rows = range(start, min(start + DECODE_CHUNK, len(images)))
    block = np.zeros((len(rows) if side else 0, 3, side, side), dtype=np.uint8)
    failed = []
    for row in rows:
        try:
            image = images.open(row, draft=side)
            if side:
                block[row - start] = to_tensor(resize_and_centre(image, side, side)).numpy()
        except UnreadableImageError:
            failed.append(row)
    return start, block, failed


def _cut_centre(content: bytes, seed: int, place: int, *, resize: int, size: int, upright: bool) -> Tensor:
    image = decode_rgb(content, draft=resize, upright=upright)
    kept = to_tensor(resize_and_centre(image, resize, resize))
    return _centre(kept, size)  # in two steps, as decoded pixels are cut


def _cut_crop(content: bytes, seed: int, place: int, *, crop_area: Area, size: int, upright: bool) -> Tensor:
    return crop_photo(content, crop_area, size, generator(seed, place), upright=upright)


def _save_array(path: Path, array: NDArray[np.int64]) -> None:
    with replacing(path) as file:
        np.save(file, array)
