"""Classes by nearest neighbours among labelled images: no training, one figure for a network."""

from __future__ import annotations

import torch
from torch import Tensor

TEMPERATURE = 0.07  # a neighbour's vote weighs exp(cosine / TEMPERATURE)
BLOCK_ELEMENTS = 2**24  # cosines at once: 64 MiB


def vote_of_neighbours(features: Tensor, labels: Tensor, queries: Tensor, k: int, n_classes: int) -> Tensor:
    """The class of each query by the votes of its ``k`` nearest labelled images, (m,) int64; ties to the lower number.

    Nearness is the cosine. A row of zeros has a cosine of zero with everything.

    Args:
        features: (n, d) float32 of the labelled images. Never modified or copied whole.
        labels: (n,) int64 in [0, n_classes).
        queries: (m, d).
        k: 1 <= k <= n.

    Raises:
        ValueError: ``k`` is outside [1, n].

    Source: Wu et al. 2018, arXiv:1805.01978, section 3.4, weights and temperature; Caron et al. 2021,
    arXiv:2104.14294, section 4.1, for 20 neighbours.
    """
    if not 1 <= k <= len(features):
        raise ValueError(f"need low_shot.neighbours from 1 to {len(features)}, the labelled images; got {k}")
    lengths = torch.linalg.vector_norm(features, dim=1).clamp(min=1e-12)
    found = []
    for block in queries.split(max(1, BLOCK_ELEMENTS // len(features))):
        own = torch.linalg.vector_norm(block, dim=1, keepdim=True).clamp(min=1e-12)
        cosines, nearest = (block @ features.T).div_(own).div_(lengths).topk(k, dim=1)
        weights = (cosines / TEMPERATURE).exp().double()  # of e^14 at most
        votes = weights.new_zeros(len(block), n_classes).scatter_add_(1, labels[nearest], weights)
        found.append(votes.argmax(dim=1))
    return torch.cat(found) if found else labels.new_empty(0)
