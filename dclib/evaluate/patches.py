"""Features without a network: distances of an image's patches to centroids that k-means found among patches.

Source: Coates, Ng and Lee 2011, "An Analysis of Single-Layer Networks in Unsupervised Feature Learning", AISTATS,
PMLR 15:215-223. Differs: our k-means, which starts at patches and leaves no cluster empty; there centroids start at
random. The constants that the paper leaves open are those of the code its authors gave out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from dclib.cluster.kmeans import kmeans
from dclib.cluster.whitening import mean_and_covariance, principal_axes

SIDE = 6  # of a patch, pixels; one at every position
CONTRAST = 10.0  # added to the variance of a patch's values, which are from 0 to 255
FLOOR = 0.1  # added to the variance on each axis before whitening
UPDATES = 30  # of the centroids
BLOCK_ROWS = 2**14  # patches whitened at once
BLOCK_ELEMENTS = 2**22  # distances at once: 16 MiB


@dataclass(frozen=True)
class PatchEncoder:
    """From images to features: the whitening of patches and their centroids."""

    mean: Tensor  # (108,), of patches of even contrast
    whitening: Tensor  # (108, 108)
    centroids: Tensor  # (k, 108), of whitened patches

    def encode(self, images: Tensor) -> Tensor:
        """Features (n, 4 k) of images (n, 3, side, side) uint8: activations of all patches, summed over each quarter.

        Where the positions of patches do not halve, the upper and left parts have one more.
        """
        positions, k = images.shape[-1] - SIDE + 1, len(self.centroids)
        encoded = self.centroids.new_empty(len(images), 4 * k)
        rows = max(1, BLOCK_ELEMENTS // (positions**2 * k))
        parts = (slice(None, math.ceil(positions / 2)), slice(math.ceil(positions / 2), None))
        for start in range(0, len(images), rows):
            block = images[start : start + rows].to(self.mean)
            patches = F.unfold(block, SIDE).transpose(1, 2).flatten(0, 1)  # (images x positions, 108)
            active = triangle(self.whiten(even_contrast(patches)), self.centroids)
            maps = active.view(len(block), positions, positions, k)
            quarters = [maps[:, y, x].sum(dim=(1, 2)) for y in parts for x in parts]
            encoded[start : start + len(block)] = torch.cat(quarters, dim=1)
        return encoded

    def whiten(self, patches: Tensor) -> Tensor:
        """(n, 108) to (n, 108)."""
        return (patches - self.mean) @ self.whitening


def fit_patch_encoder(images: Tensor, k: int, n_patches: int, generator: torch.Generator) -> PatchEncoder:
    """Learn ``k`` centroids from ``n_patches`` patches drawn from images (n, 3, side, side) uint8, side >= 7.

    Args:
        generator: On the CPU; draws the patches and the first centroids.

    Raises:
        ValueError: the images are too small to be quartered.
    """
    if images.shape[-1] <= SIDE:
        raise ValueError(f"patches of {SIDE} pixels need images of {SIDE + 1} or more; got {images.shape[-1]}")
    patches = even_contrast(draw_patches(images, n_patches, generator).float())
    mean, whitening = fit_zca(patches)
    encoder = PatchEncoder(mean, whitening, patches)
    for block in patches.split(BLOCK_ROWS):
        block.copy_(encoder.whiten(block))  # in place: they are ours, and many
    found = kmeans(patches, k, generator=generator, n_iter=UPDATES)
    return PatchEncoder(mean, whitening, found.centroids)


def draw_patches(images: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Patches (count, 108) uint8 from any place of any image, with replacement; channels first, then rows."""
    places = images.shape[-1] - SIDE + 1
    image = torch.randint(len(images), (count, 1, 1, 1), generator=generator)
    y, x = (torch.randint(places, (count, 1, 1, 1), generator=generator) for _ in range(2))
    steps = torch.arange(SIDE)
    channels = torch.arange(images.shape[1]).view(1, -1, 1, 1)
    return images[image, channels, y + steps.view(-1, 1), x + steps].flatten(1)


def even_contrast(patches: Tensor) -> Tensor:
    """Rows (n, d) of values from 0 to 255 with mean 0 and, unless they are flat, variance near 1."""
    variance, mean = torch.var_mean(patches, dim=1, keepdim=True)
    return (patches - mean) / (variance + CONTRAST).sqrt()


def fit_zca(rows: Tensor, floor: float = FLOOR) -> tuple[Tensor, Tensor]:
    """Mean (d,) and the symmetric matrix (d, d) that gives rows (n, d) the identity as covariance.

    ``floor`` is added to the variance on each axis: axes of less come out with little, instead of with noise.
    """
    mean, covariance, _ = mean_and_covariance(rows.split(BLOCK_ROWS))
    values, axes = principal_axes(covariance)
    whitening = (axes * (values.clamp(min=0) + floor).rsqrt()) @ axes.T
    return mean.to(rows), whitening.to(rows)


def triangle(points: Tensor, centroids: Tensor) -> Tensor:
    """How much nearer than the average centroid each one is, (n, k): zero for those farther than the average."""
    distances = torch.cdist(points, centroids)
    return (distances.mean(dim=1, keepdim=True) - distances).clamp_(min=0)
