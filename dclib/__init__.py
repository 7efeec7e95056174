"""DeeperCluster: unsupervised pre-training of image features on non-curated data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dclib.machine import keep_memory, wait_quietly

if TYPE_CHECKING:
    from dclib.models.vgg import Trunk

__version__ = "0.1.0"

keep_memory()  # here, since every process imports this first, and before torch
wait_quietly()


def load(path: str | Path) -> Trunk:
    """The network that was trained or exported there, in evaluation mode, on the CPU.

    Args:
        path: A folder of a training run, of an exploration or of an export, or one of their files: ``checkpoint.pt``,
            ``model.safetensors``.

    Raises:
        ValueError: there is none; the message says what was looked for.
    """
    from dclib.explore.found import load_network  # with it comes torch

    return load_network(path)
