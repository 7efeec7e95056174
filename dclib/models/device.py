"""How tensors come to a device, and how exactly it multiplies matrices there."""

from __future__ import annotations

import os
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from dclib.precision import chosen_precision


def send(x: Tensor, device: torch.device, memory_format: torch.memory_format = torch.preserve_format) -> Tensor:
    """``x`` on ``device``; neither side waits for the other where ``x`` comes from the CPU."""
    if x.device.type == "cpu" and device.type == "cuda":
        x = x.pin_memory()  # from other memory the copy itself would wait for the device
    return x.to(device, memory_format=memory_format, non_blocking=True)


def products_in(precision: str, device: torch.device, *, keep_rounded: bool = True) -> torch.autocast:
    """A context whose convolutions and matrix products are made in ``precision``, from weights of float32.

    In ``"bfloat16"`` both factors are rounded to 8 significant bits and products are added up in float32; maps and
    features are kept in bfloat16. Batch normalisation still takes its statistics in float32, and losses are float32.
    ``"auto"`` is ``"bfloat16"`` where the device has instructions for it. A weight is rounded once in the context, or
    at each use where ``keep_rounded`` is False.
    """
    enabled = chosen_precision(precision, device) == "bfloat16"
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled, cache_enabled=keep_rounded)


def unrounded(x: Tensor) -> Tensor:
    """``x`` in float32 where products left it in bfloat16: what losses and distances are made of."""
    return x.float() if x.dtype == torch.bfloat16 else x


class Replayed(nn.Module):
    """A network in training whose passes, forwards and backwards, a GPU repeats from a recording: a CUDA graph each.

    A small network keeps a GPU waiting for the next of hundreds of small kernels; a recording is started at once. The
    kernels are those of the network itself, so are its weights. Images of another shape or type than those it was
    recorded with go through the network as ever.
    """

    def __init__(self, network: nn.Module, images: Tensor, precision: str) -> None:
        super().__init__()
        self.network = network
        self.recorded_for = images.shape, images.dtype
        buffers: dict[str, Tensor] = dict(network.named_buffers())
        kept = {name: buffer.clone() for name, buffer in buffers.items()}
        network.train()
        with products_in(precision, images.device, keep_rounded=False):
            self.replay: Any = torch.cuda.make_graphed_callables(_Whole(network), (images,))
        for name, buffer in buffers.items():
            buffer.copy_(kept[name])  # batch norm counted the images of the recording

    def forward(self, images: Tensor) -> Tensor:
        """What the network makes of images; a recording's output is overwritten by the next."""
        same = (images.shape, images.dtype) == self.recorded_for
        features: Tensor = (self.replay if same else self.network)(images)
        return features


class _Whole(nn.Module):
    """Stands for a network while it is recorded, which replaces the ``forward`` of what it is given."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.network(images)
        return features


def replayed(network: nn.Module, shape: tuple[int, ...], precision: str, device: torch.device) -> nn.Module:
    """``network`` in a recording for training on images of this shape, float, where there is a GPU; else itself.

    The environment variable DCLIB_CUDA_GRAPHS=0 leaves it as it is everywhere.
    """
    if device.type != "cuda" or os.environ.get("DCLIB_CUDA_GRAPHS") == "0":
        return network
    # the one that a recording cannot avoid: gradients are made in it on a stream of its own
    warnings.filterwarnings("ignore", message="The AccumulateGrad node's stream")
    images = torch.zeros(shape, device=device).contiguous(memory_format=torch.channels_last)
    return Replayed(network, images, precision)
