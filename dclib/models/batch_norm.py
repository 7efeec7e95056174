"""Batch normalisation whose statistics are those of the whole batch, however many processes share it."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dclib.distributed import all_reduce_sum, is_distributed


class BatchNorm2d(nn.BatchNorm2d):
    """``nn.BatchNorm2d``, with mean and variance over the rows of all processes while it trains.

    A process may hold images of one turn or one super-cluster alone: its own statistics would tell which, and
    differ from those that evaluation uses. PyTorch's SyncBatchNorm does this on CUDA only; this runs anywhere, so
    that it is the same code that is tested.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and is_distributed()):
            return super().forward(x)
        maps: Tensor
        maps, mean, variance, count = _SharedBatchNorm.apply(x, self.weight, self.bias, self.eps)
        with torch.no_grad():
            tracked: dict[str, Tensor] = dict(self.named_buffers())
            tracked["num_batches_tracked"] += 1
            tracked["running_mean"].lerp_(mean, self.momentum or 0.0)
            tracked["running_var"].lerp_(variance * (count / (count - 1)), self.momentum or 0.0)
        return maps


class _SharedBatchNorm(torch.autograd.Function):
    """x (b, c, h, w) of this process to its normalised maps, with the mean and variance (c,) over all processes.

    Maps may be bfloat16; statistics and gradients of weight and bias have the precision of ``weight``.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        channels = x.shape[1]
        rows = x.numel() // channels
        variance, mean = torch.var_mean(x.to(weight.dtype), dim=(0, 2, 3), correction=0)
        # float64, since the variance of all is a difference of means of squares
        first, second = mean.double(), variance.double() + mean.double().square()
        own = first.new_full((1,), rows)  # made on the device: it would be waited for if it came from the CPU
        moments = torch.cat([rows * first, rows * second, own])
        moments = all_reduce_sum(moments)
        count = moments[-1]
        first, second = moments[:channels] / count, moments[channels:-1] / count
        mean, variance = first.to(mean.dtype), (second - first.square()).clamp(min=0).to(variance.dtype)
        inverse = (variance + eps).rsqrt()
        ctx.save_for_backward(x, weight, mean, inverse, count)
        count = count.to(mean.dtype)
        ctx.mark_non_differentiable(mean, variance, count)
        return F.batch_norm(x, mean, variance, weight, bias, False, 0.0, eps), mean, variance, count

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, inverse, count = ctx.saved_tensors
        dy = gradients[0].to(mean.dtype)
        normalised = (x - mean.view(1, -1, 1, 1)) * inverse.view(1, -1, 1, 1)
        own_bias, own_weight = dy.sum(dim=(0, 2, 3)), (dy * normalised).sum(dim=(0, 2, 3))
        total = all_reduce_sum(torch.cat([own_bias, own_weight]).double()) / count
        mean_dy, mean_product = total.to(dy.dtype).chunk(2)
        centred = dy - mean_dy.view(1, -1, 1, 1) - normalised * mean_product.view(1, -1, 1, 1)
        return (centred * (weight * inverse).view(1, -1, 1, 1)).to(x.dtype), own_weight, own_bias, None
