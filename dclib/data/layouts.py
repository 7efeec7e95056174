"""Whatever holds images, opened by what it looks like, or by the name a preset gives it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dclib.data.folders import named_path, open_folder, open_list, open_tar
from dclib.data.images import ImageSet, name_some, printable
from dclib.data.yfcc import is_yfcc, open_yfcc

LIST_SUFFIXES = (".txt", ".tsv", ".csv")


def open_images(path: str | Path, *, name: str | None = None, cache: Path | None = None) -> ImageSet:
    """Open whatever holds images: a folder, a .tar, a list file, or a folder of YFCC100M zip shards.

    ``cache`` is a folder for the index of zip shards where it cannot be written beside them.

    Raises:
        ValueError: nothing is there, or no image is in it; the message says what was looked for.
    """
    path = named_path(path)
    suffix = path.suffix.lower()
    if not path.exists():
        raise ValueError(f"no images at {path}: it does not exist; {_describe(path.parent)}")
    if path.is_dir():
        images = open_yfcc(path, cache=cache) if is_yfcc(path) else open_folder(path)
    elif suffix == ".tar":
        images = open_tar(path)
    elif suffix in LIST_SUFFIXES:
        images = open_list(path)
    else:
        packed = suffix in (".gz", ".tgz", ".bz2", ".xz", ".zst", ".zip")
        advice = "; unpack it and give the folder" if packed else ""
        raise ValueError(f"need a folder, a .tar or a list file (.txt, .tsv, .csv) of images; got {path}{advice}")
    return replace(images, name=name) if name else images


def open_split(
    root: str | Path, choices: str, *, name: str | None = None, cache: Path | None = None
) -> ImageSet | None:
    """Open the first of ``choices`` (paths below ``root``, separated by ``|``) that is there, or is as .tar.

    An empty choice means that the set may be missing: None is returned then. ``cache`` as in :func:`open_images`.

    Raises:
        ValueError: none is there; the message lists what was tried. And as :func:`open_images`.
    """
    path = find_split(root, choices, name=name)
    return None if path is None else open_images(path, name=name, cache=cache)


def find_split(root: str | Path, choices: str, *, name: str | None = None) -> Path | None:
    """The path that :func:`open_split` opens, without opening it; None where the set may be missing and is."""
    root = named_path(root)
    tried = []
    for choice in choices.split("|"):
        if not choice.strip():
            return None
        for candidate in (choice.strip(), f"{choice.strip()}.tar"):
            if (root / candidate).exists():
                return root / candidate
            tried.append(candidate)
    setting = f"data.{name}" if name else repr(choices)
    raise ValueError(
        f"no images for {setting}: looked in {root} for {', '.join(tried)}; {_describe(root)}; "
        "check data.root and the path"
    )


def _describe(folder: Path) -> str:
    """What a folder holds, for an error message."""
    if not folder.is_dir():
        return f"{folder} is no folder either"
    names = sorted(printable(p.name) for p in folder.iterdir() if not p.name.startswith("."))
    return f"{folder} holds {name_some(names, 10) or 'nothing'}"
