"""The public sets that can be fetched: an entry each, with how its archives become a layout that our loaders read.

torchvision says where the archives are and what their checksums are, for those that it has. Pictures that are
published as arrays become PNG in a .tar, which loses nothing and is one file on the disk; others stay as they are.
"""

from __future__ import annotations

import os
import pickle
import tarfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dclib.config import DataConfig, Preset
from dclib.data.archives import members, put
from dclib.data.download import Archive
from dclib.data.fetch import PublicSet
from dclib.data.folders import named_path, open_folder, open_tar
from dclib.data.landmarks import CORRUPTED_PARIS, open_landmarks
from dclib.data.voc import open_voc
from dclib.presets import data_root, project_root

CIFAR_SIDE, STL_SIDE = 32, 96  # pixels
PNG_EFFORT = 1  # of 9: at 96 pixels 0.6 of the time that 6 takes, and files 1 % larger
VGG = "https://www.robots.ox.ac.uk/~vgg/data"
VOC_FOLDERS = ("JPEGImages", "ImageSets", "Annotations")  # and not the masks for segmentation
TRUTH = ("_query.txt", "_good.txt", "_ok.txt", "_junk.txt")
FLICKR = "photographs from Flickr under its terms of use, for research"


def place_of(name: str, above: str | Path = "") -> Path:
    """Where a set lies: in the folder of its name below ``above``, by default the project's ``data``."""
    return (named_path(above) if above else project_root() / "data") / SETS[name].folder


def missing_set(data: DataConfig) -> PublicSet | None:
    """The set that a preset reads and that can be fetched to where it looks; None where it is there, or is no such."""
    return None if not data.root or data_root(data).exists() else public_set(data, "pool")


def public_set(data: DataConfig, name: str) -> PublicSet | None:
    """The set that can be fetched in whose place one of these settings lies; None where it is none of them."""
    path = Path(os.path.abspath(data_root(data) / getattr(data, name).split("|")[0].strip()))
    return next((one for key, one in SETS.items() if path.is_relative_to(os.path.abspath(place_of(key)))), None)


def advice(data: DataConfig) -> str:
    """How to get the images of a preset that are not there, before an 'or'; empty where they cannot be fetched."""
    wanted = missing_set(data)
    return f"fetch them with make fetch SET={wanted.name} ({wanted.command}), or " if wanted else ""


def check_images(preset: Preset) -> None:
    """ValueError, with what to do, where the folder of a preset's images is not there."""
    if preset.data.root and not data_root(preset.data).exists():
        raise ValueError(
            f"preset {preset.name!r} reads images from {preset.data.root}, which is not there; {advice(preset.data)}"
            "give their folder with --data FOLDER (make book DATA=FOLDER)"
        )


# what torchvision knows of the archives


def _cifar10_archives() -> list[Archive]:
    from torchvision.datasets import CIFAR10

    return [Archive(CIFAR10.url, CIFAR10.tgz_md5)]


def _stl10_archives() -> list[Archive]:
    from torchvision.datasets import STL10

    return [Archive(STL10.url, STL10.tgz_md5)]


def _imagenette_archives() -> list[Archive]:
    from torchvision.datasets import Imagenette

    return [Archive(*Imagenette._ARCHIVES["160px"])]


def _voc2007_archives() -> list[Archive]:
    from torchvision.datasets.voc import DATASET_YEAR_DICT as voc

    return [Archive(voc[key]["url"], voc[key]["md5"]) for key in ("2007", "2007-test")]


# from archives to layouts


