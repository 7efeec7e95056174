"""What was trained elsewhere, brought home in files of a size that can be carried."""

from __future__ import annotations

import gzip
import io
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

import torch

from dclib.config import Preset
from dclib.presets import load_preset
from dclib.records import replacing, write_atomically

PARTS = 7  # files at most


@dataclass
class Part:
    """One file to be: names below the work folder, and compressed contents."""

    members: list[tuple[str, bytes]] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Bytes of the file, about: each member has a header and is padded."""
        return sum(len(content) + 2048 for _, content in self.members)


def pack_parcels(
    work: Path, target: Path, patterns: Sequence[str], *, most_mib: float = 60.0, part_mib: float = 15.0
) -> list[str]:
    """Write records, pictures and the chosen networks of a work folder to ``target-1.tar``, ``target-2.tar``, ...

    A network that is finished goes without what its optimisers remember, and before those that are not.

    Args:
        patterns: Networks to take, such as ``cifar10_gpu/rotnet-s*``, the most wanted first.
        most_mib: Of all files together.
        part_mib: Of each.

    Returns:
        What was packed and what had no room, in words.
    """
    said: list[str] = []
    parts: list[Part] = []
    limit, each = most_mib * 2**20, part_mib * 2**20
    for name, content in _contents(work, patterns):
        packed = gzip.compress(content, mtime=0)
        needs = Part([(name, packed)]).size
        places = [*parts, Part()][:PARTS]
        place = next((part for part in places if part.size + needs <= each), None)
        if place is None or sum(part.size for part in parts) + needs > limit:
            said.append(f"no room for {name}, {needs / 2**20:.1f} MiB")
            continue
        if not place.members:
            parts.append(place)
        place.members.append((name, packed))
    for number, part in enumerate(parts, start=1):
        path = target.with_name(f"{target.name}-{number}.tar")
        with replacing(path) as file, tarfile.open(fileobj=file, mode="w") as archive:
            for name, packed in part.members:
                member = tarfile.TarInfo(f"{name}.gz")
                member.size = len(packed)
                archive.addfile(member, io.BytesIO(packed))
        networks = sum(name.endswith(".pt") for name, _ in part.members)
        said.append(f"{path}: {part.size / 2**20:.1f} MiB, {networks} networks, {len(part.members) - networks} others")
    return said


def unpack_parcels(paths: Sequence[Path], runs: Path) -> str:
    """Put what is below ``runs/`` in the files into a folder of runs, in the place of what has the same name there.

    Raises:
        ValueError: a file is not one that ``pack_parcels`` or ``write_archive`` makes.
    """
    count = networks = 0
    for path in paths:
        try:
            with tarfile.open(path) as archive:
                for member in archive:
                    tarfile.data_filter(member, str(runs))  # refuses names that lead elsewhere
                    place = PurePosixPath(member.name)
                    file = archive.extractfile(member)
                    if file is None or place.parts[0] != "runs":
                        continue
                    content, packed = file.read(), place.suffix == ".gz"
                    target = runs.joinpath(*(place.with_suffix("") if packed else place).parts[1:])
                    write_atomically(target, gzip.decompress(content) if packed else content)
                    count, networks = count + 1, networks + (target.suffix == ".pt")
        except (tarfile.TarError, gzip.BadGzipFile, EOFError) as error:
            raise ValueError(f"need files made by 'gpu.py parcels', or records.tar; got {path}: {error}") from None
    return f"{runs}: {networks} networks, {count - networks} other files"


def _contents(work: Path, patterns: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Names and contents in the order in which they are wanted."""
    for path in sorted([*work.glob("runs/*/records/*/*.json"), *work.glob("runs/*/pictures/*")]):
        yield path.relative_to(work).as_posix(), path.read_bytes()
    unfinished = []
    for name, path, preset, method in _networks(work, patterns):
        saved = torch.load(path, map_location="cpu", weights_only=True)
        state = saved["state"]
        if state["epoch"] >= preset.method(method).train.epochs:
            yield name, _lean(saved)
        elif state["epoch"] or state["step"] or state["clusterings"]:  # one that may have stopped early, too
            unfinished.append((name, path))
    for name, path in unfinished:
        yield name, path.read_bytes()


def _networks(work: Path, patterns: Sequence[str]) -> Iterator[tuple[str, Path, Preset, str]]:
    """Each chosen network once: its name, its newest checkpoint, and whose it is."""
    presets = [load_preset(path) for path in sorted(work.glob("presets/*.yaml"))]
    found = {
        f"{preset.name}/{method}-s{seed}": (preset, method)
        for preset in presets
        for method in preset.methods
        for seed in preset.seeds
    }
    for name in dict.fromkeys(name for pattern in patterns for name in found if fnmatch(name, pattern)):
        (preset, method), run = found[name], re.escape(name.partition("/")[2])
        folders = [f for f in (work / "runs" / preset.name / "runs").glob("*") if re.fullmatch(f"{run}-[^-]+", f.name)]
        kept = [folder / "checkpoint.pt" for folder in folders if (folder / "checkpoint.pt").is_file()]
        if kept:
            path = max(kept, key=lambda path: path.stat().st_mtime)
            yield path.relative_to(work).as_posix(), path, preset, method


def _lean(saved: dict[str, Any]) -> bytes:
    """A checkpoint whose optimisers have not begun: for one that takes no more step, the same."""
    optimisers = {part: {**held, "state": {}} for part, held in saved["state"]["optimisers"].items()}
    file = io.BytesIO()
    torch.save({**saved, "state": {**saved["state"], "optimisers": optimisers}}, file)
    return file.getvalue()
