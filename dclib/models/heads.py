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

from dclib.models.device import send


class Heads(nn.Module):
    """One super-class head over S classes, and S independent sub-class heads over k classes each.

    A head with a single class asks nothing and costs nothing: RotNet has k = 1, DeepCluster and the supervised
    reference have S = 1.

    ``held`` are the super-classes whose sub-class heads are kept here, all of them by default: at the paper's scale
    a process cannot hold 16 x 80,000 x 4096 weights, and need not, where it is given images of its own only.

    Source: released code, src/model_factory.py; there each process holds the sub-class head of its rank.
    """

    def __init__(
        self,
        feature_dim: int,
        n_super_classes: int,
        n_sub_classes: int,
        generator: torch.Generator,
        held: range | None = None,
    ) -> None:
        super().__init__()
        s, k, d = n_super_classes, n_sub_classes, feature_dim
        self.held = range(s) if held is None else held  # super-classes whose sub-class heads are here
        self.super_weight = nn.Parameter(torch.empty(s, d))
        self.super_bias = nn.Parameter(torch.empty(s))
        self.sub_weight = nn.Parameter(torch.empty(len(self.held), k, d))
        self.sub_bias = nn.Parameter(torch.empty(len(self.held), k))
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

        def draw(shape: torch.Size) -> Tensor:
            # on the CPU, where the generator is: the same numbers on every device
            return torch.empty(shape).uniform_(-bound, bound, generator=generator)

        for parameter in self.super_parameters() if super_head else []:
            parameter.data.copy_(draw(parameter.shape))
        for parameter in self.sub_parameters():
            for super_class in range(self.n_super_classes):
                drawn = draw(parameter.shape[1:])  # also those of others: placement changes no number
                if super_class in self.held:
                    parameter.data[super_class - self.held.start].copy_(drawn)

    def super_parameters(self) -> list[nn.Parameter]:
        return [self.super_weight, self.super_bias]

    def sub_parameters(self) -> list[nn.Parameter]:
        return [self.sub_weight, self.sub_bias]


@dataclass(frozen=True)
class JointLoss:
    """The loss of a batch and how often the heads were right.

    ``loss`` is the sum of the two cross-entropies in nats, each a mean over the batch. The hits are counts over these
    images, as 0-dimensional tensors, so that nothing waits for a device.
    """

    loss: Tensor
    super_hits: Tensor
    sub_hits: Tensor
    turn_hits: Tensor  # right about the quarter turn, whatever the super-cluster


def joint_loss(
    heads: Heads,
    features: Tensor,
    super_class: Tensor,
    sub_class: Tensor,
    *,
    sub_head_gradient: str = "group_mean",
    batch_size: int | None = None,
    n_turns: int = 4,
) -> JointLoss:
    """Cross-entropy of the super-class plus cross-entropy of the sub-class within the true super-class.

    Args:
        heads: S super-classes, k sub-classes in each.
        features: (b, d), the trunk's output; the ReLU between trunk and heads is applied here.
        super_class: (b,) in [0, S), each among those whose heads are held. On the CPU, whatever the heads are on:
            how many images each head gets must be known there, and asking a GPU would be to wait for it.
        sub_class: (b,) in [0, k), beside it.
        sub_head_gradient: ``"group_mean"`` gives each sub-class head the gradient of a mean over its own
            super-class's images, which for the equal shares of a batch is S times that of the mean over the
            batch; ``"global_mean"`` leaves the factor out. The trunk's gradient is the same in both.
        batch_size: Images of the whole batch where these are one process's part of it: losses of the parts then add
            up to the loss of the whole. b by default.
        n_turns: R, of which a super-class is R * super_cluster + turn; for counting who was right, no more.

    Source: released code, src/trainer.py (unweighted sum) and the per-group gradient averages of
    src/model_factory.py; ``"global_mean"`` is the formula as the paper writes it.
    """
    activations = F.relu(features)
    total = len(features) if batch_size is None else batch_size
    sizes = torch.bincount(super_class, minlength=heads.n_super_classes).tolist()
    order = super_class.argsort(stable=True)
    super_class, order, targets = send(torch.stack([super_class, order, sub_class[order]]), features.device)
    zero = heads.super_weight.new_zeros(())
    loss, super_hits, sub_hits, turn_hits = zero, zero, zero, zero
    if heads.n_super_classes > 1:
        logits = F.linear(activations, heads.super_weight, heads.super_bias)
        loss = loss + F.cross_entropy(logits, super_class, reduction="sum") / total
        named = logits.argmax(dim=1)
        super_hits, turn_hits = (named == super_class).sum(), ((named - super_class) % n_turns == 0).sum()
    if heads.n_sub_classes > 1:
        factor = float(heads.n_super_classes) if sub_head_gradient == "group_mean" else 1.0
        # unbound once: indexing in the loop would allocate a gradient of all heads for each of them
        weight = scale_gradient(heads.sub_weight, factor).unbind(0)
        bias = scale_gradient(heads.sub_bias, factor).unbind(0)
        members, targets_of = activations.index_select(0, order).split(sizes), targets.split(sizes)
        for place, s in enumerate(heads.held):
            logits = F.linear(members[s], weight[place], bias[place])
            loss = loss + F.cross_entropy(logits, targets_of[s], reduction="sum") / total
            sub_hits = sub_hits + (logits.argmax(dim=1) == targets_of[s]).sum()
    return JointLoss(loss, super_hits, sub_hits, turn_hits)


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
