"""A set of images: names, a way to read each, and labels where there are any.

Every loader returns an :class:`ImageSet`; nothing above this module knows files. It can be indexed, sliced,
counted and sent to a worker process.

Pixels come as the field's loaders give them: RGB, without transparency (the colours below it show), and not
turned by the camera's orientation tag, which torchvision's folders and the released code ignore too. People's own
photographs are turned: see :mod:`dclib.data.photographs`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Protocol, TypeVar, overload, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from dclib.data.decoding import decode_rgb

Made = TypeVar("Made")


class UnreadableImageError(ValueError):
    """The bytes of one image do not decode; the message names the image and the reason."""


class Reader(Protocol):
    """Gives the bytes of an image by its id. Must survive pickling; opens files on first use."""

    def read(self, image_id: str) -> bytes: ...

    def sizes(self, image_ids: Sequence[str]) -> NDArray[np.int64]:
        """Bytes of each image, (n,), without reading them; -1 for one that is not there."""
        ...


@runtime_checkable
class FileReader(Reader, Protocol):
    """A reader of files, which others may write to."""

    def written(self, image_ids: Sequence[str]) -> NDArray[np.int64]:
        """When the files that hold these images were last changed, ns; -1 for one that is not there.

        (m,), as many as there are files, in an order that follows from the images."""
        ...


class NumberedIds(Sequence[str]):
    """Names that are numbers of ``width`` digits, kept as integers: a hundred million fit in memory."""

    def __init__(self, numbers: NDArray[np.integer], width: int) -> None:
        if len(numbers) and int(numbers.max()) >= min(10**width, 2**32):
            raise ValueError(f"need numbers of at most {width} digits, below 2^32; got {numbers.max()}")
        self.numbers: NDArray[np.uint32] = numbers.astype(np.uint32)
        self.width = width

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> NumberedIds: ...
    def __getitem__(self, index: int | slice) -> str | NumberedIds:
        if isinstance(index, slice):
            return NumberedIds(self.numbers[index], self.width)
        return f"{self.numbers[index]:0{self.width}d}"

    def __iter__(self) -> Iterator[str]:
        return (f"{number:0{self.width}d}" for number in self.numbers.tolist())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(str.__eq__, self, other))

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images by number.

    Attributes:
        name: What the set is called on a page.
        ids: One stable name per image, as its layout calls it (a relative path, a YFCC number).
        reader: Where the bytes come from.
        labels: (n,) class numbers, or None. Self-supervised training never reads them; they are for probes,
            the supervised reference and for display.
        classes: Names of the classes, by number.
        notes: What its loader found and passed over, a sentence each, for whoever opens it.
        upright: Whether images are turned as their cameras say.
    """

    name: str
    ids: Sequence[str]
    reader: Reader
    labels: NDArray[np.int64] | None = None
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    upright: bool = False

    def __post_init__(self) -> None:
        if self.labels is not None:
            if self.labels.shape != (len(self.ids),):
                raise ValueError(f"need one label for each of {len(self.ids)} images; got shape {self.labels.shape}")
            if len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < len(self.classes):
                span = f"{self.labels.min()} to {self.labels.max()}"
                raise ValueError(f"labels must number the {len(self.classes)} classes; they span {span}")

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: int) -> Image.Image: ...
    @overload
    def __getitem__(self, index: slice) -> ImageSet: ...
    def __getitem__(self, index: int | slice) -> Image.Image | ImageSet:
        """The image, decoded whole, as RGB; or the set of a slice. Raises UnreadableImageError."""
        if isinstance(index, slice):
            return self.subset(np.arange(len(self))[index])
        return self.open(index)

    def open(self, index: int, *, draft: int = 0) -> Image.Image:
        """Decode image ``index`` as RGB; ``draft`` lets JPEG decode at a reduced scale, no side below it.

        Raises:
            UnreadableImageError: the bytes are missing, cut short, or no image; the message names the image.
        """
        return self.read(index, partial(decode_rgb, draft=draft, upright=self.upright))

    def read(self, index: int, make: Callable[[bytes], Made]) -> Made:
        """What ``make`` makes of the bytes of image ``index``.

        Raises:
            UnreadableImageError: the bytes are missing, or ``make`` cannot use them; the message names the image.
        """
        image_id = self.ids[index]
        try:
            return make(self.reader.read(image_id))
        except MemoryError:
            raise
        except Exception as error:  # Pillow's decoders raise nearly anything on broken bytes
            reason = str(error) or type(error).__name__
            raise UnreadableImageError(f"image {image_id!r} of {self.name} cannot be read: {reason}") from error

    def subset(self, indices: ArrayLike, name: str | None = None) -> ImageSet:
        """The images with these numbers, in this order.

        Raises:
            ValueError: ``indices`` are no integers (a mask, say).
            IndexError: one is not below the number of images.
        """
        chosen = np.asarray(indices)
        if chosen.size and not np.issubdtype(chosen.dtype, np.integer):
            raise ValueError(f"need the numbers of images, integers; got {chosen.dtype} (np.flatnonzero turns a mask)")
        chosen = chosen.astype(np.int64)
        labels = None if self.labels is None else self.labels[chosen]
        ids: Sequence[str]
        if isinstance(self.ids, NumberedIds):
            ids = NumberedIds(self.ids.numbers[chosen], self.ids.width)
        else:
            ids = [self.ids[i] for i in chosen]
        return replace(self, name=name or self.name, ids=ids, labels=labels)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of names, byte sizes and labels, in order: what a record calls the data hash."""
        digest = hashlib.sha256()
        for start in range(0, len(self), 65_536):
            digest.update(_terminated(self.ids[start : start + 65_536]))
        for start in range(0, len(self), 65_536):  # sizes after all names: as it was when they were one array
            digest.update(self.reader.sizes(self.ids[start : start + 65_536]).astype("<i8").tobytes())
        if self.labels is not None:
            digest.update(self.labels.astype("<i8").tobytes())
            digest.update("\0".join(self.classes).encode())
        if self.upright:
            digest.update(b"upright")
        return digest.hexdigest()[:12]


def _terminated(names: Sequence[str]) -> bytes:
    """Names as bytes, each with a zero after it; numbers without a loop over them, for there may be 100 million."""
    if not isinstance(names, NumberedIds):
        return "".join(f"{name}\0" for name in names).encode()
    digits = np.zeros((len(names), names.width + 1), dtype=np.uint8)
    rest = names.numbers
    for column in reversed(range(names.width)):
        rest, digit = np.divmod(rest, 10)
        digits[:, column] = digit + ord("0")
    return digits.tobytes()


def labels_from_names(names: Sequence[str]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Class numbers (n,) and the sorted class names they stand for."""
    classes = tuple(sorted(set(names)))
    number = {name: i for i, name in enumerate(classes)}
    return np.array([number[name] for name in names], dtype=np.int64), classes


