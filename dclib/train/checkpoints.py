"""One file that holds everything a run needs to go on: it is whole, or it is the one before."""

from __future__ import annotations

import pickle
import time
from pathlib import Path
from typing import Any

import torch

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
        saved = load_checkpoint(self.path, self.identity)
        if saved is None:
            self.save(state)
        else:
            state.restore(saved)

    def save(self, state: State) -> None:
        """Replace the checkpoint."""
        save_checkpoint(self.path, self.identity, state.snapshot())
        self._last = time.monotonic()


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
    except (RuntimeError, EOFError, pickle.UnpicklingError, KeyError, TypeError, ValueError, OSError) as error:
        raise ValueError(
            f"{path} is not a readable checkpoint: it is damaged or something else; delete it to start afresh"
        ) from error
    if found != identity:
        raise ValueError(
            f"{path} belongs to another configuration (identity {found}, wanted {identity}); "
            "use another folder, or delete it to start afresh"
        )
    return dict(state)
