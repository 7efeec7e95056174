"""In how many digits numbers are multiplied, and where fewer are faster."""

from __future__ import annotations

import torch


def multiplies_in_bfloat16(device: torch.device) -> bool:
    """Whether ``device`` has instructions that multiply numbers of bfloat16 and add up in float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    found: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # not in the oldest versions of torch
    return device.type == "cpu" and bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def chosen_precision(precision: str, device: torch.device) -> str:
    """``precision``, and for ``"auto"`` ``"bfloat16"`` where the device has instructions for it, else ``"float32"``."""
    if precision != "auto":
        return precision
    return "bfloat16" if multiplies_in_bfloat16(device) else "float32"
