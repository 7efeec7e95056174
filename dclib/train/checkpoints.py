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

import torch

from dclib.distributed import from_main, is_main, wait_for_all
from dclib.preemption import while_saving
from dclib.records import replacing
from dclib.train.state import State


class Saver:
    """Keeps the checkpoint of one run: when to write it, and whose it is."""

    def __init__(self, folder: Path, identity: str, every: float) -> None:
        self.path = folder / "checkpoint.pt"
        self.identity, self.every = identity, every
        self._last = time.monotonic()

    @property
    def is_due(self) -> bool:
        """Whether ``every`` seconds have gone by since the last one."""
        return time.monotonic() - self._last >= self.every

    def restore(self, state: State) -> None:
        """Bring ``state`` to the saved one, or write a first one: a folder that cannot be written is found out now."""
        if not from_main(self.path.exists()):  # as one process sees it, before it writes
            self.save(state)
            return
        saved = self._load(self.path)
        state.restore(saved)
        for number in state.task.pieces:
            piece = self._load(self._head_file(saved["head_files"], number))
            state.task.restore_piece(number, state.optimisers, piece)

    @while_saving()
    def save(self, state: State) -> None:
        """Replace the checkpoint. All processes must call it; one writes it, and each writes its sharded heads."""
        names = {}
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
