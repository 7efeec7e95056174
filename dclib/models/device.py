"""How tensors come to a device, and how exactly it multiplies matrices there."""

from __future__ import annotations

import torch
from torch import Tensor

from dclib.precision import chosen_precision


def send(x: Tensor, device: torch.device, memory_format: torch.memory_format = torch.preserve_format) -> Tensor:
    """``x`` on ``device``; neither side waits for the other where ``x`` comes from the CPU."""
    if x.device.type == "cpu" and device.type == "cuda":
        x = x.pin_memory()  # from other memory the copy itself would wait for the device
    return x.to(device, memory_format=memory_format, non_blocking=True)


def products_in(precision: str, device: torch.device) -> torch.autocast:
    """A context whose convolutions and matrix products are made in ``precision``, from weights of float32.

    In ``"bfloat16"`` both factors are rounded to 8 significant bits and products are added up in float32; maps and
    features are kept in bfloat16. Batch normalisation still takes its statistics in float32, and losses are float32.
    ``"auto"`` is ``"bfloat16"`` where the device has instructions for it.
    """
    enabled = chosen_precision(precision, device) == "bfloat16"
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)
