"""Random generators derived from a seed and a purpose, so that nothing depends on what ran before."""

from __future__ import annotations

import hashlib

import torch


def derive_seed(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for one purpose, such as ``derive_seed(0, "crops", epoch, step)``."""
    digest = hashlib.blake2b(repr((seed, *purpose)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator for one purpose; equal arguments give equal numbers on every machine."""
    return torch.Generator().manual_seed(derive_seed(seed, *purpose))
