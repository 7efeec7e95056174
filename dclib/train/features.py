"""Features of whole image sets: one pass, evaluation mode, no augmentation."""

from __future__ import annotations

import torch
from torch import Tensor

from dclib.config import DataConfig
from dclib.data.images import ImageSet
from dclib.data.pixels import Pixels, load_pixels
from dclib.models.vgg import Trunk

FEATURE_BATCH = 256  # images per forward pass; no effect on the result
PAPER_RESIZE = 256 / 224  # short side before the centre crop, in units of the input


@torch.no_grad()
def extract_features(trunk: Trunk, images: ImageSet | Pixels, *, batch_size: int = FEATURE_BATCH) -> Tensor:
    """The trunk's output for every image: what is clustered, before any non-linearity.

    Args:
        trunk: Put in evaluation mode for the pass (no dropout, batch norm's running statistics), then put back.
        images: A set, resized and centre-cropped as in the paper, or pixels that are ready. Unreadable images are
            left out of a set: call ``load_pixels`` first to know which.

    Returns:
        (n, feature_dim) float32 on the CPU, in the order of the images.
    """
    if isinstance(images, ImageSet):
        size = trunk.config.image_size
        images = load_pixels(images, DataConfig(resize=round(size * PAPER_RESIZE)), size, scan=True)
    parameter = next(trunk.parameters())
    was_training = trunk.training
    trunk.eval()
    features = torch.empty(len(images), trunk.config.feature_dim)
    start = 0
    try:
        for batch in images.centre_batches(batch_size):
            batch = batch.to(parameter.device, memory_format=torch.channels_last)
            features[start : start + len(batch)] = trunk(batch).float().cpu()
            start += len(batch)
    finally:
        trunk.train(was_training)
    return features
