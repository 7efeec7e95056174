"""Runs as their folders tell of them: the network, how it was trained, how far it has come, and how well it is."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from dclib.data.folders import named_path
from dclib.models.released import load_released
from dclib.models.vgg import Trunk
from dclib.presets import load_preset
from dclib.train.chance import TASKS, tasks_at_chance
from dclib.train.health import LARGEST_SHARE

CHECKPOINT, WEIGHTS, SUMMARY = "checkpoint.pt", "model.safetensors", "summary.json"
NETWORK = "network"  # folder of the training below that of an exploration
FRESH = 180.0  # seconds since a run last wrote anything that it counts as running: it saves every minute
RUN_NAME = re.compile(r"(?P<method>.+)-s(?P<seed>\d+)-[0-9a-f]{12}")
OTHERS = "finetune-"  # begins the names of folders whose checkpoints are of a network that was trained before
DEPTH = 6  # folders below each other that are looked into
FEW_IMAGES = 1000  # taken for an epoch's where nothing says how many it showed


def network_file(path: str | Path) -> Path:
    """The file of weights that a path stands for. Raises ValueError that says what was looked for."""
    path = named_path(path)
    if path.is_file():
        return path
    looked = [path / WEIGHTS, path / CHECKPOINT, path / NETWORK / CHECKPOINT]
    found = next((file for file in looked if file.is_file()), None)
    if found is None:
        what = "which is a folder without one" if path.is_dir() else "which is not there"
        raise ValueError(
            f"need a network at {path}, {what}: looked for {', '.join(str(file) for file in looked)}; give the folder "
            "of a training run, of an exploration that has trained, or of an export"
        )
    return found


def load_network(path: str | Path) -> Trunk:
    """As :func:`dclib.load`."""
    return load_released(network_file(path)).trunk


@dataclass(frozen=True)
class Run:
    """One training run, or exploration, that was found.

    Attributes:
        folder: Holds its checkpoint; an exploration's own folder where that has trained nothing.
        preset: Name of the preset whose runs it is among; empty elsewhere.
        method: And ``seed``, by the folder's name; the folder's name and -1 where it tells none.
        exploration: Folder of the exploration that it belongs to, if it does.
        changed: When it last wrote something, seconds since 1970.
        fault: Why its checkpoint cannot be read; empty where it can.
        saved: What the checkpoint holds, tensors not yet read.
        card: Its run card, which is written when it is finished.
        examined: Images of the last epoch, by its records; 0 where there are none.
        layers: Accuracy (%) of linear classifiers on each layer, where it was probed.
        summary: What an exploration says of itself.
    """

    folder: Path
    preset: str
    method: str
    seed: int
    exploration: Path | None
    changed: float
    fault: str = ""
    saved: Mapping[str, Any] = field(default_factory=dict)
    card: Mapping[str, Any] = field(default_factory=dict)
    examined: int = 0
    layers: Mapping[int, float] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Short, for people."""
        if self.exploration is not None:
            return self.exploration.name
        return f"{self.preset}/{self.folder.name}" if self.preset else self.folder.name

    @property
    def history(self) -> list[Mapping[str, float]]:
        return list(self.saved.get("history", []))

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return int(self.saved.get("epoch", 0))

    @property
    def n_images(self) -> int:
        """Images it learned from; 0 where nothing says."""
        task = self.saved.get("task", {})
        labels = task.get("super_cluster") if isinstance(task, Mapping) else None
        return int(self.card.get("notes", {}).get("images", 0)) or (0 if labels is None else len(labels))

    @property
    def settings(self) -> Mapping[str, Any]:
        """Those of its run card or summary; of an unfinished run those of the network alone."""
        told = self.card.get("config") or self.summary.get("settings")
        return told if isinstance(told, Mapping) else {"model": self.saved.get("model", {})}

    @property
    def epochs(self) -> int:
        """Epochs it is to have, by its card, summary, or the preset as it is now; 0 where nothing says."""
        train = self.settings.get("train")
        if isinstance(train, Mapping) and "epochs" in train:
            return int(train["epochs"])
        try:
            return load_preset(self.preset).method(self.method).train.epochs if self.preset else 0
        except (ValueError, OSError):
            return 0

    @property
    def state(self) -> str:
        """``finished``, ``running``, ``interrupted``, ``damaged``, or ``stopped`` where files do not tell which."""
        if self.fault:
            return "damaged"
        if self.card or self.summary:
            return "finished"
        if time.time() - self.changed < FRESH:
            return "running"
        if self.saved.get("step") or self.epoch < self.epochs:
            return "interrupted"
        return "stopped"

    @property
    def nmi(self) -> float | None:
        """Agreement of its last clustering with the one before; None where there were not two."""
        return next((row["nmi_previous"] for row in reversed(self.history) if "nmi_previous" in row), None)

    @property
    def health(self) -> str:
        """In a word or two, its verdict where it has one: ``learns``, ``turns at chance``, ``collapsed``."""
        verdict = self.summary.get("verdict")
        if isinstance(verdict, Mapping):
            verdict = verdict.get("word") or verdict.get("verdict")
        if isinstance(verdict, str) and verdict:
            return verdict
        epochs = [row for row in self.history if "loss" in row]
        if not epochs:
            return ""
        clusterings = [row for row in self.history if "largest_cluster" in row]
        if clusterings and self.n_images and clusterings[-1]["largest_cluster"] > LARGEST_SHARE * self.n_images:
            return "collapsed"
        n = self.examined or self.n_images or FEW_IMAGES
        failed = [TASKS[task] for task, _, _ in tasks_at_chance(epochs[-1], n)]
        return f"{', '.join(failed)} at chance" if failed else "learns"

    @property
    def best_layer(self) -> int | None:
        """The layer whose linear classifier is best, where it was probed."""
        return max(self.layers, key=lambda layer: self.layers[layer]) if self.layers else None


