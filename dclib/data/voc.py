"""Pascal VOC 2007: images with several classes each.

The layout is ``JPEGImages/<id>.jpg``, ``ImageSets/Main/<split>.txt`` with one id per line, and
``ImageSets/Main/<class>_<split>.txt`` with an id and a label per line; ``Annotations`` are not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dclib.data.folders import FolderReader
from dclib.data.images import ImageSet
from dclib.reading import read_lines, split_fields

PRESENT, DIFFICULT, ABSENT = 1, 0, -1  # what a label says of its class in its image
# fmt: off
VOC_CLASSES = frozenset((
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
))
# fmt: on


@dataclass(frozen=True, eq=False)
class VocSet:
    """One split.

    Attributes:
        images: (n images) in the order of the split's list; ids as VOC has them, ``000012``.
        labels: (n, c) int8; 1 where the class is in the image, 0 where only instances marked difficult are,
            -1 where it is not. Difficult ones count for neither side in the benchmark.
        classes: The c names, sorted, which is VOC's own order; 20 of them in VOC 2007.
    """

    images: ImageSet
    labels: NDArray[np.int8]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.labels.shape != (len(self.images), len(self.classes)):
            raise ValueError(
                f"need labels of shape {(len(self.images), len(self.classes))}, images by classes; "
                f"got {self.labels.shape}"
            )

    def __len__(self) -> int:
        return len(self.images)

    def n_positives(self) -> dict[str, int]:
        """In how many images each class is, difficult ones left out."""
        return dict(zip(self.classes, (self.labels == PRESENT).sum(axis=0).tolist(), strict=True))


def open_voc(root: str | Path, split: str) -> VocSet:
    """Images and labels of one split.

    Args:
        root: The folder with ``JPEGImages`` and ``ImageSets``, usually called VOC2007.
        split: ``train``, ``val``, ``trainval`` or ``test``; or another for which there are lists.

    Raises:
        ValueError: a folder, a list or an image is missing, a class's list does not fit the split's, or all classes
            are VOC's and some of its 20 are missing.
    """
    root = Path(root)
    lists = root / "ImageSets" / "Main"
    missing = [str(folder) for folder in (root / "JPEGImages", lists) if not folder.is_dir()]
    if missing:
        raise ValueError(f"{root} is not in VOC's layout: it lacks {' and '.join(missing)}")
    if not (lists / f"{split}.txt").is_file():
        there = sorted(p.stem for p in lists.glob("[!.]*.txt") if "_" not in p.stem)
        raise ValueError(f"no split {split!r} in {lists}; it has {', '.join(there) or 'none'}")
    ids = [row[0] for row in _read_rows(lists / f"{split}.txt")]
    absent = [i for i in ids if not (root / "JPEGImages" / f"{i}.jpg").is_file()]
    if absent or not ids:
        raise ValueError(f"{split}.txt lists {len(ids)} images; JPEGImages lacks {_name_some(absent, '.jpg')}")
    classes = tuple(sorted(p.stem.removesuffix(f"_{split}") for p in lists.glob(f"[!.]*_{split}.txt")))
    if not classes:
        raise ValueError(f"no labels for {split!r} in {lists}: need files named <class>_{split}.txt")
    _check_complete(classes, split, lists)
    columns = [_read_labels(lists / f"{name}_{split}.txt", ids) for name in classes]
    images = ImageSet(f"{root.resolve().name} {split}", ids, FolderReader(root / "JPEGImages", ".jpg"))
    return VocSet(images, np.stack(columns, axis=1), classes)


def check_classes(train: VocSet, test: VocSet) -> None:
    """ValueError unless both splits have the same classes and some images that show them."""
    if train.classes != test.classes:
        odd = sorted(set(train.classes) ^ set(test.classes))
        raise ValueError(
            f"need the same classes in both splits; {train.images.name} has {len(train.classes)} and "
            f"{test.images.name} {len(test.classes)}: only one of them has {', '.join(odd)}"
        )
    for voc in (train, test):
        if not (voc.labels == PRESENT).any():
            raise ValueError(f"{voc.images.name} has no image that shows any class: there is nothing to classify")


def _check_complete(classes: Sequence[str], split: str, lists: Path) -> None:
    """ValueError where classes of VOC are missing; a set with names of its own may have as many as it likes."""
    missing = sorted(VOC_CLASSES - set(classes))
    if missing and VOC_CLASSES.issuperset(classes):
        files = ", ".join(f"{name}_{split}.txt" for name in missing)
        raise ValueError(
            f"{lists} has {len(classes)} of VOC's {len(VOC_CLASSES)} classes for {split!r}, and a mean over them would "
            f"not be VOC's: put back {files}"
        )


def _read_labels(path: Path, ids: Sequence[str]) -> NDArray[np.int8]:
    """(n,) labels of one class, in the order of ``ids``."""
    rows = _read_rows(path)
    wrong = next((row for row in rows if len(row) != 2 or row[1] not in ("1", "0", "-1")), None)
    if wrong is not None:
        raise ValueError(f"{path}: need an id and 1, 0 or -1 on each line; got {' '.join(wrong)!r}")
    label_of = {row[0]: int(row[1]) for row in rows}
    unlabelled = [i for i in ids if i not in label_of]
    if unlabelled:
        raise ValueError(f"{path} has no label for {_name_some(unlabelled)} of its split")
    return np.array([label_of[i] for i in ids], dtype=np.int8)


def _read_rows(path: Path) -> list[list[str]]:
    return [fields for _, line in read_lines(path) if (fields := split_fields(line))]


def _name_some(ids: Sequence[str], suffix: str = "") -> str:
    shown = ", ".join(i + suffix for i in ids[:3])
    return f"{len(ids)} images ({shown}{', ...' if len(ids) > 3 else ''})" if ids else "nothing"
