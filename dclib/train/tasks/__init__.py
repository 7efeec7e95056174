"""One module per way of pre-training, named as its module of outlines in ``methods``; each calls its class ``TASK``."""

from __future__ import annotations

from importlib import import_module

import torch

from dclib.config import MethodConfig
from dclib.data.pixels import Pixels
from dclib.methods import MODULES
from dclib.train.tasks.task import Task

__all__ = ["Task", "begin_task"]


def begin_task(config: MethodConfig, pixels: Pixels, seed: int, device: torch.device) -> Task:
    """The task of a method before the first step."""
    kind: type[Task] = import_module(f"{__package__}.{MODULES[config.method]}").TASK
    return kind(config, pixels, seed, device)
