"""Hold a part of labelled images back, to choose settings by, so that the test images are looked at once, at the end.

    python benchmarks/hold_out.py data/cifar10/train.tar

Of each class every tenth image in the order of names goes to ``train-held-out.tar`` beside it, the others to
``train-part.tar``. Both are written whole or not at all.
"""

from __future__ import annotations

import argparse
import tarfile
from collections import defaultdict
from pathlib import Path, PurePosixPath

from dclib.records import replacing

EVERY = 10


def split_names(names: list[str], every: int = EVERY) -> tuple[list[str], list[str]]:
    """The names to keep, and those to hold back: of each folder the last of every so many, in order."""
    classes: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names):
        classes[PurePosixPath(name).parent.as_posix()].append(name)
    held = {name for own in classes.values() for name in own[every - 1 :: every]}
    return [name for name in names if name not in held], sorted(held)


def hold_out(archive: Path) -> tuple[Path, Path]:
    """Write both parts of an archive beside it, and return where."""
    parts = tuple(archive.with_name(f"{archive.stem}-{part}.tar") for part in ("part", "held-out"))
    with tarfile.open(archive) as source:
        members = {member.name: member for member in source.getmembers() if member.isfile()}
        for path, names in zip(parts, split_names(list(members)), strict=True):
            with replacing(path) as file, tarfile.open(fileobj=file, mode="w") as target:
                for name in names:
                    target.addfile(members[name], source.extractfile(members[name]))
            print(f"{path}: {len(names)} images")
    return parts[0], parts[1]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path, help="a .tar of class folders")
    hold_out(parser.parse_args().archive)
