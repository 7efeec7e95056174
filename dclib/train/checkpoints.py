"""One file that holds everything a run needs to go on: it is whole, or it is the one before.

Sharded heads, which no process has all of, are files of their own beside it, one per piece: that of a super-class.
They are written first; the one file then names them in the same atomic step, and those of the checkpoint before are
removed last.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dclib.cluster.pseudo_labels import PseudoLabels
from dclib.cluster.stored_rows import StoredRows
from dclib.distributed import from_main, is_main, wait_for_all
from dclib.preemption import while_saving
from dclib.records import replacing
from dclib.train import forming
from dclib.train.state import State


class Saver:
    """Keeps the checkpoint of one run: when to write it, and whose it is."""

    def __init__(self, folder: Path, identity: str, every: float) -> None:
        self.path = folder / "checkpoint.pt"
        self.identity, self.every = identity, every
        self._last, self._kept = time.monotonic(), 0  # and clusterings that are kept

    @property
    def is_due(self) -> bool:
        """Whether ``every`` seconds have gone by since the last one."""
        return time.monotonic() - self._last >= self.every

    def restore(self, state: State) -> None:
        """Bring ``state`` to the saved one, or write a first one: a folder that cannot be written is found out now."""
        if not from_main(self.path.exists()):  # as one process sees it, before it writes
            if is_main():  # clusterings of a run whose checkpoint was deleted
                shutil.rmtree(self.path.parent / forming.FOLDER, ignore_errors=True)
            self.save(state)
            return
        saved = self._load(self.path)
        state.restore(saved)
        self._kept = state.clusterings
        for number in state.task.pieces:
            piece = self._load(self._head_file(saved["head_files"], number))
            state.task.restore_piece(number, state.optimisers, piece)

    @while_saving()
    def save(self, state: State) -> None:
        """Replace the checkpoint. All processes must call it; one writes it, and each writes its sharded heads."""
        names = {}
        if state.clusterings > self._kept and is_main():  # before the checkpoint that says so: repeated, it is the same
            keep_clustering(self.path.parent, self.identity, state)
        self._kept = state.clusterings
        if state.task.sharded:
            names = {"head_files": f"{state.epoch}-{state.step}-{state.clusterings}"}
            self._save_heads(state, names["head_files"])
        if is_main():
            save_checkpoint(self.path, self.identity, {**state.snapshot(), **names})
            for folder in (self.path.parent / "heads").glob("*"):
                if folder.name != names.get("head_files"):
                    shutil.rmtree(folder, ignore_errors=True)
        if names:
            wait_for_all()  # nobody writes the next ones while old ones are removed
        self._last = time.monotonic()

    def _save_heads(self, state: State, name: str) -> None:
        if state.task.writes_pieces:
            for number in state.task.pieces:
                piece = state.task.piece(number, state.optimisers)
                save_checkpoint(self._head_file(name, number), self.identity, piece)
        wait_for_all()

    def _head_file(self, name: str, number: int) -> Path:
        return self.path.parent / "heads" / name / f"{number}.pt"

    def _load(self, path: Path) -> dict[str, Any]:
        saved = load_checkpoint(path, self.identity)
        if saved is None:
            raise ValueError(f"{path} is missing from its checkpoint; delete {self.path} to start afresh")
        return saved


def keep_clustering(folder: Path, identity: str, state: State) -> None:
    """Keep the newest clustering, just made: see :mod:`dclib.train.forming`. A task without clusters has nothing to.

    Some images' features are read back from where the clustering took them. Memory does not grow with the number of
    images, but for a copy of their labels up to ``forming.KEPT_IMAGES``.
    """
    labels, number = getattr(state.task, "labels", None), state.clusterings - 1
    if not isinstance(labels, PseudoLabels):
        return
    n = len(labels.super_cluster)
    rows = torch.from_numpy(forming.mapped_rows(n))
    features = _clustered(folder / f"clustering-{identity}-{number}", state, rows)
    place = np.zeros((0, forming.AXES), np.float32) if features is None else forming.place_on_plane(features.numpy())
    chosen = slice(None) if n <= forming.KEPT_IMAGES else rows
    clusters = labels.super_cluster[chosen] * labels.n_sub + labels.sub_class[chosen]
    forming.keep(forming.path_of(folder, number), forming.Formed(n, state.epoch, clusters.numpy(), place))


def _clustered(stored: Path, state: State, rows: Tensor) -> Tensor | None:
    """What of some images was clustered, (m, d) on the CPU; None where it is not there any more."""
    task = state.task
    if isinstance(remembered := getattr(task, "memory", None), Tensor):  # as DeepCluster-v2 does
        return remembered[rows].float()
    if not (stored / "features").is_dir():
        return None
    width, precision = state.trunk.config.feature_dim, task.config.cluster.precision
    return StoredRows.at(stored / "features", len(task.pixels), width, precision)[rows]


def save_checkpoint(path: Path, identity: str, state: dict[str, Any]) -> None:
    """Write ``state`` (tensors, numbers, strings, lists, dicts) under a temporary name, then rename.

    Raises:
        OSError: the folder cannot be written or the disk is full; the checkpoint that was there is untouched.
    """
    with replacing(path) as file:
        try:
            torch.save({"identity": identity, "state": state}, file)
        except RuntimeError as error:  # how torch reports a full disk
            raise OSError(str(error)) from error


def load_checkpoint(path: Path, identity: str) -> dict[str, Any] | None:
    """The state saved at ``path`` by a run of this ``identity``, on the CPU; None if there is no file.

    Raises:
        ValueError: the file belongs to another configuration, or cannot be read.
    """
    if not path.exists():
        return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        found, state = content["identity"], content["state"]
    except Exception as error:  # broken bytes raise nearly anything
        raise ValueError(
            f"{path} is not a readable checkpoint: it is damaged or something else; delete it to start afresh"
        ) from error
    if found != identity:
        raise ValueError(
            f"{path} belongs to another configuration (identity {found}, wanted {identity}); "
            "use another folder, or delete it to start afresh"
        )
    return dict(state)