def drawn_subset(images: ImageSet, count: int) -> ImageSet:
    """``count`` images at random, the same each time, in their order; a smaller count is part of a larger one."""
    return images.subset(np.sort(np.random.default_rng(0).permutation(len(images))[:count]))


def balanced_subset(images: ImageSet, count: int, seed: int) -> ImageSet:
    """``count`` labelled images, as evenly over the classes as they go; all of them when count is 0.

    The images keep their order. Where classes cannot share evenly, which of them give one more is random.

    Raises:
        ValueError: the set has no labels, or one class only, so that nothing could be told apart.
    """
    if images.labels is None or len(np.unique(images.labels)) < 2:
        found = "no labels" if images.labels is None else "one class"
        raise ValueError(
            f"need labelled images of at least two classes to tell apart; {images.name} has {found}: "
            "give a folder with one sub-folder per class"
        )
    if count < 0:
        raise ValueError(f"need a count >= 0 of images, 0 meaning all; got {count}")
    if count == 0 or count >= len(images):
        return images
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(images))
    # rank of each image inside its class, so that taking the lowest ranks first is even over classes
    rank = np.empty(len(images), dtype=np.int64)
    for label in np.unique(images.labels):
        members = order[images.labels[order] == label]
        rank[members] = np.arange(len(members))
    chosen = np.sort(order[np.argsort(rank[order], kind="stable")][:count])
    return images.subset(chosen)


def printable(name: str) -> str:
    """A file's name as it can be written anywhere: bytes that are not UTF-8 as ``\\xe9``."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def name_some(names: Sequence[str], count: int = 5) -> str:
    """The first few of some names, and how many more there are."""
    more = f" and {len(names) - count:,} more" if len(names) > count else ""
    return f"{', '.join(names[:count])}{more}"
