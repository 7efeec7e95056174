"""A random crop straight from a photograph's bytes, decoding no more of it than the crop can show."""

from __future__ import annotations

import torch
from torch import Tensor

from dclib.data.decoding import SIDEWAYS, open_encoded, to_rgb, turn_of
from dclib.data.transforms import Area, Crop, crop_image, crop_quickly, draw_crop

REDUCTIONS = (8, 4, 2)  # at which JPEG decodes 1/64, 1/16 and 1/4 of the pixels


def crop_photo(
    content: bytes, crop_area: Area, size: int, generator: torch.Generator, *, upright: bool = False
) -> Tensor:
    """A random resized crop of the image in a file's bytes, perhaps mirrored: (3, size, size) uint8.

    The box is drawn for the whole image, whatever it is decoded at: a JPEG at the smallest scale where the box still
    has ``size`` pixels a side. The crop is then that of the image decoded whole to a few grey levels, for JPEG's own
    averages of 2, 4 or 8 pixels do most of the shrinking. With ``upright`` the image is turned as its camera says;
    where it is decoded at a scale that does not divide its sides, the box may then be off by part of a decoded pixel.

    Raises:
        Exception: what Pillow raises of bytes that are no image.
    """
    image = open_encoded(content, upright=upright)
    turn = turn_of(image) if upright else None
    height, width = image.size if turn in SIDEWAYS else (image.height, image.width)
    crop = draw_crop(height, width, crop_area, generator)
    scale = reduction(crop, size) if image.format == "JPEG" or upright and image.format == "MPO" else 1
    if scale > 1:
        image.draft("RGB", (image.width // scale, image.height // scale))
        small = to_rgb(image)
        return crop_image(small if turn is None else small.transpose(turn), crop, size, scale)
    whole = image if image.mode == "RGB" else to_rgb(image)  # a conversion to what it is would be a copy
    return crop_quickly(whole if turn is None else whole.transpose(turn), crop, size)


def reduction(crop: Crop, size: int) -> int:
    """How many times smaller an image may be decoded for its crop to keep ``size`` pixels a side: 1, 2, 4 or 8."""
    shorter = min(crop.height, crop.width)
    return next((scale for scale in REDUCTIONS if shorter >= scale * size), 1)
