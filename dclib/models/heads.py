"""What the trunk is asked: which super-class, and which sub-class inside it.

A super-class is a (super-cluster, quarter turn) pair, numbered R * super_cluster + turn. Each has a sub-class head
of its own, so the four turns of a super-cluster do not share one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Heads(nn.Module):
    """One super-class head over S classes, and S independent sub-class heads over k classes each.

    A head with a single class asks nothing and costs nothing: RotNet has k = 1, DeepCluster and the supervised
    reference have S = 1.

    Source: released code, src/model_factory.py; there each process holds the sub-class head of its rank.
    """

    def __init__(self, feature_dim: int, n_super_classes: int, n_sub_classes: int, generator: torch.Generator) -> None:
        super().__init__()
        s, k, d = n_super_classes, n_sub_classes, feature_dim
        self.super_weight = nn.Parameter(torch.empty(s, d))
        self.super_bias = nn.Parameter(torch.empty(s))
        self.sub_weight = nn.Parameter(torch.empty(s, k, d))
        self.sub_bias = nn.Parameter(torch.empty(s, k))
        self.reset(generator, super_head=True)

    @property
    def n_super_classes(self) -> int:
        return self.super_weight.shape[0]

    @property
    def n_sub_classes(self) -> int:
        return self.sub_weight.shape[1]

    def reset(self, generator: torch.Generator, *, super_head: bool) -> None:
        """Draw the sub-class heads anew, and the super-class head too where its classes changed meaning."""
        bound = 1.0 / math.sqrt(self.super_weight.shape[1])  # the default of nn.Linear
        for parameter in [*self.super_parameters(), *self.sub_parameters()] if super_head else self.sub_parameters():
            # drawn on the CPU, where the generator is: the same numbers on every device
            parameter.data.copy_(torch.empty(parameter.shape).uniform_(-bound, bound, generator=generator))

    def super_parameters(self) -> list[nn.Parameter]:
        return [self.super_weight, self.super_bias]

    def sub_parameters(self) -> list[nn.Parameter]:
        return [self.sub_weight, self.sub_bias]


@dataclass(frozen=True)
class JointLoss:
    """The loss of a batch and how often the heads were right.

    ``loss`` is the sum of the two cross-entropies in nats, each a mean over the batch. The hits are counts over the
    batch, as 0-dimensional tensors, so that nothing waits for a device.
    """

    loss: Tensor
    super_hits: Tensor
    sub_hits: Tensor


def joint_loss(
    heads: Heads,
    features: Tensor,
    super_class: Tensor,
    sub_class: Tensor,
    *,
    sub_head_gradient: str = "group_mean",
) -> JointLoss:
    """Cross-entropy of the super-class plus cross-entropy of the sub-class within the true super-class.

    Args:
        heads: S super-classes, k sub-classes in each.
        features: (b, d), the trunk's output; the ReLU between trunk and heads is applied here.
        super_class: (b,) in [0, S).
        sub_class: (b,) in [0, k).
        sub_head_gradient: ``"group_mean"`` gives each sub-class head the gradient of a mean over its own
            super-class's images, which for the equal shares of a batch is S times that of the mean over the
            batch; ``"global_mean"`` leaves the factor out. The trunk's gradient is the same in both.

    Source: released code, src/trainer.py (unweighted sum) and the per-group gradient averages of
    src/model_factory.py; ``"global_mean"`` is the formula as the paper writes it.
    """
    activations = F.relu(features)
    zero = activations.new_zeros(())
    loss, super_hits, sub_hits = zero, zero, zero
    if heads.n_super_classes > 1:
        logits = F.linear(activations, heads.super_weight, heads.super_bias)
        loss = loss + F.cross_entropy(logits, super_class)
        super_hits = (logits.argmax(dim=1) == super_class).sum()
    if heads.n_sub_classes > 1:
        factor = float(heads.n_super_classes) if sub_head_gradient == "group_mean" else 1.0
        # unbound once: indexing in the loop would allocate a gradient of all heads for each of them
        weight = scale_gradient(heads.sub_weight, factor).unbind(0)
        bias = scale_gradient(heads.sub_bias, factor).unbind(0)
        for s in range(heads.n_super_classes):
            members = (super_class == s).nonzero().squeeze(1)
            logits = F.linear(activations[members], weight[s], bias[s])
            targets = sub_class[members]
            loss = loss + F.cross_entropy(logits, targets, reduction="sum") / len(features)
            sub_hits = sub_hits + (logits.argmax(dim=1) == targets).sum()
    return JointLoss(loss, super_hits, sub_hits)


def scale_gradient(x: Tensor, factor: float) -> Tensor:
    """``x`` itself, whose gradient comes back multiplied by ``factor``."""
    return x if factor == 1.0 else _ScaleGradient.apply(x, factor)


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.factor, None
