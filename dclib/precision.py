"""In how many digits numbers are multiplied, and where fewer are faster."""

from __future__ import annotations

import os

import torch

# oneDNN, which makes the products on a CPU, can be told to go without instructions that are there
LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
WITHOUT_BFLOAT16 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI")


def multiplies_in_bfloat16(device: torch.device) -> bool:
    """Whether ``device`` has instructions that multiply numbers of bfloat16 and add up in float32, and may use them."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if any(os.environ.get(name, "").upper() in WITHOUT_BFLOAT16 for name in LIMITS):
        return False
    found: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # not in the oldest versions of torch
    return device.type == "cpu" and bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def chosen_precision(precision: str, device: torch.device) -> str:
    """``precision``, and for ``"auto"`` ``"bfloat16"`` where the device has instructions for it, else ``"float32"``."""
    if precision != "auto":
        return precision
    return "bfloat16" if multiplies_in_bfloat16(device) else "float32"
