"""What the records of ``gpu.py`` say of themselves, and which of them may take the place of which."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dclib.config import config_hash
from dclib.presets import project_root
from dclib.records import DATA, Record, RunCard, code_hash, replacing, write_atomically
from dclib.train.runs import device_name

TOY_SAYS = "toy size: shows that it runs, its numbers mean nothing"
TOY_NAME = "_toy"  # ends the name of a preset at toy size: its records are kept apart


@dataclass(frozen=True)
class Setting:
    """Where a benchmark runs, and how large it is."""

    device: torch.device
    size: str  # "full" or "toy"
    work: Path  # keeps all that one call leaves for the next

    @property
    def rank(self) -> tuple[bool, bool]:
        """Records of a lower rank never take the place of a higher one's: a GPU first, then full size."""
        return self.device.type != "cpu", self.size == "full"


@dataclass(frozen=True)
class Part:
    """One benchmark that is measured in one go, and its records file."""

    name: str
    rooms: tuple[str, ...]  # of dclib, whose code it measures
    seconds: float  # it needs on a GPU at most, roughly: with less left it is not begun
    measure: Callable[[Setting], tuple[list[Record], dict[str, Any], dict[str, Any]]]  # records, settings, notes

    @property
    def file(self) -> str:
        return f"gpu-{self.name}.json"


def card_of(part: Part, setting: Setting, settings: Mapping[str, Any], notes: Mapping[str, Any]) -> RunCard:
    """The provenance of a part's records, but for its seconds."""
    device = device_name(setting.device)
    said = {} if setting.size == "full" else {"size": TOY_SAYS}
    return RunCard(
        stage="benchmark",
        preset="benchmarks",
        method=DATA,
        seed=0,
        config_hash=config_hash(part.name, setting.size, device),
        data_hash="",
        code_hash=code_hash(*part.rooms),
        device=device,
        seconds=0.0,
        config={"size": setting.size, **settings},
        notes={**said, "cuda": str(torch.version.cuda), "cudnn": str(torch.backends.cudnn.version()), **notes},
    )


def is_finished(path: Path, card: RunCard) -> bool:
    """Whether ``path`` has the records of the same part, size, device and code."""
    if not path.exists():
        return False
    found = json.loads(path.read_text(encoding="utf-8"))["card"]
    return all(found[key] == getattr(card, key) for key in ("config_hash", "code_hash"))


def rank_of(path: Path) -> tuple[bool, bool]:
    """The rank of the records in a file, as :attr:`Setting.rank`."""
    card = json.loads(path.read_text(encoding="utf-8"))["card"]
    is_toy = card["config"].get("size") == "toy" or card["preset"].endswith(TOY_NAME)
    is_cpu = " thread" in card["device"]  # of a CPU, how many are used is part of its name
    return not is_cpu, not is_toy


def refuse_lesser(rank: tuple[bool, bool], targets: Iterable[Path]) -> None:
    """ValueError where records of ``rank`` would take the place of better ones, which are in ``targets``."""
    for path in sorted(targets):
        if path.exists() and rank_of(path) > rank:
            said = f"{'a GPU' if rank[0] else 'a CPU'} at {'full' if rank[1] else 'toy'} size"
            raise ValueError(
                f"need records of a GPU and of full size to renew {path}, which has them; these are of {said}: "
                "move that file away first if its records are to go"
            )


def publish_parts(work: Path) -> list[Path]:
    """Copy the finished parts' records to ``results/benchmarks`` of the project, where no better ones are."""
    written = []
    for source in sorted(work.glob("benchmarks/gpu-*.json")):
        target = project_root() / "results" / "benchmarks" / source.name
        refuse_lesser(rank_of(source), [target])
        write_atomically(target, source.read_bytes())
        written.append(target)
    return written


def write_archive(work: Path) -> Path:
    """What is published of the work folder in one file, ``records.tar``, to bring home or to go on from elsewhere."""
    target = work / "records.tar"
    found = [*work.glob("benchmarks/*.json"), *work.glob("runs/*/records/*/*.json"), *work.glob("runs/*/pictures/*")]
    found += work.glob("jobs/*.done")
    with replacing(target) as file, tarfile.open(fileobj=file, mode="w") as archive:
        for path in sorted(found):
            archive.add(path, path.relative_to(work).as_posix())
    return target


def read_archive(path: Path, work: Path) -> None:
    """Put the records of an archive into the work folder; those that are there stay."""
    with tarfile.open(path) as archive:
        new = [member for member in archive if not (work / member.name).exists()]
        archive.extractall(work, new, filter="data")