def read_run(path: str | Path) -> Run:
    """What is known of the run in a folder, or of the exploration; never fails for what the folder holds."""
    path = Path(path)
    exploration = path if is_exploration(path) else path.parent if path.name == NETWORK else None
    folder = path / NETWORK if exploration == path and (path / NETWORK / CHECKPOINT).is_file() else path
    named = RUN_NAME.fullmatch(folder.name)
    preset = folder.parent.parent.name if named and folder.parent.name == "runs" else ""
    summary = read_json(exploration / SUMMARY) if exploration else {}
    told = summary.get("settings")
    method, seed = str(told.get("method", folder.name)) if isinstance(told, Mapping) else folder.name, -1
    if named:
        method, seed = named["method"], int(named["seed"])
    saved: Mapping[str, Any] = {}
    fault = ""
    if (folder / CHECKPOINT).is_file():
        try:
            saved = read_checkpoint(folder / CHECKPOINT)
        except ValueError as error:
            fault = str(error)
    card, examined, layers = _records_of(folder, method, seed, saved) if preset and saved else ({}, 0, {})
    return Run(
        folder, preset, method, seed, exploration, _changed(folder), fault, saved, card, examined, layers, summary
    )


def is_exploration(folder: Path) -> bool:
    """Whether it is the folder that an exploration has written, or is writing."""
    # os.path says False of folders that are closed
    return os.path.isfile(folder / NETWORK / CHECKPOINT) or (
        os.path.isfile(folder / SUMMARY) and os.path.isfile(folder / "photos.csv")
    )


def read_checkpoint(path: Path) -> Mapping[str, Any]:
    """What a checkpoint holds; tensors are read when they are looked at. Raises ValueError where it is none of ours."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)["state"]
        if not (isinstance(state["trunk"], Mapping) and isinstance(state["history"], list)):
            raise TypeError("it has no network or no history")
        return dict(state)
    except Exception as error:  # broken bytes raise nearly anything
        reason = (str(error).splitlines() or [""])[0][:100]
        raise ValueError(
            f"{path} is no checkpoint of this library, or damaged: {type(error).__name__} {reason}"
        ) from None


def find_runs(root: Path) -> Iterator[Run]:
    """The runs and explorations below a folder, the one that changed last first; folders that are closed are passed."""
    found = set()
    for folder, folders, files in os.walk(root):
        place = Path(folder)
        if len(place.relative_to(root).parts) >= DEPTH:
            folders.clear()
        folders[:] = [name for name in folders if not name.startswith((".", "clustering-"))]
        if is_exploration(place):
            found.add(place)
            folders.clear()
        elif CHECKPOINT in files and not place.name.startswith(OTHERS):
            found.add(place)
    yield from sorted(map(read_run, found), key=lambda run: (-run.changed, run.folder))


def read_json(path: Path) -> dict[str, Any]:
    """The table in a file; empty where there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _records_of(
    folder: Path, method: str, seed: int, saved: Mapping[str, Any]
) -> tuple[dict[str, Any], int, dict[int, float]]:
    """Run card, images of an epoch and accuracy by layer from the records beside a run, if they are of this one.

    Another run of the same name may have written them since: they are its own where the losses are the same.
    """
    records = folder.parent.parent / "records"
    content = read_json(records / "pretrain" / f"{method}-s{seed}.json")
    own = {int(row["epoch"]): row["loss"] for row in saved["history"] if "loss" in row}
    try:
        rows = [row for row in content["records"] if row["name"] == "loss"]
        if not own or {int(row["keys"]["epoch"]): row["value"] for row in rows} != own:
            return {}, 0, {}
        examined = int(rows[-1]["n"])
        layers = {}
        for dataset in ("scenes", "objects"):
            probe = read_json(records / "linear_probe" / f"{method}-{dataset}-s{seed}.json")
            if probe and probe["card"]["created"] >= content["card"]["created"]:
                layers = {int(r["keys"]["layer"]): float(r["value"]) for r in probe["records"] if r["name"] == "top1"}
        return dict(content["card"]), examined, layers
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}, 0, {}


def _changed(folder: Path) -> float:
    """When something in a run's folder last changed; of its clustering too, which may take longer than a minute."""
    return max(modified(Path(place, name)) for place, _, names in os.walk(folder) for name in ("", *names))


def modified(path: Path) -> float:
    """When a file was last written, seconds since 1970; 0 if it has gone meanwhile."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
