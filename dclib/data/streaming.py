"""Images decoded on the way, batch by batch, with another image in the place of one that cannot be read.

Which one is decided by the image's number alone, so that every process, number of workers and restart sees the
same; image numbers and the order of an epoch stay what they are without looking at every image first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dclib.data.images import ImageSet, UnreadableImageError
from dclib.data.unreadable import refuse_too_many
from dclib.preemption import LOOK, leave_if_waiting_since
from dclib.randomness import derive_seed
from dclib.records import make_folder

TRIES = 20  # images tried for one place: were half of them unreadable, all would fail once in a million places


class Job(NamedTuple):
    """One batch to decode. Arrays, for tensors would travel through shared memory, of which there may be none."""

    rows: NDArray[np.int64]  # (b,) image numbers
    places: NDArray[np.int64]  # (b,) positions in the whole batch, which a crop depends on
    seed: int


class Decoded(NamedTuple):
    """What became of a job."""

    pixels: Tensor | NDArray[np.uint8] | None  # (b, 3, size, size); None where nothing could be read for a place
    unreadable: list[int]  # numbers of the images that failed; after None, the last TRIES are those of that place


class Unreadable:
    """The images of a set that could not be read when they were wanted, and how many of them there may be.

    The share is one of the whole set, not of the images met so far: the verdict is then the same as that of looking
    at all of them first, whatever the order, the number of processes and the restarts; a set with too many is found
    out within one pass, and sooner the more there are. A lost disk, where everything fails, is found at once by
    TRIES.

    Args:
        images: The whole set.
        limit: Share of it that may be unreadable.
        path: File of numbers, 8 bytes each, that is only added to, so that processes and restarts share the count;
            None keeps it in memory.

    Raises:
        ValueError: there are too many; when it is made (by what the file says) and on :meth:`add`.
    """

    def __init__(self, images: ImageSet, limit: float, path: Path | None = None) -> None:
        self.images, self.limit, self.path = images, limit, path
        self._rows: dict[int, None] = {}  # in the order of their finding
        self._bytes_read = 0
        if path is not None:
            make_folder(path.parent)
        self.add([])

    @property
    def ids(self) -> tuple[str, ...]:
        """Names of those met so far, by any process, in the order of the set."""
        self._catch_up()
        return tuple(self.images.ids[row] for row in sorted(self._rows))

    def add(self, rows: Iterable[int]) -> None:
        """Count images that failed; a number may come again."""
        self._catch_up()
        new = dict.fromkeys(row for row in rows if row not in self._rows)
        self._rows |= new
        if new and self.path is not None:
            with self.path.open("ab") as file:  # one write at the end: others may be writing too
                file.write(np.array(list(new), dtype="<i8").tobytes())
        refuse_too_many(self.images, list(self._rows), self.limit, self.path)

    def _catch_up(self) -> None:
        """Take over what other processes have found since."""
        if self.path is not None and self.path.exists() and self.path.stat().st_size > self._bytes_read:
            found = np.fromfile(self.path, dtype="<i8", offset=self._bytes_read)
            self._bytes_read += found.nbytes
            self._rows |= dict.fromkeys(found.tolist())


class Stream(Dataset[Decoded]):
    """Decodes and cuts a whole batch: what a worker process is asked for.

    Args:
        images: The whole set.
        cut: From an image's bytes, the ``seed`` of its batch and its ``place`` there to (3, size, size) uint8.
        size: Side of the batches, pixels.
        replace: Whether another image takes the place of an unreadable one; else that is an UnreadableImageError.
    """

    def __init__(self, images: ImageSet, cut: Callable[..., Tensor], size: int, replace: bool) -> None:
        self.images, self.cut, self.size, self.replace = images, cut, size, replace

    def __getitem__(self, job: Job) -> Decoded:
        shape = (len(job.rows), 3, self.size, self.size)
        # colours last: how decoders write them, and how networks want them
        pixels = torch.empty(shape, dtype=torch.uint8, memory_format=torch.channels_last)
        unreadable: list[int] = []
        for view, row, place in zip(pixels, job.rows.tolist(), job.places.tolist(), strict=True):
            cut = self._read(row, partial(self.cut, seed=job.seed, place=place), unreadable)
            if cut is None:
                return Decoded(None, unreadable)
            view.copy_(cut)
        return Decoded(pixels, unreadable)

    def _read(self, row: int, cut: Callable[[bytes], Tensor], unreadable: list[int]) -> Tensor | None:
        """Image ``row``, or the first readable one of those drawn for it; notes in ``unreadable`` what failed.

        They are drawn from the whole set rather than taken from beside it: a damaged archive has a thousand
        unreadable neighbours, and what follows it would be seen a thousand times.
        """
        if not self.replace:
            return self.images.read(row, cut)
        for attempt in range(TRIES):
            candidate = derive_seed(row, "replacement", attempt) % len(self.images) if attempt else row
            try:
                return self.images.read(candidate, cut)
            except UnreadableImageError:
                unreadable.append(candidate)
        return None


def decode_batches(
    stream: Stream, jobs: Iterable[Job], workers: int, unreadable: Unreadable | None
) -> Iterator[Tensor]:
    """Batches (b, 3, size, size) uint8, decoded in ``workers`` processes, or in this one if there are none.

    Raises:
        ValueError: too many images are unreadable.
        OSError: a worker has ended, or an image could not be read.
        PreemptedError: this process was asked to leave while it waited for its workers.
    """
    loader: DataLoader[Decoded | Exception] = DataLoader(
        _Worker(stream) if workers else stream,
        batch_size=None,  # a job is a batch already
        sampler=jobs,
        num_workers=workers,
        collate_fn=_as_it_is,
        timeout=LOOK if workers else 0,
        generator=torch.Generator(),  # else it draws a seed from the global generator, which is dropout's
    )
    for decoded in _patiently(iter(loader)) if workers else loader:
        if isinstance(decoded, Exception):
            raise decoded
        if decoded.unreadable and unreadable is not None:
            unreadable.add(decoded.unreadable)
        if decoded.pixels is None:
            raise ValueError(_nothing_to_read(stream.images, decoded.unreadable[-TRIES]))
        yield torch.as_tensor(decoded.pixels)


class _Worker(Dataset["Decoded | Exception"]):
    """A stream in a process of its own. What cannot be sent is lost without a word, and waited for without end."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def __getitem__(self, job: Job) -> Decoded | Exception:
        try:
            decoded = self.stream[job]
        except (ValueError, OSError, MemoryError) as error:
            return error  # a loader would put the whole traceback into its message
        if isinstance(decoded.pixels, Tensor):
            try:
                decoded.pixels.share_memory_()
            except RuntimeError:  # shared memory is full or too small, as in many containers: through a pipe instead
                return decoded._replace(pixels=decoded.pixels.numpy())
        return decoded


def _as_it_is(decoded: Any) -> Any:
    """A loader would make tensors of arrays, and send those through shared memory."""
    return decoded


def _patiently(batches: Iterator[Decoded | Exception]) -> Iterator[Decoded | Exception]:
    """What workers make, with looks between at whether they live, and whether this process is asked to leave."""
    while True:
        began = time.monotonic()
        while True:
            try:
                decoded = next(batches)
                break
            except StopIteration:
                return
            except RuntimeError as error:
                if "timed out" not in str(error):
                    raise OSError(
                        "a process that decodes images was ended, most often because memory ran out: lower "
                        f"data.workers or train.batch_size, then run again: a run continues by itself ({error})"
                    ) from error
            leave_if_waiting_since(began)
        yield decoded


def _nothing_to_read(images: ImageSet, row: int) -> str:
    try:
        images.open(row)
        reason = "it can be read now"
    except UnreadableImageError as error:
        reason = str(error)
    return (
        f"need a readable image of {images.name}; {TRIES} drawn one after the other all failed, the first because: "
        f"{reason}. Check that the images are still there, then run again: a run continues by itself"
    )
