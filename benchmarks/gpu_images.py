"""Real images for a GPU without internet: packed small enough to carry, unpacked there, and their presets."""

from __future__ import annotations

import io
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from gpu_records import TOY_NAME

from dclib.config import Preset
from dclib.data.images import ImageSet, balanced_subset
from dclib.data.layouts import find_split, open_images
from dclib.presets import data_root, load_preset, preset_folder
from dclib.records import make_folder, replacing

PRESETS = {"cifar10": "cifar10_gpu", "imagenette112": "imagenette112_gpu"}  # by the packed set's name
SPLITS = ("train", "test", "val")  # packed unless others are named
TOY = {
    **{"data.resize": 32, "data.pool_images": 40, "model.image_size": 32, "model.width": 1 / 16},
    **{"model.hidden_dim": 16, "model.feature_dim": 16, "cluster.n_sub": 4, "cluster.pca_dim": 8},
    **{"train.epochs": 1, "train.epoch_images": 32, "train.batch_size": 16, "probe.epochs": 1, "probe.batch_size": 16},
    **{"probe.train_images": 40, "probe.test_images": 40},
}


def pack(source: Path, target: Path, *, splits: Sequence[str] = (), images: int = 0, most_mib: float = 60.0) -> str:
    """Put splits of a data folder, each a folder or a tar, into one compressed file.

    The images' bytes stay as they are, and so does the fingerprint of a set that was in a tar.

    Args:
        splits: Their names; none for train and test or val.
        images: Keep so many of each split, spread evenly over its classes; 0 keeps all.

    Returns:
        What was packed, in words.

    Raises:
        ValueError: a named split is not there; or no train, or neither test nor val; or the file came out larger than
            ``most_mib``.
    """
    found = {split: path for split in splits or SPLITS if (path := _split(source, split)) is not None}
    if absent := [split for split in splits if split not in found]:
        raise ValueError(f"need {', '.join(absent)} in {source}, as folders or .tar files; there is no such thing")
    if not splits and ("train" not in found or len(found) < 2):
        raise ValueError(
            f"need train and test or val in {source}, as folders or .tar files; got {', '.join(found) or 'none'}"
        )
    said = []
    with replacing(target) as file:
        with tarfile.open(fileobj=file, mode="w:gz", compresslevel=6) as archive, tempfile.TemporaryFile() as inner:
            for split, path in found.items():
                chosen = balanced_subset(open_images(path), images, seed=0)
                _write_tar(chosen, inner)
                member = tarfile.TarInfo(f"{source.resolve().name}/{split}.tar")
                member.size = inner.tell()
                inner.seek(0)
                archive.addfile(member, inner)
                said.append(f"{split} {len(chosen):,}")
        mib = file.tell() / 2**20
        if mib > most_mib:
            raise ValueError(f"need at most {most_mib:g} MiB, got {mib:.1f}; keep fewer images with --images")
    return f"{target}: {mib:.1f} MiB, images: {', '.join(said)}"


def unpack(packed: Path, folder: Path) -> Path:
    """The folder of a packed set below ``folder``, where it is unpacked once.

    Raises:
        ValueError: the file is no packed set.
    """
    try:
        with tarfile.open(packed, "r:gz") as archive:
            members = archive.getmembers()
            names = {PurePosixPath(member.name).parts[0] for member in members}
            if len(names) != 1 or any(PurePosixPath(m.name).match("*/*/*") or m.name[-4:] != ".tar" for m in members):
                raise ValueError(f"need a file made by 'gpu.py pack', got {packed} with {', '.join(sorted(names)[:5])}")
            (name,) = names
            root = folder / name
            if root.exists():
                return root
            make_folder(folder)
            with tempfile.TemporaryDirectory(dir=folder) as unfinished:
                archive.extractall(unfinished, filter="data")
                (Path(unfinished) / name).rename(root)
    except tarfile.TarError as error:
        raise ValueError(f"need a file made by 'gpu.py pack', got {packed}: {error}") from None
    return root


def preset_for(root: Path, size: str, changes: Mapping[str, Any]) -> Preset:
    """The preset of a packed set's folder, as :func:`preset_among`."""
    if root.name not in PRESETS:
        raise ValueError(f"need a set called {' or '.join(PRESETS)}, which have presets; got {root.name!r}")
    return preset_among(PRESETS[root.name], root.parent, size, changes)


def preset_among(name: str, images: Path, size: str, changes: Mapping[str, Any]) -> Preset:
    """A preset by name or path, with changes of single settings, or at toy size.

    Its images are those of the set in the folder ``images`` that is called as its own folder is, else its own.
    """
    own = load_preset(name).data
    unpacked = images / Path(own.root).name
    root = unpacked if own.root and unpacked.is_dir() else data_root(own)
    small = TOY if size == "toy" else {}
    preset = load_preset(name, {"data.root": str(root.resolve()) if own.root else "", **small, **changes})
    return replace(preset, name=preset.name + TOY_NAME) if size == "toy" else preset


def is_published(name: str) -> bool:
    """Whether records under this name have their place in ``results/``: the preset comes with the project."""
    return (preset_folder() / f"{name.removesuffix(TOY_NAME)}.yaml").is_file()


def preset_named(name: str) -> Preset:
    """The preset under whose name records were written, to publish them."""
    return replace(load_preset(name.removesuffix(TOY_NAME)), name=name)


def _split(source: Path, name: str) -> Path | None:
    try:
        return find_split(source, name)
    except ValueError:
        return None


def _write_tar(images: ImageSet, file: Any) -> None:
    """An uncompressed tar of some images, at the start of ``file``; the same bytes every time."""
    file.seek(0)
    file.truncate()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for image_id in images.ids:
            content = images.reader.read(image_id)
            member = tarfile.TarInfo(image_id)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