class _ArrayUnpickler(pickle.Unpickler):
    """Reads what CIFAR's files hold, plain values and NumPy's arrays; whatever else would run code is refused."""

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "numpy" and name in ("_reconstruct", "ndarray", "dtype"):
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        if (module, name) == ("_codecs", "encode"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, and only arrays are read")


def _unpickle(content: IO[bytes]) -> dict[str, Any]:
    data = content.read()
    try:
        return dict(_ArrayUnpickler(BytesIO(data), encoding="latin1").load())
    except Exception as error:  # broken bytes raise nearly anything
        raise ValueError(f"need CIFAR's arrays in a pickle: {error}; fetch the archive again") from None


def unpack_cifar10(archives: Mapping[str, Path], new: Path) -> None:
    """``train.tar`` and ``test.tar`` with ``<class>/NNNNN.png``, numbered as in the published batches."""
    (path,) = archives.values()
    batches = {inside.name: _unpickle(content) for inside, content in members(path) if _is_batch(inside.name)}
    classes = batches.pop("batches.meta")["label_names"]
    for split, begins in (("train", "data_batch_"), ("test", "test_batch")):
        chosen = [batches[name] for name in sorted(batches) if name.startswith(begins)]
        with tarfile.open(new / f"{split}.tar", "w") as archive:
            n = 0
            for batch in chosen:
                pictures = batch["data"].reshape(-1, 3, CIFAR_SIDE, CIFAR_SIDE).transpose(0, 2, 3, 1)
                for picture, label in zip(pictures, batch["labels"], strict=True):
                    _add_png(archive, f"{split}/{classes[label]}/{n:05d}.png", picture)
                    n += 1


def _is_batch(name: str) -> bool:
    return name == "batches.meta" or name.startswith(("data_batch_", "test_batch"))


def unpack_stl10(archives: Mapping[str, Path], new: Path) -> None:
    """``train.tar`` and ``test.tar`` with ``<class>/NNNNN.png``, and ``unlabeled.tar`` without classes.

    The archive is read twice, labels first, so that its 2.9 GB of arrays never lie on the disk nor in memory.
    """
    (path,) = archives.values()
    small: dict[str, bytes] = {}
    for inside, content in members(path):
        if inside.name in ("train_y.bin", "test_y.bin", "class_names.txt"):
            small[inside.name] = content.read()
        if len(small) == 3:
            break
    if len(small) < 3:
        raise ValueError(f"need STL-10's labels and class names in {path}, got {', '.join(small) or 'none'}")
    classes = small["class_names.txt"].decode().split()
    for inside, content in members(path):
        split, _, kind = inside.name.partition("_")
        if kind == "X.bin":
            labels = small.get(f"{split}_y.bin", b"")
            with tarfile.open(new / f"{split}.tar", "w") as archive:
                for n, picture in enumerate(_stl_pictures(content)):
                    folder = f"{split}/{classes[labels[n] - 1]}/" if labels else ""  # classes are numbered from 1
                    _add_png(archive, f"{folder}{n:06d}.png", picture)


def _stl_pictures(content: IO[bytes]) -> Any:
    """(96, 96, 3) arrays; they are kept channel by channel, and each of these column by column."""
    while record := content.read(3 * STL_SIDE * STL_SIDE):
        yield np.frombuffer(record, dtype=np.uint8).reshape(3, STL_SIDE, STL_SIDE).transpose(2, 1, 0)


def _add_png(archive: tarfile.TarFile, name: str, picture: NDArray[np.uint8]) -> None:
    png = BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(png, "PNG", compress_level=PNG_EFFORT)
    entry = tarfile.TarInfo(name)
    entry.size = png.tell()
    png.seek(0)
    archive.addfile(entry, png)


def unpack_imagenette(archives: Mapping[str, Path], new: Path) -> None:
    """``train`` and ``val`` with class folders, as published."""
    (path,) = archives.values()
    for inside, content in members(path):
        if len(inside.parts) == 4 and inside.parts[1] in ("train", "val") and not inside.name.startswith("."):
            put(content, new.joinpath(*inside.parts[1:]))


def unpack_voc2007(archives: Mapping[str, Path], new: Path) -> None:
    """The published tree without its masks, both archives in one."""
    for path in archives.values():
        for inside, content in members(path):
            above, year, folder = (*inside.parts, "", "", "")[:3]
            if (above, year) == ("VOCdevkit", "VOC2007") and folder in VOC_FOLDERS:
                put(content, new.joinpath(*inside.parts[2:]))


def unpack_landmarks(archives: Mapping[str, Path], new: Path) -> None:
    """Images in ``jpg`` and the text files in ``groundtruth``, whatever folders they were in."""
    for path in archives.values():
        for inside, content in members(path):
            if inside.name.endswith(TRUTH):
                put(content, new / "groundtruth" / inside.name)
            elif inside.suffix.lower() == ".jpg" and not inside.name.startswith("."):
                put(content, new / "jpg" / inside.name)


# what our loaders find


def _count_splits(new: Path, *, splits: Sequence[str]) -> dict[str, int]:
    opened = [open_tar(new / split) if split.endswith(".tar") else open_folder(new / split) for split in splits]
    return {Path(split).stem: len(images) for split, images in zip(splits, opened, strict=True)}


def _count_voc(new: Path) -> dict[str, int]:
    return {split: len(open_voc(new, split)) for split in ("trainval", "test")}


def _count_landmarks(new: Path, *, ignore: frozenset[str] = frozenset()) -> dict[str, int]:
    images, truth = open_landmarks(new, ignore=ignore)
    return {"images": len(images), "queries": len(truth.queries)}


def _of_vgg(*paths: str) -> Callable[[], list[Archive]]:
    return lambda: [Archive(f"{VGG}/{path}") for path in paths]


_ALL = (
    PublicSet(
        name="cifar10",
        folder="cifar10",
        title="CIFAR-10",
        holds="60,000 images of 32 pixels in ten classes, as train.tar and test.tar",
        terms="none are stated; cite Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
        download_bytes=170_498_071,
        disk_bytes=190_000_000,
        archives=_cifar10_archives,
        unpack=unpack_cifar10,
        count=partial(_count_splits, splits=("train.tar", "test.tar")),
        counts={"train": (50_000,), "test": (10_000,)},
    ),
    PublicSet(
        name="stl10",
        folder="stl10",
        title="STL-10",
        holds="100,000 images of 96 pixels without labels, uncurated, and 13,000 in ten classes, as .tar",
        terms="images of ImageNet, for non-commercial research and education; cite Coates, Ng and Lee, AISTATS 2011",
        download_bytes=2_640_397_119,
        disk_bytes=2_400_000_000,
        archives=_stl10_archives,
        unpack=unpack_stl10,
        count=partial(_count_splits, splits=("unlabeled.tar", "train.tar", "test.tar")),
        counts={"unlabeled": (100_000,), "train": (5_000,), "test": (8_000,)},
    ),
    PublicSet(
        name="imagenette",
        folder="imagenette",
        title="Imagenette, the version of 160 pixels",
        holds="13,394 images in ten classes of ImageNet, in train/ and val/",
        terms="images of ImageNet, for non-commercial research and education; the selection by fast.ai, Apache 2.0",
        download_bytes=99_003_388,
        disk_bytes=140_000_000,
        archives=_imagenette_archives,
        unpack=unpack_imagenette,
        count=partial(_count_splits, splits=("train", "val")),
        counts={"train": (9_469,), "val": (3_925,)},
    ),
    PublicSet(
        name="voc2007",
        folder="VOC2007",
        title="Pascal VOC 2007",
        holds="9,963 images with labels of twenty classes, without masks for segmentation",
        terms=f"{FLICKR}; cite Everingham et al., The PASCAL Visual Object Classes Challenge, 2010",
        download_bytes=911_052_800,
        disk_bytes=950_000_000,
        archives=_voc2007_archives,
        unpack=unpack_voc2007,
        count=_count_voc,
        counts={"trainval": (5_011,), "test": (4_952,)},
    ),
    PublicSet(
        name="oxford5k",
        folder="oxford5k",
        title="Oxford Buildings",
        holds="5,063 images and 55 queries",
        terms=f"{FLICKR}, and the Oxford Visual Geometry Group's terms of access; cite Philbin et al., CVPR 2007",
        download_bytes=1_940_000_000,
        disk_bytes=2_000_000_000,
        archives=_of_vgg("oxbuildings/oxbuild_images-v1.tgz", "oxbuildings/gt_files_170407.tgz"),
        unpack=unpack_landmarks,
        count=_count_landmarks,
        counts={"images": (5_062, 5_063), "queries": (55,)},  # its page says one less than its archive holds
    ),
    PublicSet(
        name="paris6k",
        folder="paris6k",
        title="Paris Buildings",
        holds="6,392 images that can be read, and 55 queries",
        terms=f"{FLICKR}, and the Oxford Visual Geometry Group's terms of access; cite Philbin et al., CVPR 2008",
        download_bytes=2_500_000_000,
        disk_bytes=2_600_000_000,
        archives=_of_vgg(
            *("parisbuildings/paris_1-v1.tgz", "parisbuildings/paris_2-v1.tgz", "parisbuildings/paris_120310.tgz")
        ),
        unpack=unpack_landmarks,
        count=partial(_count_landmarks, ignore=CORRUPTED_PARIS),
        counts={"images": (6_392,), "queries": (55,)},
    ),
)
SETS: Mapping[str, PublicSet] = {one.name: one for one in _ALL}
